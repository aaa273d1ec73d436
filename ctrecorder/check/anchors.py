"""Anchors: the last hashes that were logged when segments were opened, closed, squeezed, repaired
and deleted, compared with a folder.

An attacker who can write to the folder can forge a whole recording with correct hashes.  The log of
ctrecord is out of reach, or on another machine.  So each logged hash must still be in the folder,
or the deletion of its segment must have been logged too.  What no entry is about is not proved, and
is named.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

from ctrecorder.archive import chain
from ctrecorder.check.report import ChainReport, SegmentReport
from ctrecorder.check.verify import Compare
from ctrecorder.findings import Finding, FindingKind
from ctrecorder.terminal import count, printable
from ctrecorder.witness import logged as log
from ctrecorder.witness.logged import JOURNAL, Anchor, Logged

# A line names this many segments, or senders of entries.
_NAMED = 5
_LIVE = ("live", "unclosed")
# What is said of segments that no entry is about, or a late one.
_UNPROVED = {
    "old": "{segments} older than the first anchor {are} unproved",
    "end": "{segments} whose end was not logged {are} unproved",
    "imported": "{segments} that ctrecord did not record {are} unproved",
    "later": "{segments} {are} proved only from the time of squeezing or repair on",
}
_NOTES = {
    "opened": "{segments} that a crash left {are} proved only from the opening of the next on",
    "live": "{segments} whose end was not logged yet {are} not proved",
}


def against(source: str, paths: Iterable[str]) -> Compare:
    """A comparison of segments of `paths` with the anchors in `source`, for `verify.check`.

    The comparison raises ArchiveError if `source` cannot be read.
    """

    def compare_with(reports: list[SegmentReport]) -> ChainReport:
        found = log.load(source)
        if found.is_full:
            what = f"{printable(source)} has more than {log.MAX_ANCHORS:,} anchors"
            why = "give the part of it that is about these segments"
            return ChainReport(unproved=[f"{what}, so that nothing was compared: {why}"])
        report = compare(reports, found.anchors, [path for path in paths if os.path.isdir(path)])
        report.notes += _about(found)
        if not found.anchors and source == JOURNAL and os.geteuid():
            report.unproved.append(
                "the journal shows the recorder's entries only to root "
                "and to members of systemd-journal or adm"
            )
        return report

    return compare_with


def _about(found: Logged) -> list[str]:
    """What is to be said of the log itself."""
    notes = []
    if found.texts:
        notes.append(
            f"{count(found.texts, 'anchor')} from lines of text, which name no sender: they prove "
            "what the keeper of that log proves, and any user of its machine could log them "
            "(logger)"
        )
    if found.ignored:
        first = log.senders(found.ignored.most_common(_NAMED))
        more = ", ..." if len(found.ignored) > _NAMED else ""
        notes.append(
            "not counted, because neither root nor a unit of ctrecorder logged them: "
            f"{found.ignored.total():,} log entries about segments ({first}{more})"
        )
    return notes


def compare(
    segments: Iterable[SegmentReport], anchors: Iterable[Anchor], folders: Collection[str]
) -> ChainReport:
    """The differences between `segments` and what was logged.

    `unproved`, if none of the logged hashes belongs to these segments, and for what no anchor is
    about.

    `folders`: folders that are checked as a whole, so that every logged segment must be there.
    Only anchors of these folders count, by the path that was logged: no path is resolved now, when
    a link may lead elsewhere.  If the recorder logged none for them, the segments may be a copy:
    then those of the folders count, too, in which the recorder logged these segments.
    """
    segments, anchors = list(segments), list(anchors)
    report = _Comparison(segments, anchors, folders).run()
    if not any(anchor.stored for anchor in anchors):
        return report
    # The owner of the folder could have written what was kept in it: that can raise a doubt, and
    # not remove one.
    sure = [anchor for anchor in anchors if not anchor.stored]
    strict = _Comparison(segments, sure, folders).run()
    kept = "only entries that were kept in ctrecorder.unsent, which its owner can write, explain it"
    doubts = [one for one in strict.findings if one not in report.findings]
    report.unproved = [*strict.unproved, *(f"{one}; {kept}" for one in doubts)]
    report.notes = strict.notes
    return report


class _Comparison:
    def __init__(
        self, segments: list[SegmentReport], anchors: list[Anchor], folders: Collection[str]
    ) -> None:
        self._report = ChainReport()
        self._segments = [one for one in segments if one.is_chained]
        self._strangers = [one for one in segments if not one.is_chained]
        named = {*folders, *(os.path.dirname(one.path) for one in segments)}
        self._anchors, self._whole = self._of_folders(anchors, named), bool(folders)
        self._by_hash = {known: one for one in self._segments for known in one.link.hashes}
        remade = [one for one in self._anchors if one.kind in ("squeezed", "repaired")]
        self._became = {anchor.before: anchor.hash for anchor in remade}
        self._was = {anchor.hash: anchor.before for anchor in remade}
        self._closed = {anchor.hash for anchor in self._anchors if anchor.kind == "closed"}
        self._opened = {anchor.before for anchor in self._anchors if anchor.kind == "opened"}
        self._recorded = self._closed | self._opened
        self._reported: set[str] = set()
        self._deleted = {anchor.hash for anchor in self._anchors if anchor.kind == "deleted"}
        self._ends = {*self._by_hash, *self._deleted}

    def _of_folders(self, anchors: list[Anchor], named: Collection[str]) -> list[Anchor]:
        """The anchors that count for the folders `named`."""
        checked = {path for one in named for path in (os.path.abspath(one), os.path.realpath(one))}
        logged = _by_folder(anchors)
        recorded = {
            folder
            for folder, found in logged.items()
            if any(one.kind in ("opened", "closed") for one in found)
        }
        if anchors and not checked & recorded:
            # Who works on a copy logs that too.
            sources = self._sources({folder: logged[folder] for folder in recorded})
            checked |= sources
            what = "the recorder has logged nothing for this folder"
            if sources:
                places = ", ".join(sorted(sources)[:_NAMED])
                what += f"; using the entries of {places} (is this a copy?)"
            self._report.notes.append(what)
        return [one for one in anchors if os.path.dirname(one.path) in checked]

    def _sources(self, recorded: Mapping[str, list[Anchor]]) -> set[str]:
        """The folders for which these segments were logged; all, if they were for none."""
        hashes = {known for one in self._segments for known in one.link.hashes}
        sources = {
            folder
            for folder, found in recorded.items()
            if any({one.hash, one.before} & hashes for one in found if one.kind != "deleted")
        }
        return sources or set(recorded)

    def run(self) -> ChainReport:
        """Compare all."""
        matched = [one for anchor in self._anchors if (one := self._check(anchor)) is not None]
        # Only the opening of a first segment was logged, and that names no hash.
        closed = any(one.state == "closed" for one in self._segments)
        if not self._anchors or (closed and not matched):
            self._report.unproved.append("none of the logged hashes belongs to these segments")
        else:
            self._check_proofs(matched)
        return self._report

    def _check(self, anchor: Anchor) -> SegmentReport | None:
        """The segment that `anchor` is about, if it is here; reports one that should be here."""
        logged = anchor.before if anchor.kind == "opened" else anchor.hash
        if anchor.kind == "deleted" or not logged:
            return None
        *_, wanted = chain.trace(logged, self._became, self._ends)
        present = self._by_hash.get(wanted)
        if present is None and wanted not in self._deleted:
            self._missing(anchor)
        return present

    def _missing(self, anchor: Anchor) -> None:
        """Report it once: a hash is logged when its segment is closed, and again when the next one
        is opened.
        """
        before_it = anchor.kind == "opened"
        last = anchor.before if before_it else anchor.hash
        if last in self._reported:
            return
        self._reported.add(last)
        namesake = next(
            (one for one in self._segments if one.name == anchor.name and not before_it), None
        )
        if namesake is not None:
            end = next(iter(namesake.link.hashes), "nothing")
            what = f"it ends with {end}, and was {anchor.kind} with {last}"
            self._find(namesake.path, f"is not what was logged: {what}")
        elif self._whole:
            which = f"the segment before {anchor.name}" if before_it else anchor.name
            what = f"was logged with last hash {last}, is not here, and its deletion was not logged"
            self._find(os.path.dirname(anchor.path) or ".", f"{which} {what}")

    def _check_proofs(self, matched: list[SegmentReport]) -> None:
        """Every segment after the first logged one must be in the log; name what is not proved."""
        proofs = {one.path: self._proof(one) for one in self._segments}
        first, is_named = _firsts(matched), {one.path for one in matched}
        # Where the recorder's own entries begin: squeezing and repair are logged later.
        begun = _firsts(one for one in self._segments if proofs[one.path] in ("closed", "opened"))
        last: dict[str, int] = {}
        for one in self._segments:
            last[one.link.chain] = max(last.get(one.link.chain, 0), one.link.sequence)
        opened = {anchor.name for anchor in self._anchors if anchor.kind == "opened"}
        groups: dict[str, list[SegmentReport]] = {}
        for one in self._segments:
            proof, name, number = proofs[one.path], one.link.chain, one.link.sequence
            is_late = name not in first or number > first[name]
            is_ended = one.state == "closed" or one.is_successor
            if proof == "closed" or not one.link.has_own:
                continue
            if proof == "later":
                unlogged = begun.get(name, number) < number < last[name]
            elif proof == "opened":
                unlogged = is_late and is_ended and not one.is_successor
            else:
                unlogged = is_ended and bool(matched) and (is_late or one.path in is_named)
            if unlogged:
                self._unlogged(one)
            else:
                # A copy of the open segment looks like one that a crash left.
                is_open = one.state in _LIVE or (number == last[name] and one.name in opened)
                what = "old" if is_ended else "live" if is_open else "end"
                groups.setdefault(proof or what, []).append(one)
        for one in self._strangers:
            groups.setdefault("later" if self._proof(one) else "imported", []).append(one)
        self._report.unproved += _lines(_UNPROVED, groups)
        self._report.notes += _lines(_NOTES, groups)

    def _proof(self, one: SegmentReport) -> str:
        """What the log has of the last hash of a segment, or of what it was made of.

        "closed", "opened" (that of the next one), "later" (squeezed or repaired, and nothing
        before), or "".
        """
        if not one.link.has_own:
            return ""
        origin = self._origin(own := one.link.hashes[0])
        if origin in self._closed:
            return "closed"
        if origin in self._opened:
            return "opened"
        return "later" if own in self._was else ""

    def _origin(self, last: str) -> str:
        """The first hash of what `last` was made of, as far as that was logged."""
        *_, origin = chain.trace(last, self._was, self._recorded)
        return origin

    def _unlogged(self, one: SegmentReport) -> None:
        own = one.link.hashes[0]
        what = f"was never logged with its last hash {own}"
        if (origin := self._origin(own)) != own:
            what = f"was never logged with the last hash {origin}, which it had before"
        elif own != one.link.hashes[-1]:
            what += " (it replaces another: was it repaired?)"
        self._find(one.path, what)

    def _find(self, subject: str, what: str) -> None:
        self._report.findings.append(Finding(subject, FindingKind.ANCHOR, what))


def _lines(texts: Mapping[str, str], groups: Mapping[str, list[SegmentReport]]) -> list[str]:
    """A line for each group of segments of which there is a text: their number, and their names."""
    lines = []
    for what, text in texts.items():
        if named := groups.get(what):
            are = "is" if len(named) == 1 else "are"
            said = text.format(segments=count(len(named), "segment"), are=are)
            more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
            lines.append(f"{said}: {', '.join(one.path for one in named[:_NAMED])}{more}")
    return lines


def _by_folder(anchors: Iterable[Anchor]) -> dict[str, list[Anchor]]:
    """Anchors by the folder that was logged."""
    groups: dict[str, list[Anchor]] = {}
    for one in anchors:
        groups.setdefault(os.path.dirname(one.path), []).append(one)
    return groups


def _firsts(segments: Iterable[SegmentReport]) -> dict[str, int]:
    """The lowest number of these segments in each chain."""
    first: dict[str, int] = {}
    for one in segments:
        name, number = one.link.chain, one.link.sequence
        first[name] = min(first.get(name, number), number)
    return first
