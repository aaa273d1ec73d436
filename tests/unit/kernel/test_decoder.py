"""The decoder against `message`, on any bytes; and the splitting of a dump."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import COLUMNS, Table, bit
from ctrecorder.errors import MessageError
from ctrecorder.kernel import message as conntrack
from ctrecorder.kernel.decoder import STRIDE, Decoder, split
from tests.support.conntrack_messages import (
    CREATE,
    LEAST,
    attribute,
    ip4,
    ip6,
    message,
    nested,
    number,
    orig,
    ports,
    recorded,
    reply,
)
from tests.support.tables import ints

RECEIVED = 1_700_000_000_000_000_000
SAMPLES = [data for data, _ in recorded()]


def slots_of(
    messages: list[bytes], slack: int = 0xA5
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Messages in slots; the bytes after each are `slack`."""
    slots = np.full((len(messages), STRIDE), slack, np.uint8)
    for slot, data in zip(slots, messages, strict=True):
        slot[: len(data)] = np.frombuffer(data, np.uint8)
    return slots, np.array([len(data) for data in messages], np.uint32)


def decoded(messages: list[bytes], decoder: Decoder | None = None, **options: bool) -> list[Table]:
    """The tables of these messages, message i received at RECEIVED + i."""
    slots, lengths = slots_of(messages)
    return (decoder or Decoder()).decode(
        slots, lengths, RECEIVED + np.arange(len(messages)), **options
    )


