"""A reader written from ctlog(5) alone: plain Python, no numpy, nothing of ctrecorder.  It is what
the page is held against the code with.

It believes what it reads: damage raises whatever it raises.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import zstandard

SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8}
# The page's table of columns: id, name, type.
COLUMNS = """
1 time i64, 2 event u8, 3 l4proto u8,
4 orig_src address, 5 orig_dst address, 6 reply_src address, 7 reply_dst address,
8 orig_sport u16, 9 orig_dport u16, 10 reply_sport u16, 11 reply_dport u16,
12 id u32, 13 status u32, 14 zone u16, 15 mark u32, 16 start i64, 17 stop i64,
18 orig_packets u64, 19 orig_bytes u64, 20 reply_packets u64, 21 reply_bytes u64,
22 tcp_state u8, 23 present u32, 24 orig_zone u16, 25 reply_zone u16,
26 end i64, 27 start_source u8, 28 end_source u8, 29 seen u8,
30 helper bytes, 31 labels bytes, 32 master_l4proto u8, 33 master_src address,
34 master_dst address, 35 master_sport u16, 36 master_dport u16
"""
NAMES = {
    int(number): (name, kind)
    for number, name, kind in (entry.split() for entry in COLUMNS.replace("\n", " ").split(","))
}
SPARSE, DIFFERENCE, SAME, DICTIONARY, DELTA, CONSTANT, PLANES, RANGES = 1, 2, 4, 8, 16, 32, 64, 128
GROUPED = 256
# The page's dictionary of form PACKED; line ends are not part of it.
PACKED_WITH = """
{"omit":"remote","repaired":true,"protocols":["tcp","udp","icmp",
"sctp"],"nat_only":true,"updates":true,"requires":["coverage",
"grouped"],"squeezed":{"ids":true,"resolution":"ms","torn":0},
"sysctls":{"nf_conntrack_acct":0,"nf_conntrack_events":2,
"nf_conntrack_timestamp":0},"seals":{"epoch":1,"key":"",
"seconds":900},"stateless":[],"ipv4":"off","ipv6":"unknown",
"state":"crashed"}],{"boot_id":"-4","buffer_bytes":67108864,
"chain":"","format":"ctlog","host":"router",
"kernel":"6.12.0-1-amd64","nat_only":false,"netns":"4026531840",
"previous":null,"previous":"20261231-000000.ctlog",
"program":"ctrecorder 1.1.0","protocols":[],"replaces":[{"bytes":10,
"last_hash":"","name":"20261231-000000.ctlog",
"program":"ctrecorder 1.1.0","rows":10,"state":"closed"}],
"requires":["coverage"],"sealed":false,"sequence":1,
"squeezed":{"ids":false,"resolution":"us","torn":0},
"state":{"clock":{"error_us":16000000,"offset_us":0,
"synchronised":true},"events":1,"notrack":[],"timestamps":1,
"tracking":{"ipv4":"on","ipv6":"on"}},
"sysctls":{"nf_conntrack_acct":1,"nf_conntrack_events":1,
"nf_conntrack_timestamp":1},"template":"%Y%m%d-%H%M%S.ctlog",
"updates":false}
"""

Value = int | bytes


@dataclass
class Block:
    kind: int
    family: int
    rows: int
    time_min: int
    time_max: int
    previous: bytes
    hash: bytes
    offset: int
    watermark: bool = False
    columns: dict[str, list[Value]] = field(default_factory=dict)
    json: dict[str, Any] = field(default_factory=dict)
    bloom: bytes = b""
    seal: tuple[int, int] = (0, 0)


def read(
    data: bytes,
    key: bytes = b"",
    known: frozenset[str] = frozenset(),
    verification_key: bytes = b"",
) -> list[Block]:
    """All blocks of a segment, each checked against its hash and against the block before, and each
    SEAL against the verification key, if that is given.

    `known`: the features of `requires` that the caller knows how to take.
    """
    versions: set[int] = set()
    blocks: list[Block] = []
    offset = 0
    while offset < len(data):
        magic, kind, family, version, form, rows, length, *times = struct.unpack_from(
            "<4sBBBBIIqq", data, offset
        )
        # WATERMARK: time_max can be greater than the last time.
        watermark, form = form >= 128 and kind in (2, 5), form & 127 if kind in (2, 5) else form
        previous, digest = data[offset + 32 : offset + 48], data[offset + 48 : offset + 64]
        payload = data[offset + 64 : offset + 64 + length]
        assert (magic, len(payload)) == (b"\xc7\x43\x54\x42", length)
        hashed = payload[: struct.unpack_from("<HHI", payload)[2]] if form == 1 else payload
        state = hashlib.blake2b(data[offset : offset + 48] + hashed, digest_size=16, key=key)
        assert state.digest() == digest
        assert not blocks or blocks[-1].hash == previous
        block = Block(kind, family, rows, times[0], times[1], previous, digest, offset, watermark)
        if form == 1:
            block.columns = Columns(payload, family, rows).all()
        elif form == 2:
            block.columns = small(payload, family, rows)
        elif kind == 7:
            block.bloom = payload
        elif kind == 8:
            block.seal = struct.unpack_from("<II", payload)
            if verification_key:
                check_seal(data[offset : offset + 48], payload, verification_key)
        elif kind in (1, 4, 5):
            block.json = json.loads(unpacked(payload) if (kind, form) == (1, 3) else payload)
        if kind == 1:
            assert set(block.json.get("requires", [])) <= known, block.json["requires"]
            assert version == (2 if "requires" in block.json else 1)
            versions = {version}
        assert {version} == versions
        blocks.append(block)
        offset += 64 + length
    return blocks


def unpacked(payload: bytes) -> bytes:
    """The JSON of a HEADER in form PACKED."""
    dictionary = zstandard.ZstdCompressionDict(
        PACKED_WITH.replace("\n", "").encode(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
    plain: bytes = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(payload)
    return plain


def check_ledger(data: bytes, key: bytes) -> list[dict[str, Any]]:
    """The lines of a ledger, each checked: its seal, the hash of the line before, its epoch."""
    lines: list[dict[str, Any]] = []
    before, epoch = "0" * 32, 0
    for line in data.split(b"\n")[:-1]:
        text, seal = line.split(b"\t")
        found = json.loads(text)
        assert (found["previous"], found["epoch"]) == (before, epoch)
        sealed = hashlib.blake2b(text, digest_size=32, key=key, person=b"ctlog ledger")
        assert sealed.hexdigest().encode() == seal
        for _ in range(found.get("next", epoch) - epoch):
            key = hashlib.blake2b(key, digest_size=32, person=b"ctlog next epoch").digest()
        before, epoch = hashlib.blake2b(line, digest_size=16).hexdigest(), found.get("next", epoch)
        lines.append(found)
    return lines


def check_seal(head: bytes, payload: bytes, key: bytes) -> None:
    """A SEAL against the key of its epoch."""
    epoch, since, seal = struct.unpack_from("<II32s", payload)
    assert since <= epoch
    for _ in range(epoch):
        key = hashlib.blake2b(key, digest_size=32, person=b"ctlog next epoch").digest()
    covered = head + payload[:8]
    made = hashlib.blake2b(covered, digest_size=32, key=key, person=b"ctlog seal").digest()
    assert made == seal


def footer(data: bytes) -> tuple[list[tuple[int, ...]], dict[str, Any], int]:
    """Records, totals and offset of the footer, found from the end."""
    offset, length, magic = struct.unpack("<QI4s", data[-16:])
    assert magic == b"\x42\x54\x43\xc7"
    payload = data[offset + 64 :]
    records = payload[: len(payload) - 16 - length]
    return (
        list(struct.iter_unpack("<QqqIBBBB", records)),
        json.loads(payload[len(records) : -16]),
        offset,
    )


def may_hold(bloom: bytes, address: bytes) -> bool:
    """What an ADDRESSES says of an address in network order."""
    _, places = struct.unpack_from("<IBxxx", bloom)
    bits = int.from_bytes(bloom[8:], "little")
    if len(address) == 4:
        key = mix(int.from_bytes(address, "big"))
    else:
        first, second = struct.unpack("<QQ", address)
        key = mix(mix(first) ^ second)
    return all(
        bits >> (key % 2**32 + number * (key >> 32)) % (8 * len(bloom[8:])) & 1
        for number in range(places)
    )


def mix(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def run(stored: bytes, plain_length: int) -> bytes:
    if len(stored) == plain_length:
        return stored
    assert len(stored) < plain_length
    plain = zstandard.ZstdDecompressor().decompress(stored)
    assert len(plain) == plain_length
    return plain


def planes(stored: bytes, width: int, count: int) -> list[bytes]:
    lengths = struct.unpack_from(f"<{width}I", stored)
    at, found = 4 * width, []
    for length in lengths:
        found.append(run(stored[at : at + length], count) if length else bytes(count))
        at += length
    assert at == len(stored)
    return [bytes(item) for item in zip(*found, strict=True)]


def ranges(body: bytes, count: int) -> list[int]:
    (amount,) = struct.unpack_from("<H", body)
    table = [struct.unpack_from("<qB", body, 2 + 9 * number) for number in range(amount)]
    at = 2 + 9 * amount
    (length,) = struct.unpack_from("<I", body, at)
    numbers = list(run(body[at + 4 : at + 4 + length], count))
    at += 4 + length
    found = [0] * count
    for number, (origin, bits) in enumerate(table):
        items = [item for item in range(count) if numbers[item] == number]
        size = bits // 8
        packed = body[
            at + size * len(items) : at + size * len(items) + (bits % 8 * len(items) + 7) // 8
        ]
        stream = int.from_bytes(packed, "little")
        for place, item in enumerate(items):
            low = int.from_bytes(body[at + size * place : at + size * (place + 1)], "little")
            high = stream >> bits % 8 * place & (1 << bits % 8) - 1
            found[item] = origin + low + (high << 8 * size)
        at += size * len(items) + len(packed)
    assert at == len(body)
    return found


def split(plain: bytes, width: int) -> list[bytes]:
    return [plain[at : at + width] for at in range(0, len(plain), width)]


def typed(values: list[bytes], kind: str) -> list[Value]:
    if kind in ("address", "bytes") and values and len(values[0]) == 16:
        return list(values)
    return [int.from_bytes(value, "little", signed=kind == "i64") for value in values]


def small(payload: bytes, family: int, rows: int) -> dict[str, list[Value]]:
    count = payload[0]
    pairs = struct.unpack_from("BB" * count, payload, 1)
    plain = run(payload[1 + 2 * count :], rows * sum(pairs[1::2]))
    found, at = {}, 0
    for number, width in zip(pairs[::2], pairs[1::2], strict=True):
        if number in NAMES:
            name, kind = NAMES[number]
            found[name] = typed(split(plain[at : at + rows * width], width), kind)
        at += rows * width
    return found


class Columns:
    """A payload in form COLUMNS."""

    def __init__(self, payload: bytes, family: int, rows: int) -> None:
        self.payload, self.family, self.rows = payload, family, rows
        count, zero, length = struct.unpack_from("<HHI", payload)
        assert zero == 0
        entries = [
            struct.unpack_from("<BHBBB2xIII4xqq16s", payload, 8 + 56 * number)
            for number in range(count)
        ]
        dictionary, body = 8 + 56 * count, length
        self.entries = {}
        self.done: dict[int, list[Value]] = {}
        for entry in entries:
            dictionary_length, body_length = entry[6:8]
            self.entries[entry[0]] = (
                *entry,
                payload[dictionary : dictionary + dictionary_length],
                payload[body : body + body_length],
            )
            dictionary, body = dictionary + dictionary_length, body + body_length
        assert (dictionary, body) == (length, len(payload))

    def all(self) -> dict[str, list[Value]]:
        return {NAMES[number][0]: self.column(number) for number in self.entries if number in NAMES}

    def kind(self, number: int) -> tuple[str, int]:
        """Type and bytes of a column."""
        kind = NAMES[number][1]
        wide = kind == "bytes" or (kind == "address" and self.family != 2)
        return kind, SIZES.get(kind, 16 if wide else 4)

    def column(self, number: int) -> list[Value]:
        if number not in self.done:
            self.done[number] = self.decode(number)
        return self.done[number]

    def decode(self, number: int) -> list[Value]:
        kind, size = self.kind(number)
        zero: Value = bytes(16) if size == 16 else 0
        if number not in self.entries:
            return [zero] * self.rows
        _, encoding, _, partner, _, entries, _, _, low, high, digest, stored_dictionary, body = (
            self.entries[number]
        )
        assert encoding < 512, f"encoding {encoding} is not known"
        if body:
            assert hashlib.blake2b(body, digest_size=16).digest() == digest
        rows = list(range(self.rows))
        if encoding & SPARSE:
            rows = [row for row, known in enumerate(self.column(23)) if int(known) >> number & 1]
        count = len(rows)
        partners = [self.column(partner)[row] for row in rows] if partner else []
        if size == 16 and not encoding & DICTIONARY:
            if encoding & CONSTANT:
                values: list[Value] = [struct.pack("<qq", low, high)] * count
            else:
                values = list(planes(body, 16, count))
        else:
            numbers = self.numbers(number, count, 32 if encoding & DICTIONARY else 8 * size)
            if encoding & DICTIONARY:
                known_values = self.dictionary(stored_dictionary, entries, kind, size)
                if encoding & SAME:
                    values = [
                        known_values[place - 1] if place else partners[row]
                        for row, place in enumerate(numbers)
                    ]
                else:
                    values = [known_values[place] for place in numbers]
            else:
                values = typed([place.to_bytes(size, "little") for place in numbers], kind)
        if encoding & DIFFERENCE:
            sums = [
                (int(value) + int(other)) % 2 ** (8 * size)
                for value, other in zip(values, partners, strict=True)
            ]
            values = typed([total.to_bytes(size, "little") for total in sums], kind)
        column = [zero] * self.rows
        for row, value in zip(rows, values, strict=True):
            column[row] = value
        return column

    def grouped(self, items: list[int], step: int, low: int, high: int, bits: int) -> list[int]:
        """Numbers in groups of equal l4proto, orig_src, orig_dst and orig_dport."""
        keys = list(zip(*map(self.column, (3, 4, 5, 9)), strict=True))
        found: list[int] = []
        for row, item in enumerate(items):
            begins = not row or keys[row] != keys[row - 1]
            number = item * step + (high if begins else low + found[-1])
            found.append(number % 2**bits)
        return found

    def numbers(self, number: int, count: int, bits: int) -> list[int]:
        _, encoding, width, _, scale, _, _, _, low, high, _, _, body = self.entries[number]
        if encoding & CONSTANT:
            items = [0] * count
        elif encoding & RANGES:
            items = ranges(body, count)
        else:
            parts = (
                planes(body, width, count)
                if encoding & PLANES
                else split(run(body, count * width), width)
            )
            items = [int.from_bytes(part, "little") for part in parts]
        if encoding & GROUPED:
            return self.grouped(items, 10**scale, low, high, bits)
        numbers = [(item * 10**scale + low) % 2**bits for item in items]
        if encoding & DELTA and numbers:
            numbers[0] = high % 2**bits
            for place in range(1, count):
                numbers[place] = (numbers[place] + numbers[place - 1]) % 2**bits
        return numbers

    @staticmethod
    def dictionary(stored: bytes, entries: int, kind: str, size: int) -> list[Value]:
        if not entries:
            return []
        steps = planes(stored, size, entries)
        values, before = [], bytes(size)
        for step in steps:
            if size == 16:
                before = bytes(left ^ right for left, right in zip(before, step, strict=True))
            else:
                total = int.from_bytes(before, "little") + int.from_bytes(step, "little")
                before = (total % 2 ** (8 * size)).to_bytes(size, "little")
            values.append(before)
        return typed(values, kind)
