"""Squeeze one segment or all closed segments of a folder, oldest first, several at once.

An error with one segment is logged, and the others are squeezed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from ctrecorder.archive import find, lock
from ctrecorder.archive.lock import PassedError
from ctrecorder.errors import (
    ArchiveError,
    CtrecorderError,
    ExitCode,
    FormatError,
    GoneError,
    NewerError,
)
from ctrecorder.lifetime import die_with
from ctrecorder.maintain.paired import Progress
from ctrecorder.maintain.squeeze import Result, SqueezeOptions, squeeze
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.terminal import count

# Signals that end a worker.  The pool itself sends SIGTERM when another worker was killed.
_ENDING = (signal.SIGTERM, signal.SIGINT)
# None: the segment was squeezed before.
Outcome = Result | CtrecorderError | None


@dataclass
class ArchiveSqueeze:
    """Squeezes segments, `jobs` at once, and logs the results.

    Methods return an exit code: OK, NO if a segment is damaged, FAILED for any other error.

    `waiting`: segments that were not squeezed for an error.
    """

    options: SqueezeOptions
    jobs: int
    log: Log
    waiting: int = 0

    def one(self, path: str, output: str | None) -> int:
        """Squeeze `path`, in its place or to `output`.  Raises as `squeeze` does."""
        with _sigterm_interrupts(), _progress_bar(os.path.getsize(path)) as bar:
            result = squeeze(path, self.options, output, bar.update)
        if result is None:
            raise ArchiveError(f"{path}: is squeezed already")
        self._log_result(result)
        return ExitCode.OK

    def folder(self, folder: str) -> int:
        """Squeeze every closed segment in `folder`.

        Raises ArchiveError if it cannot be read, or if a worker process is killed.
        """
        if not os.path.isdir(folder):
            raise ArchiveError(f"{folder}: no such folder")
        lock.clear_leavings(folder)
        found = find.find([folder], routers=False)
        for path, why in found.unreadable:
            self.log.send(messages.SKIPPED, why, path=path, error=why)
        code = ExitCode.FAILED if found.unreadable else ExitCode.OK
        with (
            _sigterm_interrupts(),
            _progress_bar(sum(_size(path) for path in found.segments)) as bar,
        ):
            for path, outcome in self._outcomes(found.segments, bar):
                with bar.external_write_mode(file=sys.stderr):
                    result = self._log_outcome(path, outcome)
                self.waiting += result != ExitCode.OK
                code = max(code, result)
        return code

    def _outcomes(self, paths: list[str], bar: Any) -> Iterator[tuple[str, Outcome]]:
        """Squeeze all; yields each path with its outcome, in order.

        Raises ArchiveError if a worker process is killed.
        """
        if self.jobs == 1:
            for path in paths:
                yield path, _attempt(path, self.options, bar.update)
            return
        with ProcessPoolExecutor(
            min(self.jobs, len(paths) or 1), initializer=_start, initargs=(os.getpid(),)
        ) as pool:
            running: list[tuple[str, Future[Outcome]]] = []
            try:
                running = [(path, pool.submit(_work, path, self.options)) for path in paths]
                for path, future in running:
                    outcome = future.result()
                    bar.update(outcome.bytes_before if isinstance(outcome, Result) else _size(path))
                    yield path, outcome
            except BrokenProcessPool as error:
                raise ArchiveError(
                    "a worker process was killed, by a signal or because memory was short: the "
                    "other segments are not squeezed, and each of them is unchanged; try again "
                    "with fewer at once (-j)"
                ) from error
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _log_outcome(self, path: str, outcome: Outcome) -> ExitCode:
        """Log the outcome; returns its exit code."""
        if isinstance(outcome, Result):
            self._log_result(outcome)
            return ExitCode.OK
        if outcome is None or isinstance(outcome, (PassedError, GoneError)):
            return ExitCode.OK  # squeezed before, live, or in use by another ctsqueeze
        text = str(outcome)
        if isinstance(outcome, FormatError):
            self.log.send(
                messages.DAMAGED, text, path=path, offset=outcome.offset, reason=outcome.reason
            )
            return ExitCode.NO
        self.log.send(messages.SKIPPED, text, path=path, error=text)
        return ExitCode.FAILED

    def _log_result(self, result: Result) -> None:
        share = 100 * result.bytes_after / max(result.bytes_before, 1)
        events, connections = (
            count(result.events, "event"),
            count(result.connections, "connection"),
        )
        text = (
            f"squeezed {result.path}: {events} in {result.bytes_before:,} bytes "
            f"to {connections} in {result.bytes_after:,} ({share:.0f} %)"
        )
        if result.state == "crashed":
            text += "; the recorder had crashed in it: squeezed up to its last whole block"
            if result.torn:
                text += f", without the {result.torn:,} bytes after it"
        if result.repeats:
            text += f"; {count(result.repeats, 'event')} came again and are counted once"
        if result.unheard:
            lost = count(result.unheard, "connection")
            text += f"; not reported, as dumps of the table show: at least {lost}, a GAP"
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


def _attempt(path: str, options: SqueezeOptions, progress: Progress | None) -> Outcome:
    """Squeeze a segment in its place."""
    try:
        return squeeze(path, options, progress=progress)
    except NewerError as error:
        return ArchiveError(str(error))  # a FormatError, but no damage
    except CtrecorderError as error:
        return error


def _work(path: str, options: SqueezeOptions) -> Outcome:
    """`_attempt` in a worker process.

    A signal ends the process without a word, when the segment is as it was before.
    """
    try:
        for number in _ENDING:
            signal.signal(number, signal.default_int_handler)
        return _attempt(path, options, None)
    except KeyboardInterrupt:
        os._exit(ExitCode.FAILED)
    finally:
        _die_of_signals()


def _size(path: str) -> int:
    """Bytes of the file; 0 if it is gone."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does.

    So the segment that is being squeezed is not changed, and no hidden file is left.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(parent: int) -> None:
    """The beginning of a worker process: without its parent, it would wait for ever."""
    if not die_with(parent):
        os._exit(ExitCode.FAILED)
    _die_of_signals()


def _die_of_signals() -> None:
    """In a worker process that waits: a handler of Python would end it with a traceback."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)


def _progress_bar(total: int) -> Any:
    """A progress bar over bytes on stderr; it shows nothing if stderr is no terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
        leave=False,
        file=sys.stderr,
    )
