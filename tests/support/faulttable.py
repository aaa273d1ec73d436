"""The table that is printed after the fault tests: fault, times tried, events sent, found, lost,
holes reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.traffic import Account


@dataclass
class Row:
    """A line of the table."""

    fault: str
    tried: int = 1
    sent: int = 0
    found: int = 0
    lost: int = 0
    holes: int = 0


@dataclass
class Table:
    """What the fault tests found."""

    rows: list[Row] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def add(self, fault: str, account: Account, tried: int = 1) -> None:
        """A fault, and the account of its traffic."""
        holes = len([gap for gap in account.gaps if gap.lost != 0])
        self.rows.append(
            Row(fault, tried, account.sent, len(account.found), len(account.missing), holes)
        )

    def add_row(self, fault: str, **counts: int) -> None:
        """A fault without traffic of its own."""
        self.rows.append(Row(fault, **counts))

    def note(self, line: str) -> None:
        """A figure to be printed under the table."""
        self.lines.append(line)

    def text(self) -> list[str]:
        """The table, a line each."""
        head = f"{'fault':58} {'tried':>9} {'sent':>9} {'found':>9} {'lost':>8} {'holes':>6}"
        rows = [
            f"{row.fault:58} {row.tried:9,} {row.sent:9,} {row.found:9,} {row.lost:8,} "
            f"{row.holes:6,}"
            for row in self.rows
        ]
        return [head, *rows, *self.lines]
