"""The claims of cttest(1): who attacks, what they do, and what finds it.

The tables in the page are made from this list: `python3 -B -m tests.support.claims`.  A test that
makes the attack has the mark `claim` with its name, and is in tests/faults or tests/package.
"""

from __future__ import annotations

import enum
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "man" / "cttest.1"
# Of a line of a page's source.
_COLUMNS = 78
FOLDERS = ("tests/faults", "tests/package")


class Verdict(enum.Enum):
    """What a check says of an attack; its exit code is `code`."""

    FOUND = "found"
    UNPROVED = "unproved"
    NEVER = "never"

    @property
    def code(self) -> int:
        return {Verdict.FOUND: 1, Verdict.UNPROVED: 2, Verdict.NEVER: 0}[self]


FOUND, UNPROVED, NEVER = Verdict.FOUND, Verdict.UNPROVED, Verdict.NEVER


class Who(enum.Enum):
    """An attacker: the heading of their table, and what they can do."""

    READER = (
        "A member of the group",
        "Who is in the group ctrecorder may read the segments, and nothing more.",
    )
    STRANGER = (
        "A file of a stranger",
        "The file can claim anything, and all its checksums can be right.",
    )
    WRITER = (
        "Who can write to the folder",
        "They have no key, for example on a file server that keeps a copy. They can make any file "
        "with right checksums.",
    )
    RECORDER = (
        "The user of the recorder",
        "They can write to the folder, use the present key, and log anything from outside the "
        "units. Anchors are from the journal.",
    )
    ROOT = (
        "Root, from now on",
        "Root can do all of this and change the log of this machine. Anchors that were sent to "
        "another machine are out of reach.",
    )
    NOBODY = (
        "Accidents",
        "Disks, power and clocks fail.",
    )


@dataclass(frozen=True)
class Claim:
    """One row.

    `name`: of the attack.  `what`: they do; the next sentence says what else is to be known.
    `plain`, `anchors`, `seals`: what cttest finds without options, and with one of them.  If there
    is nothing to be found because of the `effect`, they are None.
    """

    name: str
    who: Who
    what: str
    plain: Verdict | None = None
    anchors: Verdict | None = None
    seals: Verdict | None = None
    effect: str = "no effect"

    def verdict(self, level: str) -> Verdict:
        """With the options of a level: "plain", "anchors", "seals" or "both".  Without an effect
        there is nothing to be found.
        """
        if self.plain is None:
            return NEVER
        found: list[Verdict | None] = [getattr(self, each) for each in _OPTIONS[level]]
        return next(one for one in (FOUND, UNPROVED, NEVER) if one in found)


_OPTIONS = {
    "plain": ["plain"],
    "anchors": ["plain", "anchors"],
    "seals": ["plain", "seals"],
    "both": ["plain", "anchors", "seals"],
}
LEVELS = tuple(_OPTIONS)