def rows_of(table: Table) -> list[dict[str, int | bytes]]:
    """The rows of a table as `walk` returns a message, with 0 for columns that it lacks."""
    columns: dict[str, list[int | bytes]] = {}
    for column in COLUMNS:
        array = table[column.name]
        if array.dtype.kind == "S":
            octets = array.tobytes()
            columns[column.name] = [octets[at : at + 16] for at in range(0, len(octets), 16)]
        else:
            columns[column.name] = [*ints(array)]
    return [
        {"family": table.family} | dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def walked(data: bytes, received: int, existing: bool = False) -> dict[str, int | bytes] | None:
    """The row of a message by the specification; None if it is refused."""
    try:
        told = conntrack.walk(data, existing)
    except MessageError:
        return None
    nothing: int | bytes
    row: dict[str, int | bytes] = {"family": told["family"]}
    for column in COLUMNS:
        wide = column.kind == "bytes" or (column.kind == "addr" and told["family"] == uapi.AF_INET6)
        nothing = bytes(16) if wide else 0
        row[column.name] = told.get(column.name, received if column.name == "time" else nothing)
    return row


def assert_as_specified(
    messages: list[bytes], decoder: Decoder | None = None, **options: bool
) -> None:
    """Each message has the values of `walk`, in order of arrival, or is refused as by `walk`."""
    decoder = decoder or Decoder()
    refused = decoder.rejected + decoder.ignored
    tables = {table.family: rows_of(table) for table in decoded(messages, decoder, **options)}
    expected = [walked(data, RECEIVED + number, **options) for number, data in enumerate(messages)]
    for family in (uapi.AF_INET, uapi.AF_INET6):
        assert tables.pop(family, []) == [
            row for row in expected if row is not None and row["family"] == family
        ]
    assert not tables
    assert decoder.rejected + decoder.ignored - refused == expected.count(None)


def test_each_recorded_message_alone() -> None:
    decoder = Decoder()
    for data in SAMPLES:
        assert_as_specified([data], decoder)
    assert (decoder.rejected, decoder.ignored, decoder.first_rejection) == (0, 0, "")


def test_all_recorded_messages_at_once_in_order_of_arrival() -> None:
    assert_as_specified(SAMPLES)


def test_those_of_one_layout_at_once() -> None:
    by_layout: dict[tuple[object, ...], list[bytes]] = {}
    for data in SAMPLES:
        layout = conntrack.survey(data)
        alike = tuple(tuple(part.items()) if isinstance(part, dict) else part for part in layout)
        by_layout.setdefault(alike, []).append(data)
    assert len(by_layout) > 10
    for messages in by_layout.values():
        tables = decoded(messages)
        assert [len(table) for table in tables] == [len(messages)]
        assert_as_specified(messages)


def test_answers_to_a_dump_are_existing() -> None:
    messages = [
        data[:6] + struct.pack("=H", uapi.NLM_F_MULTI) + data[8:]
        for data in SAMPLES
        if data[4] == 0
    ]
    decoder = Decoder()
    assert_as_specified(messages, decoder, existing=True)
    assert_as_specified(messages, decoder)


def test_one_time_of_receipt_for_all_and_none_where_the_kernel_gave_one() -> None:
    messages = [
        message(LEAST),
        message(LEAST, number(uapi.CTA_TIMESTAMP_EVENT, 5, 8)),
        message(LEAST),
    ]
    (table,) = Decoder().decode(*slots_of(messages), RECEIVED)
    assert table["time"].tolist() == [RECEIVED, 5, RECEIVED]
    (table,) = Decoder().decode(*slots_of(messages[:1]), RECEIVED)
    assert table["time"].tolist() == [RECEIVED]


def test_layouts_that_agree_in_length_and_type_are_told_apart() -> None:
    messages = [
        message(LEAST, number(uapi.CTA_MARK, 1, 4), number(uapi.CTA_STATUS, 2, 4)),
        message(LEAST, number(uapi.CTA_STATUS, 3, 4), number(uapi.CTA_MARK, 4, 4)),
        message(LEAST, number(uapi.CTA_STATUS, 5, 4), number(99, 6, 4)),
        message(LEAST, number(uapi.CTA_MARK, 7, 4), number(uapi.CTA_STATUS, 8, 4)),
        message(LEAST, attribute(uapi.CTA_LABELS, bytes(12))),
    ]
    assert_as_specified(messages * 3)


def test_a_value_is_no_header() -> None:
    tcp, other = ports(6, 1000, 25), ports(200, 2000, 26)
    assert_as_specified(
        [message(orig(ip4(1, 2), proto), reply(ip4(3, 4), proto)) for proto in (tcp, other, tcp)]
    )
    decoder = Decoder(max_layouts=1)
    decoded([message(orig(ip4(1, 2), proto)) for proto in (tcp, other)], decoder)
    assert len([plan for plans in decoder._plans.values() for plan in plans]) == 1


def test_both_families_and_every_protocol_in_one_batch() -> None:
    src, dst = bytes(15) + b"\1", b"\xfe\x80" + bytes(14)
    icmp6 = nested(
        uapi.CTA_TUPLE_PROTO, number(1, 58, 1), number(7, 77, 2), number(8, 128, 1), number(9, 0, 1)
    )
    gre = nested(uapi.CTA_TUPLE_PROTO, number(1, 47, 1))
    assert_as_specified(
        [
            message(orig(ip6(src, dst), icmp6), reply(ip6(dst, src), icmp6), family=uapi.AF_INET6),
            message(orig(ip4(1, 2), gre), reply(ip4(2, 1), gre)),
            message(orig(ip6(dst, src), ports(6, 1, 2)), family=uapi.AF_INET6),
            message(
                orig(ip4(3, 4), ports(6, 1, 2), number(uapi.CTA_TUPLE_ZONE, 5, 2)),
                kind=uapi.CT_DELETE,
                flags=0,
            ),
        ]
    )


def test_the_columns_have_their_dtypes() -> None:
    for messages in (SAMPLES, SAMPLES[:1]):
        for table in decoded(messages):
            for column in COLUMNS:
                if column.name in table:
                    assert table[column.name].dtype == column.dtype(table.family), column.name


def test_the_tables_keep_no_reference_to_the_slots() -> None:
    slots, lengths = slots_of(SAMPLES[:1] * 3)
    received = np.full(3, RECEIVED)
    without_time = message(LEAST)
    slots[:, : len(without_time)] = np.frombuffer(without_time, np.uint8)
    lengths[:] = len(without_time)
    (table,) = Decoder().decode(slots, lengths, received)
    before = rows_of(table)
    slots[:] = 0
    lengths[:] = 0
    received[:] = 0
    assert rows_of(table) == before


def test_nothing_is_read_outside_a_message() -> None:
    cut = [
        struct.pack("=I", length) + data[4:length]
        for data in SAMPLES[::40]
        for length in range(16, len(data), 3)
    ]
    messages = cut + SAMPLES[::9]
    outcomes = []
    for slack in (0x00, 0xFF, 0x08):
        decoder = Decoder()
        tables = decoder.decode(*slots_of(messages, slack), RECEIVED)
        outcomes.append(([rows_of(table) for table in tables], decoder.rejected, decoder.ignored))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][1] > 0


