"""The settings of a recorder: the command line over the file, and instead of a wrong setting the
last value that was right.

These values are stored in the folder that systemd gives a unit for its state.  A recorder that is
started by hand has none: it does not start with a wrong setting that limits what is recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ctrecorder.declared.setting import WhenWrong
from ctrecorder.declared.values import networks
from ctrecorder.errors import ArchiveError, CtrecorderError, UsageError
from ctrecorder.folder import Folder, open_file
from ctrecorder.kernel.netns import Namespace
from ctrecorder.record.options import RecorderOptions
from ctrecorder.service import config, messages
from ctrecorder.service.config import Choice, Configuration
from ctrecorder.service.key import read_key
from ctrecorder.service.log import Log
from ctrecorder.service.settings import SECTIONS
from ctrecorder.times import HOUR

SECTIONS_READ = ("record", "seal")
REMIND_NS = HOUR
_MODE = 0o640
# A few hundred bytes; a longer file is not ours.
_MAX_BYTES = 1 << 16

Texts = dict[str, dict[str, str]]


class Configured:
    """The settings that a recorder uses.

    `given`: those of the command line, by name; None: not given.  `path`: the configuration, None:
    the default file.

    Attributes:
    `values`: of [record], by name.  `seal`: of [seal].
    `notices`: what is wrong and what is used instead, a line each.
    """

    def __init__(
        self, given: Mapping[str, Any], path: str | None, namespace: Namespace | None = None
    ) -> None:
        names = [one.name for one in SECTIONS["record"].settings]
        self._given = {name: given[name] for name in names if given.get(name) is not None}
        if "template" in self._given:
            self._given["template"] = os.path.abspath(self._given["template"])
        self._path = None if path is None else os.path.abspath(path)
        self._namespace = namespace
        self._store = Store(path)
        self._last_good = self._store.load()
        self._texts: Texts = {}
        self._key = b""
        self.seal: Mapping[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.notices: list[str] = []
        self._due = 0  # when they are logged again, monotonic ns

    def read(self) -> RecorderOptions:
        """Read the file; returns the options.

        Raises UsageError if the recorder must not record with them: then nothing has changed.
        """
        read = config.read(self._path)
        record, seal = (
            read.choose(name, given=self._given, last_good=self._last_good.get(name))
            for name in SECTIONS_READ
        )
        metrics = read.choose("metrics")
        if record.values.get("omit") is not None or self._given.get("omit"):
            self._check_inside(read, record)
        record.raise_refusals()
        seal.raise_refusals()
        if "template" not in self._given:
            self._check_folder(record)
        key = self._read_key(seal)
        values = {**record.values, **self._given}
        options = self._options(values, key, str(metrics.values["directory"] or ""))
        self._texts, self._key = {"record": record.texts, "seal": seal.texts}, key
        self.seal = {**seal.values, "key": seal.texts["key"]}
        self.values = values
        self.notices = [*record.notices, *seal.notices, *metrics.notices]
        return options

    def _check_folder(self, record: Choice) -> None:
        """Take the last template if the folder of this one is not there or may not be written."""
        text, before = record.texts["template"], self._last_good.get("record", {}).get("template")
        if before is None or before == text:
            return  # the disk of the folder may be missing: the error says so
        if _is_writable(text) or not _is_writable(before):
            return
        record.texts["template"] = record.values["template"] = before
        folder = os.path.dirname(text)
        problem = f"template = {text}: {folder} is not a folder that this user may write"
        record.notices.append(f"{problem}; using template = {before}")

    def _check_inside(self, read: Configuration, record: Choice) -> None:
        """Take the last `inside`, if that of the file is wrong: it decides what is left out."""
        for problem in read.problems:
            if not problem.is_about("record", "inside"):
                continue
            before = self._last_good.get("record", {}).get("inside")
            if before is None:
                record.refusals.append(str(problem))
                return
            record.texts["inside"], record.values["inside"] = before, networks(before)
            record.notices[:] = [
                one for one in record.notices if not one.startswith(f"{problem}; using inside =")
            ]
            record.notices.append(f"{problem}; using inside = {before}".rstrip())

    def _read_key(self, seal: Choice) -> bytes:
        """The key; that of the last setting if this one cannot be read.  Raises UsageError."""
        text, before = seal.texts["key"], self._last_good.get("seal", {}).get("key")
        if self._texts.get("seal") == seal.texts:
            # At a reload, root may be given up, and with it the right to read the file.
            return self._key
        try:
            return read_key(text)
        except UsageError as error:
            if not before or before == text:
                raise
            key = read_key(before)
            seal.texts["key"] = before
            seal.notices.append(f"{error}; using key = {before}")
            return key

    def used(self, log: Log, now: int) -> None:
        """The recorder runs with what was read.

        Store it for a later start, and log what is wrong in the file.  `now`: monotonic ns.
        """
        try:
            self._keep()
        except (ArchiveError, OSError) as error:
            text = f"the settings cannot be stored for a later start: {error}"
            log.send(messages.SKIPPED, text, path=self._store.path, error=str(error))
        self._remind_at(now, log)

    def refused(self, error: CtrecorderError, log: Log, now: int) -> None:
        """The recorder cannot take over what was read: log it.  `now`: monotonic ns."""
        self.notices = [f"{error}; recording continues with the settings of before"]
        self._remind_at(now, log)

    def remind(self, log: Log, now: int) -> None:
        """Log what is wrong again if an hour has passed.  `now`: monotonic ns."""
        if self.notices and self._due <= now:
            self._remind_at(now, log)

    def _remind_at(self, now: int, log: Log) -> None:
        self._due = now + REMIND_NS
        for notice in self.notices:
            log.send(messages.WRONG_SETTING, notice, problem=notice)

    def _keep(self) -> None:
        """Store the texts that may be used instead of wrong ones.  Raises ArchiveError, OSError."""
        kept: Texts = {}
        for section, texts in self._texts.items():
            names = [
                one.name
                for one in SECTIONS[section].settings
                if one.when_wrong is WhenWrong.LAST_GOOD or one.name == "inside"
            ]
            # A setting of the command line was not taken from the file.
            before = self._last_good.get(section, {})
            found = {name: (before if name in self._given else texts).get(name) for name in names}
            kept[section] = {name: text for name, text in found.items() if text is not None}
        if kept != self._last_good:
            self._last_good = kept
            self._store.save(kept)

    def _options(self, values: Mapping[str, Any], key: bytes, metrics: str) -> RecorderOptions:
        config_name = os.path.basename(self._path or config.DEFAULT_PATH)
        return RecorderOptions(
            template=values["template"],
            rotate_minutes=values["rotate"],
            protocols=values["protocols"],
            nat_only=values["nat_only"],
            omit=values["omit"],
            inside=values["inside"],
            updates=values["updates"],
            resync=values["resync"],
            buffer_bytes=values["buffer"] << 10,
            block_rows=values["rows"],
            memory_bytes=values["memory"] << 20,
            sync_seconds=values["sync"],
            mode=values["mode"],
            key=key,
            namespace=self._namespace,
            accept_notrack=values["accept_notrack"],
            probe=values["probe"],
            recording=os.path.basename(self._namespace.name)
            if self._namespace
            else os.path.splitext(config_name)[0],
            metrics=metrics,
        )


class Store:
    """The file of the last right values, one for each configuration: texts by section and name."""

    def __init__(self, path: str | None) -> None:
        # systemd sets it for a unit with StateDirectory=.
        self._folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        self._name = f"{os.path.basename(path or config.DEFAULT_PATH)}.last-good"

    @property
    def path(self) -> str:
        return os.path.join(self._folder, self._name)

    def load(self) -> Texts:
        """The values; {} if there are none."""
        if not self._folder:
            return {}
        try:
            with os.fdopen(open_file(self.path), "rb") as file:
                data = file.read(_MAX_BYTES + 1)
            found = json.loads(data) if len(data) <= _MAX_BYTES else {}
            return {
                section: {str(name): str(text) for name, text in found[section].items()}
                for section in SECTIONS_READ
                if section in found
            }
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def save(self, texts: Texts) -> None:
        """Replace the file.  Raises ArchiveError, OSError."""
        if not self._folder:
            return
        aside = f".{self._name}.{os.getpid()}"
        with Folder(self._folder) as folder:
            folder.remove(aside)
            descriptor = folder.create(aside, _MODE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(texts, file)
                file.flush()
                os.fsync(descriptor)
            folder.rename(aside, self._name)


def _is_writable(template: str) -> bool:
    """If the folder of segments is there and may be written."""
    return os.access(os.path.dirname(template), os.W_OK | os.X_OK)
