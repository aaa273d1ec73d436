"""How much a letter may be.  A letter is hostile: past a limit it is refused in one line.

The limits are far above what honest senders need: the largest public sample has 11 kB, and a daily
report of Shadowserver for a provider of 100,000 customers has about 3 MB.
"""

from __future__ import annotations

from ctrecorder.errors import CtrecorderError

MIB = 2**20
# One letter, as it lies in the mailbox or the file.
MAX_BYTES = 8 * MIB
# What its archives may unpack to, all together.
MAX_UNPACKED = 16 * MIB
# Honest text in CSV packs 1:5 to 1:40; a bomb 1:1000.  Small files of one repeated line are let be.
MAX_RATIO = 200
RATIO_FROM = MIB
# Parts of a mail and members of its archives.
MAX_PARTS = 500
# Parts in parts, messages in messages, archives in archives.
MAX_DEPTH = 8
# Lines of headers of one part.
MAX_HEADER_LINES = 2_000
# Lines longer than this are not searched for fields.
MAX_LINE = 4_096
# Lines of all parts together: each is looked at by some ten readers, in 10 us.
MAX_LINES = 200_000
# Characters of lines that look as if they had a time: a search takes 4 us for each.
MAX_TIMES = 2_000_000
# A time stands within the first characters of a line.
MAX_TIME_LINE = 1_000
# Addresses in one line; a log line has four at most.
MAX_ADDRESSES = 20
# Questions from one letter: ctwho answers 1,000 in 20 s.
MAX_SIGHTINGS = 20_000
# What a letter of unknown form shows.
MAX_SEEN = 100
# Words of a letter on the screen: sender, case number.
MAX_WORDS = 200


class Refused(CtrecorderError):
    """A letter beyond a limit.  The text says which."""


class Budget:
    """What one letter has used up of its limits."""

    def __init__(self) -> None:
        self._bytes = MAX_UNPACKED
        self._parts = MAX_PARTS
        self._lines = MAX_LINES

    def part(self, depth: int) -> None:
        """Count one part at this depth.  Raises Refused."""
        if depth > MAX_DEPTH:
            raise Refused(f"refused: its parts are nested deeper than {MAX_DEPTH}")
        self._parts -= 1
        if self._parts < 0:
            raise Refused(f"refused: it has more than {MAX_PARTS} parts")

    def lines(self, count: int) -> None:
        """Count the lines of a part.  Raises Refused."""
        self._lines -= count
        if self._lines < 0:
            raise Refused(f"refused: it has more than {MAX_LINES:,} lines")

    def unpacked(self, count: int, total: int, packed: int) -> None:
        """Count `count` more bytes.  `total`: all that came out of `packed` bytes of an archive.

        Raises Refused.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise Refused(f"refused: it unpacks to more than {MAX_UNPACKED // MIB} MiB")
        if total > RATIO_FROM and total > MAX_RATIO * packed:
            raise Refused(f"refused: it unpacks to more than {MAX_RATIO} times its size")