def test_refusals_are_counted_and_the_first_reason_kept() -> None:
    decoder = Decoder()
    good, request = SAMPLES[0], message(LEAST, kind=uapi.CT_GET)
    long = struct.pack("=I", len(good) + 1) + good[4:]
    messages = [good, long, message(), request, request, b"", b"short", good, good[:18]]
    assert [len(table) for table in decoded(messages, decoder)] == [2]
    assert (decoder.rejected, decoder.ignored) == (5, 2)
    assert (
        decoder.first_rejection
        == f"the message has length {len(good) + 1}, but {len(good)} bytes were received"
    )


def test_a_length_beyond_the_slot_is_refused() -> None:
    decoder = Decoder()
    slots, lengths = slots_of([SAMPLES[0]] * 4)
    lengths[1], lengths[2] = STRIDE + 1, 2**32 - 1
    assert [len(table) for table in decoder.decode(slots, lengths, 0)] == [2]
    assert decoder.rejected == 2
    slots, lengths = slots_of([message(LEAST, attribute(99, bytes(STRIDE - len(LEAST) - 24)))] * 2)
    lengths[1] += 2
    assert [len(table) for table in decoder.decode(slots, lengths, 0)] == [1]
    assert decoder.rejected == 3
    lengths[:] = lengths[0], lengths[0] + 2**24
    assert [len(table) for table in decoder.decode(slots, lengths, 0)] == [1]
    assert decoder.rejected == 4


def test_an_empty_batch() -> None:
    assert decoded([]) == []


def test_a_layout_has_the_header_of_what_is_unsound() -> None:
    """The same length, and the same headers but for one: only one of them has bytes."""
    both = [
        message(LEAST, nested(uapi.CTA_COUNTERS_ORIG, attribute(99, b""), header + bytes(8)))
        for header in (struct.pack("=HH", 12, 2), struct.pack("=HH", 13, 2))
    ]
    (table,) = decoded([*both, *both])
    assert [bool(int(one) & bit("orig_bytes")) for one in table["present"]] == [True, False] * 2


def test_the_layouts_remembered_are_bounded() -> None:
    decoder = Decoder(max_layouts=3)
    kinds = [message(LEAST, attribute(99, bytes(size))) for size in range(0, 80, 4)]
    for _ in range(3):
        assert_as_specified(kinds + SAMPLES[::30], decoder)
        assert sum(len(plans) for plans in decoder._plans.values()) <= 3


def test_a_known_layout_is_not_surveyed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder()
    decoded(SAMPLES, decoder)
    monkeypatch.setattr(conntrack, "survey", None)
    assert sum(len(table) for table in decoded(SAMPLES, decoder)) == len(SAMPLES)


def mutated(count: int, seed: int) -> list[bytes]:
    """`count` recorded messages, most with one to three bytes, half-words or words changed."""
    random = np.random.default_rng(seed)
    evil = np.array([0, 1, 2, 3, 4, 5, 7, 8, 9, 0x7F, 0x80, 0xFF], np.uint8)
    made = []
    for choice, changes in zip(
        random.integers(len(SAMPLES), size=count), random.integers(4, size=count), strict=True
    ):
        data = bytearray(SAMPLES[choice])
        for at, value, same in zip(
            random.integers(len(data), size=changes),
            random.choice(evil, changes),
            random.random(changes),
            strict=True,
        ):
            data[at] = value if same < 0.7 else int(random.integers(256))
        if random.random() < 0.05:
            del data[random.integers(len(data)) :]
        made.append(bytes(data))
    return made


@pytest.mark.slow
def test_mutated_messages_are_decoded_or_refused_as_specified() -> None:
    decoder = Decoder()
    for seed in range(100):
        assert_as_specified(mutated(1000, seed), decoder)
    assert decoder.rejected > 10_000


