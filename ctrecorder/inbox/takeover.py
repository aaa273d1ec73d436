"""Takes segments over from the folders that routers write to an archive that no router can write.

What is in such a folder is a stranger's, who may change it at any moment: each file is copied, and
the copy is checked.  A segment moves to the place that its name says if that is what it is, and if
nothing of the recording has that number yet: nothing that was taken over is ever replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO

from ctrecorder.archive.open import open_segment
from ctrecorder.archive.renew import renew
from ctrecorder.archive.routers import CHAIN
from ctrecorder.check.collect import check_segment
from ctrecorder.declared import values
from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode, why
from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.shipping.waiting import shipped_name
from ctrecorder.times import DAY

_NAME = re.compile(r"([0-9]{8,12})-[0-9a-f]{16}\.ctlog")
# Of a copy that is not checked yet: hidden, so no question reads it.
_ASIDE = ".taken"
# A file is left so long where it arrived: a run of ctship that is interrupted finds it there.
_LEFT_NS = DAY
_READ = 1 << 20


class RefusedError(CtrecorderError):
    """A file that is not taken over."""


@dataclass
class TakeOver:
    """A run: from the folders in `inbox`, one a router, to the archive `folder`."""

    inbox: str
    folder: str
    log: Log
    _code: ExitCode = field(default=ExitCode.OK)

    def run(self) -> int:
        """Returns the exit code: NO if something was refused, FAILED if something could not be
        read or written.  Raises ArchiveError.
        """
        with Folder(self.inbox) as inbox, Folder(self.folder) as archive:
            lock = acknowledged.take_lock(archive)
            if lock is None:
                what = f"{self.folder}: another ctship works there"
                self.log.send(messages.SKIPPED, what, path=self.folder, error=what)
                return ExitCode.OK
            try:
                for router in _names(inbox):
                    path = os.path.join(self.inbox, router)
                    self._try(path, partial(self._router, inbox, archive, router))
                renew(self.folder)
            finally:
                lock.release()
        return self._code

    def _try(self, path: str, work: Callable[[], None]) -> None:
        """Do a part of the work; what fails is reported, and the rest is done."""
        try:
            work()
        except RefusedError as error:
            self._report(path, str(error), ExitCode.NO)
        except CtrecorderError as error:
            self._report(path, str(error), ExitCode.FAILED)
        except OSError as error:
            self._report(path, why(error), ExitCode.FAILED)

    def _report(self, path: str, problem: str, code: ExitCode) -> None:
        what = f"{path}: not taken over: {problem}"
        self.log.send(messages.NOT_SHIPPED, what, path=path, to=self.folder, error=problem)
        self._code = max(self._code, code, key=(ExitCode.OK, ExitCode.NO, ExitCode.FAILED).index)

    def _router(self, inbox: Folder, archive: Folder, router: str) -> None:
        """The recordings of a router, whose folder has its name and in it its name again."""
        try:
            values.router(router)
        except ValueError:
            raise RefusedError("is no name of a router") from None
        with Folder(router, within=inbox) as account:
            for name in _names(account):
                if name != router:
                    path = os.path.join(account.path, name)
                    self._report(path, f"is not of the router {router}", ExitCode.NO)
                    continue
                with Folder(name, within=account) as sent, archive.below(router, 0o750) as kept:
                    for chain in _names(sent):
                        path = os.path.join(sent.path, chain)
                        self._try(path, partial(self._recording, sent, kept, chain))

    def _recording(self, sent: Folder, kept: Folder, chain: str) -> None:
        if not CHAIN.fullmatch(chain):
            raise RefusedError("is no name of a recording")
        with Folder(chain, within=sent) as source, kept.below(chain, 0o750) as target:
            target.remove(_ASIDE)
            numbers = {one.partition("-")[0] for one in _names(target)}
            for name in _names(source):
                path = os.path.join(source.path, name)
                self._try(path, partial(self._segment, source, target, name, numbers))

    def _segment(self, source: Folder, target: Folder, name: str, numbers: set[str]) -> None:
        """`numbers`: of the segments in `target`."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise RefusedError("is no name of a segment")
        with os.fdopen(source.open(name), "rb") as file:
            status = os.fstat(file.fileno())
            if target.exists(name):
                with os.fdopen(target.open(name), "rb") as other:
                    same = _sha256(file) == _sha256(other)
                if not same:
                    raise RefusedError("the archive has another file with this name")
            else:
                if match[1] in numbers:
                    raise RefusedError("the archive has another segment with this number")
                self._copy(file.fileno(), status.st_size, target, name)
                numbers.add(match[1])
                path = os.path.join(target.path, name)
                what = f"took over {path}: {status.st_size:,} bytes"
                facts = {"bytes": status.st_size, "name": name, "how": "checked"}
                self.log.send(messages.SHIPPED, what, path=path, to=self.folder, **facts)
        if status.st_ctime_ns < time.time_ns() - _LEFT_NS:
            source.unlink(name)

    def _copy(self, descriptor: int, size: int, target: Folder, name: str) -> None:
        """Copy an open file, check the copy, and give it its name.  Raises RefusedError.

        `size`: bytes that it had; one that grows on, faster than it is copied, would fill the disk.
        """
        aside = target.create(_ASIDE, 0o640)
        try:
            while data := os.read(descriptor, min(_READ, size)):
                size -= len(data)
                with memoryview(data) as left:
                    at = 0
                    while at < len(left):
                        at += os.write(aside, left[at:])
            os.fsync(aside)
            _check(os.path.join(target.path, _ASIDE), os.path.basename(target.path), name)
            target.link(aside, name)
        finally:
            os.close(aside)
            target.remove(_ASIDE)
        target.sync()


def _check(path: str, chain: str, name: str) -> None:
    """Raises RefusedError if the file is damaged, or is not what its name says."""
    try:
        findings = check_segment(path).findings
        with open_segment(path) as segment:
            is_closed, called = segment.state == "closed", shipped_name(segment)
    except CtrecorderError as error:
        raise RefusedError(str(error).replace(path, name)) from error
    if findings:
        raise RefusedError(str(findings[0]).replace(path, name))
    if not is_closed or called != f"{chain}/{name}":
        raise RefusedError("it is not the closed segment that its name says")


def _names(folder: Folder) -> Iterator[str]:
    """The names in a folder, without hidden ones: rsync writes such."""
    with contextlib.suppress(FileNotFoundError):
        try:
            yield from sorted(
                one for one in os.listdir(folder.descriptor) if not one.startswith(".")
            )
        except PermissionError as error:
            raise ArchiveError(f"{folder.path}: {why(error)}") from error


def _sha256(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while data := file.read(_READ):
        found.update(data)
    return found.hexdigest()
