"""Netlink messages changed in every word: the decoder never raises, never reads outside a message,
and says what the walker says.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ctrecorder.columns import Table as Columns
from ctrecorder.errors import MessageError
from ctrecorder.kernel import message as walker
from ctrecorder.kernel.decoder import STRIDE, Decoder
from tests.support.conntrack_messages import recorded
from tests.support.faulttable import Table

MUTATIONS = 1_000_000
BATCH = 4096
# So many of each batch are compared with the walker too, which takes 30 us each.
WALKED = 64


class Mutants:
    """Each word of each message in turn, changed in one of eight ways; or the message cut off
    there.
    """

    def __init__(self, messages: list[bytes]) -> None:
        self._random = np.random.default_rng(618)
        self._lengths = np.array([len(message) for message in messages], np.uint32)
        self._messages = np.zeros((len(messages), STRIDE), np.uint8)
        for row, message in enumerate(messages):
            self._messages[row, : len(message)] = np.frombuffer(message, np.uint8)
        self._places = np.array(
            [(row, at) for row, message in enumerate(messages) for at in range(len(message) // 4)]
        )
        self._next = 0

    def batch(self) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Slots (BATCH, STRIDE) and lengths (BATCH,)."""
        random, rows = self._random, np.arange(BATCH)
        chosen = self._places[(self._next + rows) % len(self._places)]
        self._next += BATCH
        message, at = chosen[:, 0], chosen[:, 1]
        slots, lengths = self._messages[message].copy(), self._lengths[message].copy()
        words = slots.view(np.uint32)
        word, noise = words[rows, at], random.integers(0, 1 << 32, BATCH).astype(np.uint32)
        ways = [
            np.zeros(BATCH, np.uint32),
            np.full(BATCH, 0xFFFFFFFF, np.uint32),
            word & np.uint32(0xFFFF0000)
            | noise % np.uint32(80),  # an attribute's length, if it is one
            word & np.uint32(0xFFFF) | noise & np.uint32(0xFFFF0000),  # its type
            word ^ np.uint32(1) << noise % np.uint32(32),
            noise,
            words[rows, noise % (lengths // np.uint32(4))],  # a word of another place
            word,
        ]
        way = random.integers(0, len(ways), BATCH)
        words[rows, at] = np.choose(way, ways)
        cut = way == len(ways) - 1
        lengths[cut] = at[cut] * 4 + noise[cut] % 4
        return slots, lengths


def twins(slots: NDArray[np.uint8], lengths: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Each slot twice: behind its message once zeros and once ones, which must not matter."""
    doubled = np.repeat(slots, 2, axis=0)
    behind = np.arange(STRIDE) >= lengths[:, np.newaxis]
    doubled[0::2][behind] = 0
    doubled[1::2][behind] = 0xFF
    return doubled


def walk(slot: NDArray[np.uint8], length: int) -> dict[str, int | bytes] | None:
    try:
        return walker.walk(slot[:length].tobytes())
    except MessageError:
        return None


def check_alike(table: Columns) -> None:
    """The twins of each message have become the same row."""
    for name, values in table.columns.items():
        assert np.array_equal(values[0::2], values[1::2]), name


def check_walked(slots: NDArray[np.uint8], lengths: NDArray[np.uint32]) -> None:
    """What the decoder makes of each message by itself is what the walker makes of it."""
    for row in range(len(lengths)):
        expected = walk(slots[row], int(lengths[row]))
        decoded = Decoder().decode(slots[row : row + 1], lengths[row : row + 1], 7)
        assert bool(decoded) == (expected is not None)
        if expected is None:
            continue
        (table,) = decoded
        assert table.family == expected.pop("family")
        expected.setdefault("time", 7)
        assert {name: values[0].item() for name, values in table.columns.items()} == {
            name: value.rstrip(b"\0") if isinstance(value, bytes) else value
            for name, value in expected.items()
        }


@pytest.mark.beside
def test_every_word_of_every_message(table: Table) -> None:
    mutants, decoder, tried, decoded = (
        Mutants([message for message, _ in recorded()]),
        Decoder(),
        0,
        0,
    )
    while tried < MUTATIONS:
        slots, lengths = mutants.batch()
        doubled = twins(slots, lengths)
        before = doubled.copy()
        tables = decoder.decode(doubled, np.repeat(lengths, 2), 7)
        assert np.array_equal(doubled, before)
        for each in tables:
            check_alike(each)
        tried += len(lengths)
        decoded += sum(map(len, tables))
        assert decoded + decoder.rejected + decoder.ignored == 2 * tried
        check_walked(slots[:WALKED], lengths[:WALKED])
    assert min(decoded, decoder.rejected) > MUTATIONS // 5
    table.add_row(
        "netlink messages mutated",
        tried=tried,
        sent=tried,
        found=decoded // 2,
        lost=decoder.rejected // 2,
    )
