"""Messages: against pyroute2's decoder on messages of a kernel, and on messages made by hand."""

from __future__ import annotations

import ipaddress
import random
import struct
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from ctrecorder import uapi
from ctrecorder.columns import BY_NAME, MASTER, Event, bit, bits
from ctrecorder.errors import MessageError
from ctrecorder.kernel import message as conntrack
from tests.support.conntrack_messages import (
    CREATE,
    LEAST,
    Attribute,
    attribute,
    built,
    ip4,
    ip6,
    message,
    nested,
    number,
    orig,
    ports,
    recorded,
    reply,
    tree,
)

ADDRESS_BYTES = bytes(range(1, 17)), bytes(range(17, 33))


def address(text: str | None) -> int | bytes | None:
    """An address of pyroute2 as `walk` returns it."""
    if text is None:
        return None
    parsed = ipaddress.ip_address(text)
    return int(parsed) if parsed.version == 4 else parsed.packed


def told_by_pyroute2(data: bytes) -> dict[str, int | bytes]:
    """The values of pyroute2's nfct_msg under our names, without CTA_TIMESTAMP_EVENT."""
    decoded = nfct_msg(data)
    decoded.decode()

    def get(*path: str) -> Any:
        found = decoded
        for name in path:
            found = found.get_attr(name) if found is not None else None
        return found

    version = "V4" if decoded["nfgen_family"] == uapi.AF_INET else "V6"
    icmp = "ICMPV6" if version == "V6" else "ICMP"
    values: dict[str, Any] = {"family": decoded["nfgen_family"]}
    for direction in ("orig", "reply"):
        tuple_ = f"CTA_TUPLE_{direction.upper()}"
        for end in ("src", "dst"):
            values[f"{direction}_{end}"] = address(
                get(tuple_, "CTA_TUPLE_IP", f"CTA_IP_{version}_{end.upper()}")
            )
        proto = (tuple_, "CTA_TUPLE_PROTO")
        values[f"{direction}_sport"] = get(*proto, "CTA_PROTO_SRC_PORT")
        values[f"{direction}_dport"] = get(*proto, "CTA_PROTO_DST_PORT")
        kind = get(*proto, f"CTA_PROTO_{icmp}_TYPE")
        if kind is not None:
            values[f"{direction}_sport"] = get(*proto, f"CTA_PROTO_{icmp}_ID")
            values[f"{direction}_dport"] = kind * 256 + get(*proto, f"CTA_PROTO_{icmp}_CODE")
        values[f"{direction}_packets"] = get(
            f"CTA_COUNTERS_{direction.upper()}", "CTA_COUNTERS_PACKETS"
        )
        values[f"{direction}_bytes"] = get(
            f"CTA_COUNTERS_{direction.upper()}", "CTA_COUNTERS_BYTES"
        )
    values["l4proto"] = get("CTA_TUPLE_ORIG", "CTA_TUPLE_PROTO", "CTA_PROTO_NUM")
    values |= {name: get(f"CTA_{name.upper()}") for name in ("id", "status", "mark", "zone")}
    values["start"], values["stop"] = (
        get("CTA_TIMESTAMP", "CTA_TIMESTAMP_START"),
        get("CTA_TIMESTAMP", "CTA_TIMESTAMP_STOP"),
    )
    values["tcp_state"] = get("CTA_PROTOINFO", "CTA_PROTOINFO_TCP", "CTA_PROTOINFO_TCP_STATE")
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.slow
def test_what_the_kernel_sent_is_what_pyroute2_reads() -> None:
    for data, received in recorded():
        walked = conntrack.walk(data)
        assert abs(int(walked.pop("time")) / 1e9 - received) < 1
        known = walked.pop("present")
        assert known == bits({*walked, "time"} & BY_NAME.keys())
        kind, flags = struct.unpack_from("=HH", data, 4)
        assert (
            walked.pop("event")
            == {(256, CREATE): Event.NEW, (256, 0): Event.UPDATE, (258, 0): Event.DESTROY}[
                kind, flags
            ]
        )
        assert walked == told_by_pyroute2(data)