CLAIMS = (
    Claim("locks", Who.READER, "lock every file that they may open. No command waits for it"),
    Claim("secrets", Who.READER, "open the key or the lock file, or write to the folder"),
    Claim(
        "bomb",
        Who.STRANGER,
        "claim 1 GiB of rows in 15 KB, or millions of open connections. Each command takes at most "
        "300 MiB",
    ),
    Claim(
        "bad-blocks",
        Who.STRANGER,
        "have many false blocks between good ones. The search for whole blocks takes linear time",
    ),
    Claim("terminal", Who.STRANGER, "have names that control the terminal. They are escaped"),
    Claim(
        "foreign",
        Who.STRANGER,
        "be a segment of another recorder with the same template, in its place or slipped in",
        FOUND,
        FOUND,
        FOUND,
    ),
    Claim(
        "removed",
        Who.WRITER,
        "remove a segment that others follow",
        FOUND,
        FOUND,
        FOUND,
    ),
    Claim("removed-last", Who.WRITER, "remove the last segment", NEVER, FOUND, FOUND),
    Claim(
        "cut",
        Who.WRITER,
        "cut a squeezed segment at the end of a block",
        FOUND,
        FOUND,
        FOUND,
    ),
    Claim(
        "cut-last",
        Who.WRITER,
        "cut the last segment, as a crash would leave it",
        NEVER,
        FOUND,
        FOUND,
    ),
    Claim(
        "cut-crashed",
        Who.WRITER,
        "cut what a crash left, or record it anew, behind its last seal, and no other segment "
        "follows for half an hour. A note says that its end is not proved",
        NEVER,
        NEVER,
        UNPROVED,
    ),
    Claim(
        "crashed-anew",
        Who.WRITER,
        "do that on the recording machine before the recorder starts again, which then goes on "
        "behind it. This is at most the last epoch before the crash",
        NEVER,
        NEVER,
        NEVER,
    ),
    Claim(
        "changed-last",
        Who.WRITER,
        "record the last segment anew, with other rows",
        NEVER,
        FOUND,
        FOUND,
    ),
    Claim(
        "before-squeeze",
        Who.WRITER,
        "do that on the recording machine before ctsqueeze seals it. It refuses, exit code 2",
        NEVER,
        FOUND,
        FOUND,
    ),
    Claim(
        "repaired",
        Who.WRITER,
        "add a block to a segment on the recording machine, and damage it, so that it is repaired: "
        "after that. The repair says what was damaged, and leaves a gap",
        NEVER,
        NEVER,
        UNPROVED,
    ),
    Claim(
        "replaced",
        Who.WRITER,
        "replace a segment by one that says to replace it, as a squeezed one does",
        NEVER,
        FOUND,
        FOUND,
    ),
    Claim(
        "slipped-in",
        Who.WRITER,
        "slip in a file with the header of a C file. It is listed as imported, and answers that "
        "rest on it say so",
        NEVER,
        UNPROVED,
        UNPROVED,
    ),
    Claim(
        "inserted",
        Who.WRITER,
        "slip in a segment with a template and a chain of its own",
        NEVER,
        FOUND,
        UNPROVED,
    ),
    Claim(
        "key-named",
        Who.WRITER,
        "do that, with the name of the key in its header, and do not close it. It is listed as "
        "imported",
        NEVER,
        UNPROVED,
        FOUND,
    ),
    Claim(
        "made-anew",
        Who.WRITER,
        "make the whole folder anew",
        NEVER,
        FOUND,
        UNPROVED,
    ),
    Claim(
        "receipt",
        Who.WRITER,
        "remove a segment and write its receipt",
        NEVER,
        FOUND,
        FOUND,
    ),
    Claim(
        "text-log",
        Who.WRITER,
        "do that, and log with logger(1) that it was deleted, where anchors are lines of text. A "
        "note says what such lines prove",
        NEVER,
        NEVER,
        FOUND,
    ),
    Claim(
        "older",
        Who.WRITER,
        "replace a segment that is older than the first anchor",
        NEVER,
        UNPROVED,
        FOUND,
    ),
    Claim("hold", Who.WRITER, "change or remove a hold", NEVER, NEVER, FOUND),
    Claim("ledger", Who.WRITER, "remove the ledger", NEVER, NEVER, UNPROVED),
    Claim(
        "ledger-emptied",
        Who.WRITER,
        "empty the ledger, or put a pipe or any other file in its place",
        NEVER,
        NEVER,
        FOUND,
    ),
    Claim("ledger-line", Who.WRITER, "remove a line of the ledger", NEVER, NEVER, FOUND),
    Claim(
        "cut-back",
        Who.WRITER,
        "cut segments, holds and ledger back to an earlier stop of the recorder, or to a line "
        "behind it. The time until which all is sealed is printed",
        NEVER,
        FOUND,
        NEVER,
    ),
    Claim(
        "cut-end",
        Who.WRITER,
        "cut them back to another moment, which was half an hour ago or more",
        NEVER,
        FOUND,
        UNPROVED,
    ),
    Claim(
        "root-by-hand",
        Who.RECORDER,
        "become root while root runs a command by hand: exchange files for links meanwhile. No "
        "link is followed, and no other file changes its owner or mode",
    ),
    Claim(
        "links",
        Who.RECORDER,
        "put links where a command will write. None is followed",
    ),
    Claim(
        "swapped",
        Who.RECORDER,
        "replace a closed segment that is not squeezed yet by one that is, within one epoch. "
        "Such segments are named",
        NEVER,
        FOUND,
        NEVER,
    ),
    Claim(
        "swapped-late",
        Who.RECORDER,
        "do that more than an epoch after it was closed",
        NEVER,
        FOUND,
        UNPROVED,
    ),
    Claim(
        "key-replaced",
        Who.RECORDER,
        "replace a segment that was squeezed in time, and note that in the ledger",
        NEVER,
        FOUND,
        UNPROVED,
    ),
    Claim(
        "key-backdated",
        Who.RECORDER,
        "record a segment anew with seals of earlier epochs, whose keys are destroyed",
        FOUND,
        FOUND,
        FOUND,
    ),
    Claim(
        "last-epoch",
        Who.RECORDER,
        "record the present epoch anew, with its seals and lines. Anchors find it in a closed "
        "segment, and not in the open one",
        NEVER,
        FOUND,
        NEVER,
    ),
    Claim(
        "logged",
        Who.RECORDER,
        "replace a segment, and log that it was squeezed. In a log of text lines this is never "
        "found",
        NEVER,
        FOUND,
        FOUND,
    ),
    Claim(
        "within-unit",
        Who.RECORDER,
        "break into the running recorder, do the same to a segment that is not squeezed yet, with "
        "the key, and log it from there",
        NEVER,
        NEVER,
        NEVER,
    ),
    Claim(
        "expired",
        Who.RECORDER,
        "delete with ctexpire, by hand. The receipt shows it",
        NEVER,
        FOUND,
        NEVER,
    ),
    Claim("wiped", Who.ROOT, "delete all. Nothing prevents it", UNPROVED, FOUND, UNPROVED),
    Claim(
        "root-expired",
        Who.ROOT,
        "delete with ctexpire. The receipt shows it",
        NEVER,
        NEVER,
        NEVER,
    ),
    Claim(
        "root-logged",
        Who.ROOT,
        "replace a segment, and log here that it was squeezed",
        NEVER,
        NEVER,
        FOUND,
    ),
    Claim("no-journal", Who.ROOT, "empty the journal of this machine", NEVER, UNPROVED, NEVER),
    Claim(
        "snapshot",
        Who.ROOT,
        "go on with a key and a ledger from a backup, beside the segments of since",
        NEVER,
        NEVER,
        FOUND,
    ),
    Claim(
        "machine-restored",
        Who.ROOT,
        "put all back, key, ledger and segments, and go on. Who has the key of a backup can forge "
        "all since",
        NEVER,
        FOUND,
        NEVER,
    ),
    Claim(
        "lies",
        Who.ROOT,
        "make the recorder record what never was, from now on",
        NEVER,
        NEVER,
        NEVER,
    ),
    Claim("byte", Who.NOBODY, "a byte changes on the disk", FOUND, FOUND, FOUND),
    Claim(
        "power",
        Who.NOBODY,
        "power is cut (at most the last 10 s are lost: sync), or the recorder is killed (1 s)",
        effect="a gap",
    ),
    Claim("clock", Who.NOBODY, "the clock steps", effect="a gap"),
    Claim("full", Who.NOBODY, "the disk is full, or fails", effect="a gap"),
    Claim(
        "expired-by-root",
        Who.RECORDER,
        "break into a command that root runs by hand in the folder, delete with ctexpire, and have "
        "that logged as root",
        NEVER,
        NEVER,
        NEVER,
    ),
)

