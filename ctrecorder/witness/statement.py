"""What a scribe may log as root: an entry that it makes anew of fields that it checked.

A command that gave up root asks for it, and a file that it read may control that command.  So the
text is not taken: in a log of text it could be read as that of another command about another
folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import replace

from ctrecorder.service import messages
from ctrecorder.service.login import login_user
from ctrecorder.service.messages import Message
from ctrecorder.service.unsent import Entry
from ctrecorder.terminal import printable

KINDS: dict[str, tuple[Message, ...]] = {
    "ctsqueeze": (messages.SQUEEZED,),
    "ctexpire": (messages.EXPIRED, messages.HOLD),
    "cttest": (messages.REPAIRED,),
    "ctship": (),
    "ctwho": (messages.HOLD,),
}
_NUMBER, _HASH, _TIME = r"[0-9]{1,20}", r"[0-9a-f]{32}", r"[0-9.:TZUC+ -]{0,40}"
# Values of fields; a path and the reason of a hold have checks of their own.
_VALUES = {
    "rows": _NUMBER,
    "connections": _NUMBER,
    "bytes": _NUMBER,
    "bytes_before": _NUMBER,
    "bytes_after": _NUMBER,
    "holes": _NUMBER,
    "last_hash": _HASH,
    "replaced_hash": _HASH,
    "since": _TIME,
    "until": _TIME,
    "action": r"[a-z ]{1,20}",
    "uid": _NUMBER,
    "login": r".{1,256}",
}
_REASON = r"[a-z0-9, ]{1,100}"  # of a deletion
_MAX_PATH, _MAX_REASON = 4096, 4096
_HASHES = "last hash {last_hash}, before {replaced_hash}"
# In the form of logged.TEXTS.
_TEXTS = {
    messages.SQUEEZED.id: "squeezed {path}: {rows} rows to {connections} connections, "
    "{bytes_before} to {bytes_after} bytes; " + _HASHES,
    messages.EXPIRED.id: "deleted {path}: {reason}; it contained {rows} rows from {since} to "
    "{until}, {bytes} bytes; last hash {last_hash}",
    messages.REPAIRED.id: "repaired {path}: from {repaired}, {rows} rows, {holes} gaps; " + _HASHES,
    # The reason is not at the end, where the hash of an anchor is.
    messages.HOLD.id: "hold {action}: from {since} to {until}, because: {reason} (user {login})",
}


def statement(entry: Entry, command: str, folders: Collection[str]) -> Entry | None:
    """The entry to log as root that `command` asks for, which works on `folders`; None if it is not
    one that this command makes about them.
    """
    if entry.command != command or entry.kind not in KINDS[command]:
        return None
    if set(entry.fields) != set(entry.kind.fields):
        return None
    if not all(_is_right(entry.kind, *field, folders) for field in entry.fields.items()):
        return None
    fields = dict(entry.fields)
    if entry.kind is messages.HOLD:
        user = login_user()  # that of this process
        fields |= {"uid": str(user.uid), "login": user.name}
    text = printable(_TEXTS[entry.kind.id].format_map(fields))
    return replace(entry, text=text, fields=fields, stored=False)


def _is_right(kind: Message, name: str, value: str, folders: Collection[str]) -> bool:
    if name in ("path", "repaired"):
        return _is_file_of(value, folders)
    if name == "reason" and kind is messages.HOLD:
        return len(value) <= _MAX_REASON
    if kind is messages.EXPIRED and (name, value) == ("last_hash", ""):
        return True  # a file without hashes
    pattern = _REASON if name == "reason" else _VALUES[name]
    return re.fullmatch(pattern, value) is not None


def _is_file_of(path: str, folders: Collection[str]) -> bool:
    """If it is the normal path of a file in one of the folders, that a text can have."""
    folder, name = os.path.split(path)
    if folder not in folders or name in ("", ".", "..") or len(path) > _MAX_PATH:
        return False
    # ": " ends a path in a text.
    return ": " not in path and not re.search(r"[\x00-\x1f\x7f]", path)