def test_the_order_of_attributes_does_not_matter() -> None:
    shuffler = random.Random(6)

    def shuffled(attributes: list[Attribute]) -> list[Attribute]:
        again = [
            (kind, shuffled(value) if isinstance(value, list) else value)
            for kind, value in attributes
        ]
        return shuffler.sample(again, len(again))

    for data, _ in recorded()[::20]:
        assert conntrack.walk(data[:20] + built(shuffled(tree(data)))) == conntrack.walk(data)


def test_a_message_cut_short_is_refused_at_every_length() -> None:
    for data in {len(data): data for data, _ in recorded()}.values():
        for length in range(len(data)):
            with pytest.raises(MessageError):
                conntrack.walk(data[:length])


def test_a_message_whose_length_is_cut_too_tells_nothing_false() -> None:
    for data in {len(data): data for data, _ in recorded()}.values():
        whole = conntrack.walk(data)
        for length in range(20, len(data)):
            cut = struct.pack("=I", length) + data[4:length]
            try:
                told = conntrack.walk(cut)
            except MessageError:
                continue
            told.pop("present")
            assert told.items() <= whole.items()


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        pytest.param([], {}, id="least"),
        pytest.param([number(uapi.CTA_MARK, 0x01020304, 4)], {"mark": 0x01020304}, id="mark"),
        pytest.param([number(uapi.CTA_ZONE, 0x0102, 2)], {"zone": 0x0102}, id="zone"),
        pytest.param(
            [number(uapi.CTA_STATUS, 8, 4), number(uapi.CTA_STATUS, 9, 4)],
            {"status": 9},
            id="of a repeated one the last",
        ),
        pytest.param(
            [attribute(uapi.CTA_ID, b"\0\0\0\7" + b"more")],
            {"id": 7},
            id="of a longer payload the first bytes",
        ),
        pytest.param([attribute(99, b"x")], {}, id="unknown ones"),
        pytest.param(
            [attribute(uapi.CTA_LABELS, bytes(range(16)))],
            {"labels": bytes(range(16))},
            id="labels",
        ),
        pytest.param(
            [nested(uapi.CTA_HELP, attribute(uapi.CTA_HELP_NAME, b"ftp\0"))],
            {"helper": b"ftp".ljust(16, b"\0")},
            id="helper",
        ),
        pytest.param(
            [nested(uapi.CTA_HELP, attribute(uapi.CTA_HELP_NAME, b"abcdefghijklmnopqrst\0"))],
            {"helper": b"abcdefghijklmnop"},
            id="of a longer helper the first bytes",
        ),
        pytest.param(
            [nested(uapi.CTA_HELP, attribute(uapi.CTA_HELP_NAME, b""))], {}, id="no helper"
        ),
        pytest.param(
            [number(uapi.CTA_TIMESTAMP_EVENT, 2**63 - 1, 8)], {"time": 2**63 - 1}, id="time"
        ),
        pytest.param(
            [number(uapi.CTA_TIMESTAMP_EVENT, 2**64 - 1, 8)],
            {"time": -1},
            id="time as the column has it, signed",
        ),
        pytest.param(
            [nested(uapi.CTA_COUNTERS_REPLY, number(uapi.CTA_COUNTERS_BYTES, 2**64 - 1, 8))],
            {"reply_bytes": 2**64 - 1},
            id="counters are not signed",
        ),
        pytest.param(
            [nested(uapi.CTA_PROTOINFO, nested(2, number(1, 3, 1)))],
            {},
            id="state of another protocol than TCP",
        ),
        pytest.param(
            [nested(uapi.CTA_PROTOINFO, nested(1, number(1, 3, 1)))],
            {"tcp_state": 3},
            id="TCP state",
        ),
        pytest.param(
            [reply(ip4(1, 2))], {"reply_src": 1, "reply_dst": 2}, id="reply without protocol"
        ),
        pytest.param(
            [
                nested(uapi.CTA_TUPLE_MASTER, ip4(1, 2), ports(6, 3, 4)),
                nested(uapi.CTA_TUPLE_REPLY, ip4(5, 6)),
            ],
            {
                "reply_src": 5,
                "reply_dst": 6,
                "master_l4proto": 6,
                "master_src": 1,
                "master_dst": 2,
                "master_sport": 3,
                "master_dport": 4,
            },
            id="the master's tuple is not ours",
        ),
        pytest.param(
            [orig(ip4(3, 4), ports(17, 5, 6), number(uapi.CTA_TUPLE_ZONE, 9, 2))],
            {
                "orig_src": 3,
                "orig_dst": 4,
                "l4proto": 17,
                "orig_sport": 5,
                "orig_dport": 6,
                "orig_zone": 9,
            },
            id="of a repeated tuple the last, whole",
        ),
        pytest.param(
            [
                orig(
                    ip4(3, 4),
                    nested(
                        uapi.CTA_TUPLE_PROTO,
                        number(uapi.CTA_PROTO_NUM, 1, 1),
                        number(4, 77, 2),
                        number(5, 8, 1),
                        number(6, 9, 1),
                    ),
                )
            ],
            {
                "orig_src": 3,
                "orig_dst": 4,
                "l4proto": 1,
                "orig_sport": 77,
                "orig_dport": 8 * 256 + 9,
            },
            id="ICMP",
        ),
        pytest.param(
            [orig(ip4(3, 4), nested(uapi.CTA_TUPLE_PROTO, number(6, 9, 1)))],
            {"orig_src": 3, "orig_dst": 4, "orig_dport": 9},
            id="ICMP code without type",
        ),
        pytest.param(
            [attribute(uapi.CTA_TUPLE_REPLY, ip4(1, 2))],
            {"reply_src": 1, "reply_dst": 2},
            id="not flagged as nested",
        ),
        pytest.param(
            [attribute(uapi.CTA_MARK | uapi.NLA_F_NET_BYTEORDER, b"\0\0\0\1")],
            {"mark": 1},
            id="flagged as in network byte order",
        ),
        pytest.param(
            [
                orig(
                    nested(
                        uapi.CTA_TUPLE_IP,
                        number(1, 3, 4),
                        number(2, 4, 4),
                        attribute(3, bytes(16)),
                        attribute(4, bytes(16)),
                    )
                )
            ],
            {"orig_src": 3, "orig_dst": 4},
            id="addresses of the other family beside ours",
        ),
    ],
)
def test_what_is_told(attributes: list[bytes], told: dict[str, int]) -> None:
    walked = conntrack.walk(message(LEAST, *attributes))
    known = bits({"event", "orig_src", "orig_dst", *told} - set(MASTER))
    assert (
        walked
        == {
            "family": 2,
            "event": Event.NEW,
            "orig_src": 0x0A000001,
            "orig_dst": 0x0A000002,
            "present": known,
        }
        | told
    )


