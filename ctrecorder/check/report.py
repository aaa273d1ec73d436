"""What a check found: data, and the lines that cttest prints of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from ctrecorder.archive.chain import Link
from ctrecorder.findings import Finding, FindingKind
from ctrecorder.seals.evidence import SealedSegment
from ctrecorder.terminal import count
from ctrecorder.times import dated

# Files of a folder that are not segments: the line names this many of them.
_NAMED_FILES = 5
# Kinds of findings that are not about one segment, as the last line names them.
_COUNTED = {FindingKind.CHAIN: "chain", FindingKind.SEAL: "seals", FindingKind.ANCHOR: "anchors"}


@dataclass
class SegmentReport:
    """What was found in one segment.

    `template`: the pattern of its name; "" if its header has none.
    `is_chained`: ctrecord recorded it, not the C ctrecorder.
    `is_successor`: it replaces another one.
    `sealed`: with a static key.  `seals`: of a segment that is sealed forward.
    `findings`: damage.
    `notes`: lines about it that report no damage.
    """

    path: str
    state: str
    link: Link
    template: str = ""
    is_chained: bool = True
    is_successor: bool = False
    sealed: bool = False
    seals: SealedSegment | None = None
    blocks: int = 0
    rows: int = 0
    gaps: int = 0
    times: tuple[int, int] = (0, 0)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return os.path.basename(self.path)

    def summary(self) -> str:
        """One line: whether it is whole, and its contents."""
        verdict = f"damaged, {count(len(self.findings), 'finding')}" if self.findings else "whole"
        since, until = (dated(time, utc=True) for time in self.times)
        contents = f"{count(self.blocks, 'block')}, {count(self.rows, 'row')}"
        contents += f", {count(self.gaps, 'gap')}" if self.gaps else ""
        return f"{self.path}: {verdict}, {self.state}: {contents}, {since} to {until}"


@dataclass
class ChainReport:
    """What was found in all segments together: about their chain, or about anchors.

    `unproved`: what could not be checked, one line each.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)

    def add(self, other: ChainReport) -> None:
        """Append all of `other`."""
        self.findings += other.findings
        self.notes += other.notes
        self.unproved += other.unproved


def passed_over(paths: Sequence[str]) -> list[str]:
    """The line about files in a folder that are not segments; [] if there are none."""
    if not paths:
        return []
    more = f" and {len(paths) - _NAMED_FILES:,} more" if len(paths) > _NAMED_FILES else ""
    return [f"skipped, not segments: {', '.join(paths[:_NAMED_FILES])}{more}"]


def total(reports: Sequence[SegmentReport], together: ChainReport, unchecked: int) -> str:
    """The last line: each segment counted once, and findings that are not about one segment."""
    damaged = sum(bool(one.findings) for one in reports)
    whole = len(reports) - damaged
    words = [f"{count(len(reports), 'segment')} checked: {whole:,} whole, {damaged:,} damaged"]
    for kind, name in _COUNTED.items():
        if found := sum(finding.kind is kind for finding in together.findings):
            words.append(f"{name}: {count(found, 'finding')}")
    words += [f"{count(unchecked, 'file')} could not be checked"] if unchecked else []
    return "; ".join(words)
