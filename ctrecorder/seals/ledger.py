"""The ledger of a key: a line for each epoch and for each use of the key.

Each line has the hash of the line before, and a seal with the key of its epoch: a line that is
removed, changed or put in later shows.  The text of a line is a JSON object, a tab, and the seal.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from ctrecorder.errors import FormatError

Json = dict[str, Any]
# The first line has the hash of none.
NO_LINE = "0" * 32
MAX_LINE_BYTES = 1 << 13
_PERSON = b"ctlog ledger"
_MEMBERS = {"epoch": int, "time": int, "what": str, "previous": str}


def file_name(key_id: str) -> str:
    """The name of the ledger of a key, in the folder of its segments."""
    return f"seal-{key_id}.ledger"


def key_of(name: str) -> str:
    """The id of the key whose ledger has this name; "" if it is no such name."""
    if not name.endswith(".ledger"):
        return ""
    digits = name.removeprefix("seal-").removesuffix(".ledger")
    is_id = len(digits) == 16 and not set(digits) - set("0123456789abcdef")
    return digits if is_id and name == file_name(digits) else ""


@dataclass(frozen=True)
class Line:
    """One line.

    `time`: of the wall clock, ns UTC.  `what`: as in ctlog(5).  `facts`: its other members.
    `hash`: by which the next line names it.  `text`, `seal`: what was sealed, and the seal.
    """

    epoch: int
    time: int
    what: str
    previous: str
    facts: Json
    hash: str
    text: bytes
    seal: bytes

    @property
    def onward(self) -> int:
        """The epoch that follows behind this line."""
        return int(self.facts["next"]) if self.what == "next" else self.epoch

    def is_right(self, key: bytes) -> bool:
        """Whether it was sealed with `key`, that of its epoch."""
        return hmac.compare_digest(self.seal, _seal(key, self.text))

    def named(self, name: str) -> str:
        """The text of a member; "" if there is none."""
        value = self.facts.get(name)
        return value if isinstance(value, str) else ""


def pack_line(key: bytes, epoch: int, time_ns: int, what: str, previous: str, facts: Json) -> bytes:
    """A line with its newline.  Raises FormatError if it is too long."""
    members = {**facts, "epoch": epoch, "time": time_ns, "what": what, "previous": previous}
    text = json.dumps(members, sort_keys=True, separators=(",", ":")).encode("ascii")
    line = text + b"\t" + _seal(key, text) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise FormatError("a line of the ledger is too long", offset=0)
    return line


def parse_line(line: bytes) -> Line:
    """A line, with or without its newline.  Raises FormatError."""
    text, _, seal = line.removesuffix(b"\n").partition(b"\t")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or any(
        type(facts.get(name)) is not kind for name, kind in _MEMBERS.items()
    ):
        raise FormatError("is not a line of a ledger", offset=0)
    epoch, time_ns, what, previous = (facts.pop(name) for name in _MEMBERS)
    onward = facts.get("next", epoch)
    if type(onward) is not int or not 0 <= epoch <= onward or (what == "next") != (epoch < onward):
        raise FormatError(f"a line that leads from epoch {epoch} to {onward!r}", offset=0)
    last = blake2b(text + b"\t" + seal, digest_size=16).hexdigest()
    return Line(epoch, time_ns, what, previous, facts, last, text, seal)


def line_hash(data: bytes) -> str:
    """The hash by which the ledger names a line of another file, such as a receipt."""
    return blake2b(data, digest_size=16).hexdigest()


def _seal(key: bytes, text: bytes) -> bytes:
    made = blake2b(text, digest_size=32, key=key, person=_PERSON)
    return made.hexdigest().encode("ascii")