def test_ipv6_addresses_are_their_bytes() -> None:
    src, dst = ADDRESS_BYTES
    walked = conntrack.walk(
        message(orig(ip6(src, dst)), reply(ip6(dst, src)), family=uapi.AF_INET6)
    )
    assert (walked["orig_src"], walked["orig_dst"], walked["reply_src"], walked["reply_dst"]) == (
        src,
        dst,
        dst,
        src,
    )


@pytest.mark.parametrize(
    ("kind", "flags", "existing", "event"),
    [
        (uapi.CT_NEW, CREATE, False, Event.NEW),
        (uapi.CT_NEW, 0, False, Event.UPDATE),
        (uapi.CT_NEW, uapi.NLM_F_MULTI, False, Event.UPDATE),
        (uapi.CT_DELETE, 0, False, Event.DESTROY),
        (uapi.CT_NEW, uapi.NLM_F_MULTI, True, Event.EXISTING),
        (uapi.CT_NEW, uapi.NLM_F_MULTI | uapi.NLM_F_DUMP_INTR, True, Event.EXISTING),
        (uapi.CT_DELETE, 0, True, Event.DESTROY),
    ],
)
def test_the_event_is_told_by_type_and_flags(
    kind: int, flags: int, existing: bool, event: Event
) -> None:
    assert conntrack.walk(message(LEAST, kind=kind, flags=flags), existing)["event"] == event


