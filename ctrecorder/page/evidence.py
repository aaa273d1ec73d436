"""The evidence of an answer as it is in the archive: segments, receipts and ledgers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from ctrecorder.archive import chain, find
from ctrecorder.archive.open import open_placed
from ctrecorder.check.collect import check_segment
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError, why
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.page import twin
from ctrecorder.page.shape import Json
from ctrecorder.page.verify import Finding, State
from ctrecorder.render.coverage import rfc3339
from ctrecorder.sealing import locate
from ctrecorder.sealing.ledgerfile import read_ledger
from ctrecorder.terminal import count, printable


def with_checks(whole: Json, archive: Sequence[str], key: bytes) -> Json:
    """A copy of a twin in which each segment has what cttest(1) finds in it, as `cttest`.

    `key`: of segments with a static key; b"" if it is not known.
    """
    paths = _paths(archive)
    found: dict[tuple[Any, ...], str] = {}

    def checked(segment: Json) -> Json:
        name = _name(segment)
        if name not in found:
            found[name] = _found_by_cttest(segment, paths, key)
        return {**segment, "cttest": found[name]}

    def each(one: Json) -> Json:
        evidence = one.get("evidence", {})
        if "segments" not in evidence:
            return one
        segments = [checked(segment) for segment in evidence["segments"]]
        return {**one, "evidence": {**evidence, "segments": segments}}

    if "questions" in whole:
        return {**whole, "questions": [each(one) for one in whole["questions"]]}
    return each(whole)


def _name(segment: Json) -> tuple[Any, ...]:
    """What names a segment; that of a file of the C ctrecorder is its file's name alone."""
    return segment["file"], segment.get("chain") or "", segment.get("sequence", 0)


def _paths(archive: Sequence[str]) -> dict[str, list[str]]:
    """The paths of the segments of an archive by the names of their files."""
    paths: dict[str, list[str]] = {}
    for path in find.find(list(archive)).segments:
        paths.setdefault(os.path.basename(path), []).append(path)
    return paths


def _found_by_cttest(segment: Json, paths: dict[str, list[str]], key: bytes) -> str:
    for path in paths.get(segment["file"], []):
        try:
            one = check_segment(path, key)
        except CtrecorderError as error:
            return f"could not be checked: {printable(str(error))}"
        if (one.link.chain, one.link.sequence) == _name(segment)[1:]:
            if one.findings:
                return f"damaged: {count(len(one.findings), 'finding')}"
            return "whole" if key or not one.sealed else "its key is not here: not checked"
    return "not found"


def compare_segments(answers: Json, archive: Sequence[str]) -> list[Finding]:
    """Whether the segments that a page names are in the archive: as they were, or squeezed since.

    `answers`: what is known of a twin.  Raises ArchiveError.
    """
    segments = {
        (*_name(segment), segment.get("hash", "")): segment
        for one in answers["questions"]
        for segment in one.get("evidence", {}).get("segments", [])
    }
    paths, deleted = _paths(archive), _deleted(archive)
    found = [(segment, _compared(segment, paths, deleted)) for segment in segments.values()]
    kept = sum(said == "" for _, said in found)
    lines = [
        Finding(State.UNKNOWN, printable(f"the segment {segment['file']} {said}"))
        for segment, said in found
        if said
    ]
    if kept:
        said = f"in the archive, as then or squeezed since: {count(kept, 'segment')} that it names"
        lines.append(Finding(State.SAME, said))
    return lines


def _compared(segment: Json, paths: dict[str, list[str]], deleted: set[str]) -> str:
    """What is wrong with a segment; "" if it is there."""
    given = segment.get("hash", "")
    links = []
    for path in paths.get(segment["file"], []):
        try:
            with open_placed(path) as recording:
                links.append(chain.link(recording))
        except CtrecorderError as error:
            return f"cannot be read: {error}"
    if any(given in link.hashes for link in links):
        return ""
    if given in deleted:
        return "was deleted, and left a receipt: it is no longer checkable"
    if any((link.chain, link.sequence) == _name(segment)[1:] for link in links):
        return "has another last hash: it was still written then, or was changed"
    return "is not in the archive: it is no longer checkable"


def _deleted(archive: Sequence[str]) -> set[str]:
    """The last hashes of the segments that were deleted, by their receipts."""
    found: set[str] = set()
    for path in _folders(archive):
        with Folder(path) as folder:
            found |= {each for one, _ in retention.receipt_lines(folder) for each in one.hashes}
    return found


def _folders(archive: Sequence[str]) -> list[str]:
    """The folders of an archive, and those of its files."""
    return sorted({path if os.path.isdir(path) else os.path.dirname(path) for path in archive})


def ledgers(whole: Json, archive: Sequence[str]) -> Json:
    """{"ledgers": [..]}: for each one its key, its last line, and the lines about the segments.

    A line of a ledger is about an epoch or a segment, never about a connection.  `archive`: the
    segments and folders that were asked.  Raises TwinError, ArchiveError.
    """
    names = {
        segment["file"]
        for one in twin.known(whole)["questions"]
        for segment in one.get("evidence", {}).get("segments", [])
    }
    return {"ledgers": [_ledger(path, names) for path in _ledgers(_folders(archive))]}


def _ledgers(folders: Iterable[str]) -> list[str]:
    found: list[str] = []
    for folder in folders:
        try:
            found += sorted(locate.ledgers(folder).values())
        except OSError as error:
            raise ArchiveError(f"{folder}: {why(error)}") from error
    return found


def _ledger(path: str, names: set[str]) -> Json:
    made: Json = {"file": os.path.basename(path), "lines": 0, "damaged": 0, "about": []}
    for number, line in read_ledger(path):
        made["lines"] = number
        if isinstance(line, FormatError):
            made["damaged"] += 1
            continue
        noted = {
            "line": number,
            "what": line.what,
            "epoch": line.epoch,
            "time": rfc3339(line.time),
            "hash": line.hash,
        }
        made["last"] = noted
        if line.named("segment") in names:
            named = {name: line.named(name) for name in ("segment", "last_hash")}
            made["about"].append(noted | {name: text for name, text in named.items() if text})
    return made