BY_NAME = {claim.name: claim for claim in CLAIMS}
BEGIN = '.\\" The tables are made by tests/support/claims.py.'
END = '.\\" End of the tables.'


def table(who: Who) -> str:
    """The heading and the table of an attacker, for the page."""
    heading, means = who.value
    lines = [f".Ss {heading}", *_sentences(means), ".Pp", ".TS", "nokeep;", "lw(35n) l l l."]
    lines += ["\tcttest\t\\-\\-anchors\t\\-\\-seals", "_"]
    for claim in CLAIMS:
        if claim.who is not who:
            continue
        cells = [one.value if one else "" for one in (claim.plain, claim.anchors, claim.seals)]
        cells = cells if claim.plain else [claim.effect, "", ""]
        lines += ["T{", f"\\fB{claim.name.replace('-', chr(92) + '-')}\\fP:"]
        lines += [*_sentences(f"{claim.what}."), "\t".join(["T}", *cells]).rstrip("\t")]
    return "\n".join([*lines, ".TE"])


def _sentences(text: str) -> list[str]:
    sentences = re.split(r"(?<=[.:]) (?=[A-Z])", text)
    return [line for one in sentences for line in textwrap.wrap(one, _COLUMNS)]


def tables() -> str:
    """All tables, between their marks."""
    return "\n".join([BEGIN, *map(table, Who), END]) + "\n"


def page_with(text: str) -> str:
    """The page with the tables of this list."""
    head, _, rest = text.partition(BEGIN)
    return head + tables() + rest.partition(f"{END}\n")[2]


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text()))