def resized(data: bytes, length: int) -> bytes:
    """The message with another nlmsg_len."""
    return struct.pack("=I", length) + data[4:]


UNSOUND = struct.pack("=HH", 12, 1)  # 8 bytes are missing
WHOLE = message(LEAST, number(uapi.CTA_ID, 1, 4))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(WHOLE[:19], id="no nfgenmsg"),
        pytest.param(resized(WHOLE, len(WHOLE) + 1), id="claims more than there is"),
        pytest.param(resized(WHOLE, 19), id="claims less than headers"),
        pytest.param(resized(WHOLE, 0), id="claims nothing"),
        pytest.param(resized(WHOLE, 2**32 - 1), id="claims 4 GiB"),
        pytest.param(WHOLE + bytes(4), id="something behind it"),
        pytest.param(message(LEAST, kind=uapi.CT_GET), id="a request"),
        pytest.param(message(LEAST, kind=0x0200), id="expectations' subsystem"),
        pytest.param(message(LEAST, family=7), id="neither family"),
        pytest.param(message(LEAST, family=uapi.AF_INET6), id="addresses of the other family"),
        pytest.param(message(), id="no tuple"),
        pytest.param(message(reply(ip4(1, 2))), id="no original tuple"),
        pytest.param(message(orig(ports(6, 1, 2))), id="no addresses"),
        pytest.param(
            message(orig(nested(uapi.CTA_TUPLE_IP, number(uapi.CTA_IP_V4_SRC, 1, 4)))),
            id="one address",
        ),
        pytest.param(message(LEAST, orig(ports(6, 1, 2))), id="no addresses in the last tuple"),
        pytest.param(message(LEAST, attribute(uapi.CTA_ID, bytes(3))), id="short payload"),
        pytest.param(message(LEAST, attribute(uapi.CTA_ID, b"")), id="no payload"),
        pytest.param(
            message(LEAST, struct.pack("=HH", 3, 99)), id="attribute shorter than its header"
        ),
        pytest.param(message(LEAST, struct.pack("=HH", 0, 99)), id="attribute of length 0"),
        pytest.param(
            message(LEAST, struct.pack("=HH", 5, 99)), id="attribute longer than the message"
        ),
        pytest.param(message(LEAST, b"\0\0"), id="half a header"),
        pytest.param(
            message(orig(ip4(1, 2), struct.pack("=HH", 8, 99))),
            id="attribute longer than the one around it",
        ),
        pytest.param(
            message(LEAST, reply(ip4(3, 4), nested(uapi.CTA_TUPLE_PROTO, UNSOUND))),
            id="ports of the reply",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        conntrack.walk(data)


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ([number(1, 7, 8), UNSOUND], {"orig_packets": 7}),
        ([number(1, 7, 8), attribute(2, b"short")], {"orig_packets": 7}),
        ([struct.pack("=HH", 40, 1), number(2, 7, 8)], {}),
        ([b"\0\0"], {}),
        ([attribute(1, b""), number(2, 8, 8)], {"orig_bytes": 8}),
    ],
)
def test_of_a_nested_attribute_what_is_sound_is_kept(
    attributes: list[bytes], kept: dict[str, int]
) -> None:
    """As in the kernel's parser: a connection is not refused for its counters."""
    data = message(LEAST, nested(uapi.CTA_COUNTERS_ORIG, *attributes), number(uapi.CTA_ID, 5, 4))
    found = conntrack.walk(data)
    assert (found["orig_dst"], found["id"]) == (0x0A000002, 5)
    names = ("orig_packets", "orig_bytes")
    assert {name: found[name] for name in names if name in found} == kept
    assert [bool(int(found["present"]) & bit(name)) for name in names] == [
        name in kept for name in names
    ]
    protoinfo = nested(uapi.CTA_PROTOINFO, nested(uapi.CTA_PROTOINFO_TCP, UNSOUND))
    assert "tcp_state" not in conntrack.walk(message(LEAST, protoinfo))


def test_a_last_attribute_without_padding_is_whole() -> None:
    data = message(LEAST, struct.pack("=HH", 5, 99) + b"x")
    assert conntrack.walk(data)["orig_dst"] == 0x0A000002
