"""Names of segments: strftime templates, expanded in UTC."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

from ctrecorder.errors import UsageError


def split_template(template: str) -> tuple[str, str]:
    """The folder and the strftime pattern of the names in it.

    Raises UsageError for a template that could leave its folder.
    """
    folder, pattern = os.path.split(template)
    if "%" in folder:
        raise UsageError(f"{template}: only the file's name may have %-codes, not its folder")
    if not pattern:
        raise UsageError(
            f"{template}: names a folder; give a file name too, for example {os.path.join(folder, 'ct-%Y%m%d-%H%M')}"
        )
    if "\0" in template:
        raise UsageError("a template cannot hold a NUL")
    return folder or ".", pattern


def expand_template(template: str, time_ns: int) -> str:
    """The path that `template` gives at `time_ns`, UTC.  Raises UsageError."""
    folder, pattern = split_template(template)
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    # glibc takes %s for a local time, and the moment is in UTC.
    pattern = re.sub(
        r"%(.)", lambda code: str(time_ns // 1_000_000_000) if code[1] == "s" else code[0], pattern
    )
    name = moment.strftime(pattern)
    if (
        "/" in name
        or name in ("", ".", "..")
        or not name.isprintable()
        or len(os.fsencode(name)) > 255
    ):
        raise UsageError(f"{template}: gives {name!r}, which is no file name")
    return os.path.join(folder, name)
