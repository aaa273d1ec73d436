"""What cttest does: check every segment, then all of them together, and print what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from ctrecorder.archive import find
from ctrecorder.check import chains, report
from ctrecorder.check.collect import check_segment
from ctrecorder.check.report import ChainReport, SegmentReport
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.findings import Finding, FindingKind
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.kept.retention import Receipt
from ctrecorder.sealing import imported
from ctrecorder.sealing.examine import SealCheck

# Prints a line.
Print = Callable[[str], None]
# A comparison of all segments with another source.
Compare = Callable[[list[SegmentReport]], ChainReport]

STATIC = "one static key: whoever has it can make all anew"
# Receipts of a folder that are kept, 0.7 kB each: the last ones are those that segments follow on.
_MAX_RECEIPTS = 1 << 17
# Exit codes.
WHOLE, DAMAGED, UNCHECKED = 0, 1, 2


def check(
    paths: Sequence[str],
    print_line: Print,
    *,
    quiet: bool = False,
    key: bytes = b"",
    keyless: str = "",
    seals: SealCheck | None = None,
    compare: Compare | None = None,
    counted: Callable[[int], None] | None = None,
) -> int:
    """Check the segments among `paths` (files, or folders of them) and print the findings, one line
    each; returns the exit code.

    WHOLE; DAMAGED if there is a finding; otherwise UNCHECKED if a file could not be checked.

    `quiet`: print only findings, and what could not be checked.
    `key`: of sealed segments, which cannot be checked without it.
    `keyless`: why the key is not available; then it is not known either whether unsealed segments
    should be sealed.
    `seals`: the check of seals with a verification key.
    `compare`: a further comparison, as with anchors.
    `counted`: is told the number of findings.
    """
    found = find.find(list(paths))
    unchecked = [why for _, why in found.unreadable]
    unchecked += [f"{path}: not a segment of ctrecorder" for path in found.foreign if path in paths]
    reports = []
    for path in found.segments:
        try:
            one = check_segment(path, key)
        except CtrecorderError as error:
            unchecked.append(str(error))
            continue
        reports.append(one)
        if one.sealed and not key:
            what = "is sealed: without its key (--key) only its structure could be checked"
            unchecked.append(f"{path}: {what}")
        for finding in one.findings:
            print_line(str(finding))
        if not quiet:
            for line in (*one.notes, one.summary()):
                print_line(line)
    strangers = _unchecked_seals(reports) if seals is None else _check_seals(reports, seals)
    together = _check_together(reports, _receipts(paths, unchecked), key, compare)
    together.add(strangers)
    unproved = [keyless, *together.unproved] if keyless else together.unproved
    for line in (*map(str, together.findings), *unchecked, *unproved):
        print_line(line)
    if not quiet:
        passed_over = report.passed_over([path for path in found.foreign if path not in paths])
        total = report.total(reports, together, len(unchecked))
        for line in (*together.notes, *passed_over, total):
            print_line(line)
    findings = len(together.findings) + sum(len(one.findings) for one in reports)
    if counted is not None:
        counted(findings)
    if findings:
        return DAMAGED
    return UNCHECKED if unchecked or unproved or not reports else WHOLE


def _unchecked_seals(reports: list[SegmentReport]) -> ChainReport:
    """What is to be said of seals without a verification key."""
    found = ChainReport()
    if any(one.seals is not None for one in reports):
        found.notes.append("the seals were not checked: that needs --seals")
    if any(one.sealed for one in reports):
        found.notes.append(f"the checksums are keyed: {STATIC}")
    imports = imported.Imports()
    strangers = [
        one.path
        for one in reports
        if imports.has(one.path, is_chained=one.is_chained, claimed=_claimed(one))
    ]
    found.notes += imported.lines_of(strangers, "without a seal")
    return found


def _claimed(one: SegmentReport) -> imported.Claimed:
    """What a segment says of its seals."""
    if one.seals is None:
        return imported.Claimed()
    seals = one.seals
    return imported.Claimed(
        seals.key, seals.begun, bool(seals.seals), seals.state == "closed", seals.last_hash
    )


def _check_seals(reports: list[SegmentReport], seals: SealCheck) -> ChainReport:
    """Check the seals.  A segment that replaces others stands for them only if its seal is right:
    the links of the other ones are cut.
    """
    believed = seals.run({one.path: one.seals for one in reports})
    members: list[SegmentReport] = []
    others: list[SegmentReport] = []
    for one in reports:
        is_member = one.seals is not None and one.seals.key == seals.keys.id
        (members if is_member else others).append(one)
    first: dict[str, int] = {}
    for one in members:
        name, number = one.link.chain, one.link.sequence
        first[name] = min(first.get(name, number), number)
    found = ChainReport()
    for one in members:
        if one.path not in believed:
            one.link = one.link.alone()
    for one in others:
        is_behind = one.link.chain in first and one.link.sequence >= first[one.link.chain]
        if is_behind and one.seals is None:
            one.link = one.link.alone()
            what = "is not sealed, although segments before it are"
            found.findings.append(Finding(one.path, FindingKind.SEAL, what))
    found.findings += seals.found.findings
    found.notes += seals.found.notes
    found.unproved += seals.found.unproved
    others_named = [one.path + _how_else(one) for one in others]
    found.unproved += imported.lines_of(others_named, "that this key did not seal")
    return found


def _how_else(one: SegmentReport) -> str:
    """How a segment is sealed that the key did not seal."""
    if one.seals is not None:
        return f" (sealed with another key, {one.seals.key})"
    return f" ({STATIC})" if one.sealed else ""


def _check_together(
    reports: list[SegmentReport], receipts: list[Receipt], key: bytes, compare: Compare | None
) -> ChainReport:
    """Check what no segment shows by itself."""
    together = chains.check_chains(reports, receipts)
    if key:
        together.findings += chains.check_sealed(reports)
    if compare is not None:
        together.add(compare(reports))
    return together


def _receipts(paths: Iterable[str], unchecked: list[str]) -> list[Receipt]:
    """The receipts in the folders among `paths`; errors are appended to `unchecked`."""
    found: list[Receipt] = []
    for folder in filter(os.path.isdir, paths):
        try:
            with Folder(folder) as opened:
                found += retention.receipts(opened, _MAX_RECEIPTS)
        except ArchiveError as error:
            unchecked.append(str(error))
    return found
