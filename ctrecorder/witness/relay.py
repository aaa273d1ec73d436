"""What a child prints, copied to a stream of this process: it has no terminal.

Through a terminal's descriptor the child could change the settings of root's terminal.  Nothing
here waits: a child that prints more than the stream takes, waits.
"""

from __future__ import annotations

import codecs
import os
import select
import time

from ctrecorder.terminal import printable

_READ_BYTES = 1 << 12
# A terminal takes so many when it takes any.
_WRITE_BYTES = 512


class Relay:
    """Copies from the descriptor `source`, which it closes, to `target`.

    Characters that are not printable are escaped, but for the ends of lines.
    """

    def __init__(self, source: int, target: int) -> None:
        os.set_blocking(source, False)
        self._source, self._target = source, target
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = b""

    @property
    def waits_for(self) -> tuple[int, int] | None:
        """The descriptor and the event of poll() at which to call `copy`; None: it has ended."""
        if self._waiting:
            return self._target, select.POLLOUT
        return (self._source, select.POLLIN) if self._source >= 0 else None

    def copy(self) -> bool:
        """Read, or write what was read, once; False if there is nothing to do now."""
        try:
            if self._waiting:
                written = os.write(self._target, self._waiting[:_WRITE_BYTES])
                self._waiting = self._waiting[written:]
                return True
            data = os.read(self._source, _READ_BYTES) if self._source >= 0 else b""
        except BlockingIOError:
            return False
        except OSError:  # nobody reads it: the child is to know
            data = self._waiting = b""
        text = self._decoder.decode(data, final=not data)
        self._waiting = "\n".join(printable(line) for line in text.split("\n")).encode()
        if not data:
            self._close()
        return bool(data)

    def finish(self, deadline: float) -> None:
        """Copy what is there, until the monotonic time `deadline`, and end."""
        while (waits := self.waits_for) and time.monotonic() < deadline:
            poll = select.poll()
            poll.register(*waits)
            left = deadline - time.monotonic() if self._waiting else 0.0
            if not poll.poll(max(left, 0.0) * 1000):
                break
            self.copy()
        self._waiting = b""
        self._close()

    def say(self, line: str) -> None:
        """Print a line of this process's own behind what was read."""
        self._waiting += printable(line).encode() + b"\n"

    def _close(self) -> None:
        if self._source >= 0:
            os.close(self._source)
            self._source = -1
