"""Names of segments: strftime templates, expanded in UTC."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

from ctrecorder.errors import UsageError
from ctrecorder.times import SECOND


def split_template(template: str) -> tuple[str, str]:
    """The folder and the strftime pattern of the names in it.

    Raises UsageError for a template that could leave its folder.
    """
    folder, pattern = os.path.split(template)
    if "%" in folder:
        raise UsageError(f"{template}: only the file name can have %-fields, not the folder")
    if not pattern:
        raise UsageError(
            f"{template}: is a folder; add a file name, for example "
            f"{os.path.join(folder, 'ct-%Y%m%d-%H%M')}"
        )
    if "\0" in template:
        raise UsageError("a template cannot contain a NUL")
    return folder or ".", pattern


def expand_template(template: str, time_ns: int) -> str:
    """The path that `template` gives at `time_ns`, UTC.  Raises UsageError."""
    folder, pattern = split_template(template)
    moment = datetime.fromtimestamp(time_ns // SECOND, UTC)
    # glibc computes %s from local time, and `moment` is UTC.
    pattern = re.sub(
        r"%(.)", lambda code: str(time_ns // SECOND) if code[1] == "s" else code[0], pattern
    )
    name = moment.strftime(pattern)
    if (
        "/" in name
        or name in ("", ".", "..")
        or not name.isprintable()
        or len(os.fsencode(name)) > 255
    ):
        raise UsageError(f"{template}: gives {name!r}, which is not a file name")
    return os.path.join(folder, name)
