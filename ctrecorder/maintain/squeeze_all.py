"""ctsqueeze over an archive: every closed segment, oldest first, several at once, with progress for
who watches.

What goes wrong with one segment is said, and the others are squeezed all the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from ctrecorder.archive import find, lock
from ctrecorder.archive.lock import BusyError
from ctrecorder.errors import (
    ArchiveError,
    CtrecorderError,
    ExitCode,
    FormatError,
    GoneError,
    NewerError,
)
from ctrecorder.maintain.squeeze import Progress, Result, SqueezeOptions, squeeze
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.terminal import count


@dataclass
class ArchiveSqueeze:
    """`one` segment, or all of a `folder`; both return the exit code: 0, 1 if a segment is damaged,
    2 if something could not be done.
    """

    settings: SqueezeOptions
    jobs: int
    log: Log

    def one(self, path: str, output: str | None) -> int:
        """Squeeze `path`, in its place or to `output`.  Raises what `squeeze` does."""
        with _stopped_softly(), _bar(os.path.getsize(path)) as bar:
            result = squeeze(path, self.settings, output, bar.update)
        if result is None:
            raise ArchiveError(f"{path}: is squeezed already")
        self._log_result(result)
        return ExitCode.OK

    def folder(self, folder: str) -> int:
        """Squeeze every closed segment in `folder`.  Raises ArchiveError if it cannot be read."""
        if not os.path.isdir(folder):
            raise ArchiveError(f"{folder}: no such folder")
        lock.clear_leavings(folder)
        found = find.find([folder])
        for path, why in found.unreadable:
            self.log.send(messages.SKIPPED, why, path=path, error=why)
        code = ExitCode.FAILED if found.unreadable else ExitCode.OK
        with _stopped_softly(), _bar(sum(_size(path) for path in found.segments)) as bar:
            for path, result in self._all(found.segments, bar):
                with bar.external_write_mode(file=sys.stderr):
                    code = max(code, self._account(path, result))
        return code

    def _all(
        self, paths: list[str], bar: Any
    ) -> Iterator[tuple[str, Result | CtrecorderError | None]]:
        """Each segment, and what became of it."""
        if self.jobs == 1:
            for path in paths:
                yield path, _attempt(path, self.settings, bar.update)
            return
        with ProcessPoolExecutor(min(self.jobs, len(paths) or 1), initializer=_worker) as pool:
            running: list[tuple[str, Future[Result | CtrecorderError | None]]] = []
            try:
                running = [
                    (path, pool.submit(_attempt, path, self.settings, None)) for path in paths
                ]
                for path, future in running:
                    result = future.result()
                    bar.update(
                        _size(path)
                        if result is None or isinstance(result, CtrecorderError)
                        else result.bytes_before
                    )
                    yield path, result
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _account(self, path: str, result: Result | CtrecorderError | None) -> ExitCode:
        if isinstance(result, Result):
            self._log_result(result)
        elif isinstance(result, FormatError):
            self.log.send(
                messages.DAMAGED, str(result), path=path, offset=result.offset, reason=result.reason
            )
            return ExitCode.NO
        elif isinstance(result, CtrecorderError) and not isinstance(
            result, (BusyError, GoneError)
        ):  # those: another command's now
            self.log.send(messages.SKIPPED, str(result), path=path, error=str(result))
            return ExitCode.FAILED
        return ExitCode.OK

    def _log_result(self, result: Result) -> None:
        share = 100 * result.bytes_after / max(result.bytes_before, 1)
        what = f"{count(result.events, 'event')} in {result.bytes_before:,} bytes to {count(result.connections, 'connection')}"
        text = f"squeezed {result.path}: {what} in {result.bytes_after:,} ({share:.0f} %)"
        if result.state == "crashed":
            text += "; the recorder had crashed in it: squeezed up to its last whole block"
            text += f", {result.torn:,} bytes after that were none" if result.torn else ""
        text += f"; last hash {result.last_hash}, before {result.replaced_hash}"
        self.log.send(
            messages.SQUEEZED,
            text,
            path=result.path,
            rows=result.events,
            connections=result.connections,
            bytes_before=result.bytes_before,
            bytes_after=result.bytes_after,
            last_hash=result.last_hash,
            replaced_hash=result.replaced_hash,
        )


def _attempt(
    path: str, settings: SqueezeOptions, progress: Progress | None
) -> Result | CtrecorderError | None:
    try:
        return squeeze(path, settings, progress=progress)
    except NewerError as error:
        return ArchiveError(str(error))  # not damage
    except CtrecorderError as error:
        return error


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


@contextlib.contextmanager
def _stopped_softly() -> Iterator[None]:
    """SIGTERM ends the work as SIGINT does: the segment at hand stays as it was, and nothing is
    left beside it.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _worker() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _bar(total: int) -> Any:
    """A progress bar over bytes on stderr; one that shows nothing if that is no terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
        leave=False,
        file=sys.stderr,
    )
