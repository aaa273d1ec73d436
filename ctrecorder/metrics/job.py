"""The metrics of a command that works on a folder and ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

from ctrecorder.metrics.text import Sample
from ctrecorder.metrics.write import folder_of, write
from ctrecorder.service import config as settings

Values = Iterable[tuple[str, tuple[str, ...], float]]


def job_ended(
    command: str,
    verb: str,
    folder: str,
    values: Values,
    *,
    succeeded: bool,
    config: str | None = None,
) -> str:
    """Write the file of a job; returns what failed, "" for nothing.

    `command`: such as "ctsqueeze".  `verb`: of its metric ctrecorder_VERB_last_success_...
    `folder`: that it worked on, a full path.  `values`: name without "ctrecorder_", labels after
    the folder, value.  `succeeded`: only then there is a time of the last success: an alert fires
    where there is none, or an old one.

    Nothing is written of a folder that is in no setting: a copy that somebody checks once would be
    missed by an alert for ever.
    """
    if not _is_configured(folder, config):
        return ""
    samples = [Sample(f"ctrecorder_{name}", (folder, *more), value) for name, more, value in values]
    if succeeded:
        name = f"ctrecorder_{verb}_last_success_timestamp_seconds"
        samples.append(Sample(name, (folder,), time.time()))
    return write(f"{command}-{folder}", samples, folder_of(config))


def _is_configured(folder: str, path: str | None) -> bool:
    """If the segments of a recorder are in this folder, by the configuration."""
    read = settings.read(path)
    named = {read.choose(section).values.get("folder") for section in ("squeeze", "expire")}
    named.add(os.path.dirname(str(read.choose("record").values.get("template", ""))))
    return os.path.realpath(folder) in {os.path.realpath(str(one)) for one in named if one}


def by_label(name: str, counts: Mapping[str, int]) -> Values:
    """A sample for each label."""
    return [(name, (label,), count) for label, count in counts.items()]
