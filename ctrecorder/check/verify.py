"""What cttest does: check every segment, then all of them together, and print what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from ctrecorder.archive import find, retention
from ctrecorder.archive.retention import Receipt
from ctrecorder.check import chains, report
from ctrecorder.check.collect import check_segment
from ctrecorder.check.report import ChainReport, SegmentReport
from ctrecorder.errors import ArchiveError, CtrecorderError
from ctrecorder.folder import Folder

# Prints a line.
Print = Callable[[str], None]
# A comparison of all segments with another source.
Compare = Callable[[list[SegmentReport]], ChainReport]

# Exit codes.
WHOLE, DAMAGED, UNCHECKED = 0, 1, 2


def check(
    paths: Sequence[str],
    print_line: Print,
    *,
    quiet: bool = False,
    key: bytes = b"",
    keyless: str = "",
    compare: Compare | None = None,
) -> int:
    """Check the segments among `paths` (files, or folders of them) and print the findings, one line
    each; returns the exit code.

    WHOLE; DAMAGED if there is a finding; otherwise UNCHECKED if a file could not be checked.

    `quiet`: print only findings, and what could not be checked.
    `key`: of sealed segments, which cannot be checked without it.
    `keyless`: why the key is not available; then it is not known either whether unsealed segments
    should be sealed.
    `compare`: a further comparison, as with anchors.
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
    together = _check_together(reports, _receipts(paths, unchecked), key, compare)
    unproved = [keyless, *together.unproved] if keyless else together.unproved
    for line in (*map(str, together.findings), *unchecked, *unproved):
        print_line(line)
    if not quiet:
        passed_over = report.passed_over([path for path in found.foreign if path not in paths])
        total = report.total(reports, together, len(unchecked))
        for line in (*together.notes, *passed_over, total):
            print_line(line)
    if together.findings or any(one.findings for one in reports):
        return DAMAGED
    return UNCHECKED if unchecked or unproved or not reports else WHOLE


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
    found = []
    for folder in filter(os.path.isdir, paths):
        try:
            with Folder(folder) as opened:
                found += retention.receipts(opened)
        except ArchiveError as error:
            unchecked.append(str(error))
    return found
