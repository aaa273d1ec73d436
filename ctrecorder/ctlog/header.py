"""The HEADER of a segment: its members with their types, and how they are packed.  ctlog(5) is the
specification.

The types of a stranger's file are checked here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import zstandard

from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.frame import FEATURES, FRAME, MAX_JSON, Json, load_json
from ctrecorder.ctlog.index import FORM_PACKED, WHOLE
from ctrecorder.errors import FormatError

# The value of `losses` where the recorder did not count the events that it lost.
NOT_COUNTED = "not counted"
# Members that are text or null in every segment; parsing refuses any other type.
_TEXT = ("previous", "host", "boot_id", "program")


# What most headers of squeezed segments say: with it a header of 800 bytes takes 150.  It is part
# of the format, in ctlog(5), and never changes.
DICTIONARY = (
    '{"omit":"remote","repaired":true,"protocols":["tcp","udp","icmp",'
    '"sctp"],"nat_only":true,"updates":true,"requires":["coverage",'
    '"grouped"],"squeezed":{"ids":true,"resolution":"ms","torn":0},'
    '"sysctls":{"nf_conntrack_acct":0,"nf_conntrack_events":2,'
    '"nf_conntrack_timestamp":0},"seals":{"epoch":1,"key":"",'
    '"seconds":900},"stateless":[],"ipv4":"off","ipv6":"unknown",'
    '"state":"crashed"}],{"boot_id":"-4","buffer_bytes":67108864,'
    '"chain":"","format":"ctlog","host":"router",'
    '"kernel":"6.12.0-1-amd64","nat_only":false,"netns":"4026531840",'
    '"previous":null,"previous":"20261231-000000.ctlog",'
    '"program":"ctrecorder 1.1.0","protocols":[],"replaces":[{"bytes":10,'
    '"last_hash":"","name":"20261231-000000.ctlog",'
    '"program":"ctrecorder 1.1.0","rows":10,"state":"closed"}],'
    '"requires":["coverage"],"sealed":false,"sequence":1,'
    '"squeezed":{"ids":false,"resolution":"us","torn":0},'
    '"state":{"clock":{"error_us":16000000,"offset_us":0,'
    '"synchronised":true},"events":1,"notrack":[],"timestamps":1,'
    '"tracking":{"ipv4":"on","ipv6":"on"}},'
    '"sysctls":{"nf_conntrack_acct":1,"nf_conntrack_events":1,'
    '"nf_conntrack_timestamp":1},"template":"%Y%m%d-%H%M%S.ctlog",'
    '"updates":false}'
)


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(
        DICTIONARY.encode(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )


@cache
def _unpacker() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(dict_data=_dictionary())


def packed(payload: bytes) -> bytes:
    """The payload of a HEADER in form PACKED, of its JSON."""
    compressor = zstandard.ZstdCompressor(
        level=19, dict_data=_dictionary(), write_checksum=False, write_dict_id=False
    )
    return compressor.compress(payload)


def plain(payload: Buffer, form: int) -> bytes:
    """The JSON in the payload of a HEADER in `form`.  Raises FormatError."""
    if form != FORM_PACKED:
        return bytes(payload)
    try:
        length = zstandard.get_frame_parameters(payload).content_size
        if length > MAX_JSON:
            raise FormatError(f"a packed header of {length} bytes", offset=FRAME.size)
        return _unpacker().decompress(payload, max_output_size=MAX_JSON)
    except zstandard.ZstdError as error:
        raise FormatError(f"not a packed header: {error}", offset=FRAME.size) from None


@dataclass(frozen=True)
class Replaced:
    """A segment that another one replaces: an entry of `replaces`.

    `last_hash`: hex digits.
    `state`: "closed"; "crashed" or "cut" (then bytes after its last whole block may be missing).
    `extra`: members that this version does not know.
    """

    name: str
    last_hash: str
    rows: int
    bytes: int
    state: str
    program: str
    extra: Json = field(default_factory=dict)

    @classmethod
    def parse(cls, entry: object) -> Replaced | None:
        """The entry; None if a member is missing or has the wrong type."""
        if not isinstance(entry, dict):
            return None
        if any(type(entry.get(name)) is not kind for name, kind in _REPLACED.items()):
            return None
        extra = {name: value for name, value in entry.items() if name not in _REPLACED}
        return cls(**{name: entry[name] for name in _REPLACED}, extra=extra)

    def to_json(self) -> Json:
        """The members, sorted by name."""
        return _sorted({**self.extra, **{name: getattr(self, name) for name in _REPLACED}})


_REPLACED = {"name": str, "last_hash": str, "rows": int, "bytes": int, "state": str, "program": str}


@dataclass(frozen=True, kw_only=True)
class Header:
    """The members of a HEADER.  None, or no entry in `replaces`: there is no such member.

    `extra`: members, unchanged, that this version does not know, that are null, or whose type is
    not that of ctlog(5).
    """

    format: str | None = None
    program: str | None = None
    requires: tuple[str, ...] | None = None
    sealed: bool | None = None
    host: str | None = None
    boot_id: str | None = None
    kernel: str | None = None
    netns: str | None = None
    state: Mapping[str, Any] | None = None
    protocols: tuple[str, ...] | None = None
    nat_only: bool | None = None
    updates: bool | None = None
    omit: str | None = None
    inside: tuple[str, ...] | None = None
    buffer_bytes: int | None = None
    sysctls: Mapping[str, Any] | None = None
    template: str | None = None
    chain: str | None = None
    sequence: int | None = None
    previous: str | None = None
    set_back: bool | None = None
    squeezed: Mapping[str, Any] | None = None
    legacy: Mapping[str, Any] | None = None
    recording: str | None = None
    losses: str | None = None
    utc_offset: int | None = None
    repaired: bool | None = None
    seals: Mapping[str, Any] | None = None
    replaces: tuple[Replaced, ...] = ()
    extra: Json = field(default_factory=dict)

    @classmethod
    def parse(cls, payload: Buffer, form: int = WHOLE) -> Header:
        """The header in the payload of a HEADER block in `form`.

        Raises FormatError if it is not a JSON object, if `format` is not "ctlog", or if a member of
        `_TEXT` is neither text nor null.
        """
        facts = load_json(plain(payload, form))
        if facts.get("format") != "ctlog":
            raise FormatError("the header does not say that it is a ctlog", offset=FRAME.size)
        for name in _TEXT:
            if not isinstance(facts.get(name, ""), str | None):
                raise FormatError(f"the header's `{name}` is no text", offset=FRAME.size)
        return cls.from_json(facts)

    @classmethod
    def from_json(cls, facts: Json) -> Header:
        """The header with the members `facts`.  Invalid entries of `replaces` are dropped."""
        known: Json = {}
        extra: Json = {}
        for name, value in facts.items():
            typed = _typed(name, value)
            if typed is None:
                extra[name] = value
            else:
                known[name] = typed
        return cls(**known, extra=extra)

    def to_json(self) -> Json:
        """All members, sorted by name; a typed one wins over one of the same name in `extra`."""
        known: Json = {}
        for name in _TYPES:
            value = getattr(self, name)
            if value is not None:
                known[name] = list(value) if isinstance(value, tuple) else value
        if self.replaces:
            known["replaces"] = [entry.to_json() for entry in self.replaces]
        return _sorted({**self.extra, **known})

    @property
    def is_squeezed(self) -> bool:
        """Whether ctsqueeze wrote the segment."""
        return self.squeezed is not None or "squeezed" in self.extra

    @property
    def is_repaired(self) -> bool:
        """Whether cttest --repair wrote the segment."""
        return self.repaired is not None or "repaired" in self.extra

    @property
    def has_legacy(self) -> bool:
        """Whether it is that of a file of the C ctrecorder, or of a segment made of one."""
        return self.legacy is not None or "legacy" in self.extra

    @property
    def needs_features(self) -> bool:
        """Whether it has `requires`, so that its blocks are of version 2."""
        return self.requires is not None or "requires" in self.extra

    @property
    def unknown_features(self) -> list[str]:
        """The names in `requires` that this version does not know."""
        required = self.extra.get("requires", self.requires or ())
        names = required if isinstance(required, list | tuple) else [None]
        found = {name if isinstance(name, str) else "what cannot be read" for name in names}
        return sorted(found - FEATURES)


# The type in JSON of each type of an attribute.  `replaces` and `extra` are not among them.
_JSON_TYPES = {
    "str | None": str,
    "bool | None": bool,
    "int | None": int,
    "Mapping[str, Any] | None": dict,
    "tuple[str, ...] | None": list,
}
_TYPES = {
    member.name: _JSON_TYPES[str(member.type)]
    for member in fields(Header)
    if str(member.type) in _JSON_TYPES
}


def _typed(name: str, value: object) -> object:
    """The value of a member as its attribute; None if the member or the type is not known."""
    if name == "replaces" and isinstance(value, list):
        return tuple(entry for each in value if (entry := Replaced.parse(each)) is not None)
    if type(value) is not _TYPES.get(name):
        return None
    if isinstance(value, list):
        return tuple(value) if all(isinstance(item, str) for item in value) else None
    return value


def _sorted(facts: Json) -> Json:
    return dict(sorted(facts.items()))