PIECES = st.sampled_from(
    [
        LEAST,
        reply(ip4(3, 4), ports(6, 5, 6)),
        orig(ip4(7, 8), ports(17, 9, 10)),
        orig(ports(6, 1, 2)),
        number(uapi.CTA_ID, 5, 4),
        number(uapi.CTA_TIMESTAMP_EVENT, 6, 8),
        nested(uapi.CTA_TIMESTAMP, number(2, 7, 8), number(1, 8, 8)),
        nested(uapi.CTA_COUNTERS_ORIG, number(1, 7, 8), attribute(3, b""), number(2, 8, 8)),
        attribute(99, b"xyz"),
        nested(uapi.CTA_COUNTERS_ORIG, number(1, 7, 8), b"\x0c\0\2\0"),
        nested(uapi.CTA_COUNTERS_ORIG, number(1, 7, 8), b"\x04\0\2\0"),
        attribute(uapi.CTA_STATUS, b"\1\2\3"),
        b"\5\0\0\0",
        b"\xff",
    ]
)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(
                lambda parts, kind, flags: message(*parts, kind=kind, flags=flags),
                st.lists(PIECES, max_size=6),
                st.sampled_from([uapi.CT_NEW, uapi.CT_DELETE]),
                st.sampled_from([0, CREATE]),
            ),
        ),
        max_size=12,
    )
)
def test_whatever_bytes_come(messages: list[bytes]) -> None:
    assert_as_specified(messages)


def dumped(*messages: bytes, flags: int = uapi.NLM_F_MULTI, end: int | None = 0) -> bytes:
    """One datagram of a dump: the messages, and NLMSG_DONE with this error if it is not None."""
    parts = [
        data[:6] + struct.pack("=H", flags) + data[8:] + bytes(-len(data) % 4) for data in messages
    ]
    if end is not None:
        parts.append(struct.pack("=IHHIIi", 20, uapi.NLMSG_DONE, flags, 0, 0, end))
    return b"".join(parts)


def test_a_dump_is_split() -> None:
    found = split(dumped(*SAMPLES[:100]))
    assert (found.done, found.error, found.interrupted, found.unsound) == (True, 0, False, 0)
    assert [
        slot[:length].tobytes()[8:] for slot, length in zip(found.slots, found.lengths, strict=True)
    ] == [x[8:] for x in SAMPLES[:100]]
    tables = Decoder().decode(found.slots, found.lengths, RECEIVED, existing=True)
    assert sum(len(table) for table in tables) == 100


def test_a_dump_goes_on_without_its_end() -> None:
    found = split(dumped(SAMPLES[0], end=None))
    assert (found.done, len(found.slots)) == (False, 1)
    assert not split(b"").done


def test_errors_of_a_dump() -> None:
    assert split(struct.pack("=IHHIIi", 20, uapi.NLMSG_ERROR, 0, 0, 0, -1) + bytes(20)).error == 1
    assert split(dumped(end=-4)).error == 4
    found = split(
        dumped(SAMPLES[0], end=None, flags=uapi.NLM_F_MULTI | uapi.NLM_F_DUMP_INTR)
        + dumped(SAMPLES[0])
    )
    assert (found.interrupted, found.done, len(found.slots)) == (True, True, 2)


def test_what_is_unsound_in_a_dump_is_counted() -> None:
    huge = message(LEAST, attribute(uapi.CTA_SECCTX, bytes(STRIDE)))
    found = split(dumped(SAMPLES[0], huge, SAMPLES[1]))
    assert (found.unsound, len(found.slots), found.done) == (1, 2, True)
    found = split(dumped(SAMPLES[0], struct.pack("=IHHII", 4000, uapi.CT_NEW, 0, 0, 0)))
    assert (found.unsound, len(found.slots), found.done) == (1, 1, False)


def test_a_dump_with_nothing_but_a_header() -> None:
    found = split(struct.pack("=IHHII", 16, 1, 0, 0, 0))
    decoder = Decoder()
    assert decoder.decode(found.slots, found.lengths, RECEIVED, existing=True) == []
    assert (decoder.ignored, decoder.rejected) == (1, 0)


@given(st.binary(max_size=200))
def test_whatever_bytes_a_dump_has(answer: bytes) -> None:
    found = split(answer)
    Decoder().decode(found.slots, found.lengths, RECEIVED, existing=True)
    assert len(found.slots) == len(found.lengths)
