"""Forked processes that work for this one: each sends what it finds through a pipe, and none
outlives its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import struct
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode

_LENGTH = struct.Struct("<I")
_ENDING = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> bool:
    """Have this process killed when the process `parent`, its parent, ends; False if it has ended.

    A change of the user resets that.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


class Worker:
    """A process that works until its pipe is full, or all is sent."""

    def __init__(self, work: Callable[[], Iterable[Any]]) -> None:
        """`work`: yields what is sent.  All else that it changes stays in the process."""
        read_end, write_end = os.pipe()
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            os.close(read_end)
            _run(parent, write_end, work)
        os.close(write_end)
        # Without a buffer: what waits in the pipe is seen by `select`.
        self._pipe = os.fdopen(read_end, "rb", buffering=0)

    def fileno(self) -> int:
        """Of the pipe, which can be read when the next thing was sent."""
        return self._pipe.fileno()

    def receive(self) -> Any:
        """The next thing that it sent; there must be one.

        Raises ArchiveError if it was killed, and the error that ended its work.
        """
        found = pickle.loads(self._read(_LENGTH.unpack(self._read(_LENGTH.size))[0]))
        if isinstance(found, ArchiveError):
            raise found
        return found

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._pipe.read(length - len(data))
            if not part:
                raise ArchiveError(
                    "a process that read segments was killed, by a signal or because memory was "
                    "short: the answer is not complete; try again with fewer at once (-j)"
                )
            data += part
        return bytes(data)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        self._pipe.close()


def _run(parent: int, pipe: int, work: Callable[[], Iterable[Any]]) -> None:
    """Do the work of a process.  Never returns: nothing of the parent runs."""
    code = ExitCode.FAILED
    try:
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        if die_with(parent):
            with os.fdopen(pipe, "wb", buffering=0) as out:
                try:
                    for item in work():
                        _send(out, item)
                except ArchiveError as error:
                    _send(out, error)
                except CtrecorderError as error:
                    _send(out, ArchiveError(str(error)))
            code = ExitCode.OK
    finally:
        os._exit(code)


def _send(out: BinaryIO, item: Any) -> None:
    data = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[out.write(view) :]
