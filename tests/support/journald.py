"""The socket of a journald for commands in a mount namespace of their own.

The kernel stamps each entry with the uid of its sender, as for the real one.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.unit.service.test_journal import fields_of

_ENTER = "mount -t tmpfs none /run && mkdir -p {there} && mount --bind {here} {there} && exec {run}"
_CREDENTIALS = struct.Struct("iii")
Done = subprocess.CompletedProcess[str]


class Journald:
    """`entries`: what was sent, as `journalctl -o json` has it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ctrecorder-test-")
        os.chmod(self._folder.name, 0o755)
        path = os.path.join(self._folder.name, "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(path)
        os.chmod(path, 0o666)
        self.entries: list[dict[str, str]] = []

    def __enter__(self) -> Journald:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._folder.cleanup()

    def command(self, *words: object) -> list[str]:
        """The command with /run/systemd/journal/socket."""
        run = shlex.join(map(str, words))
        here = self._folder.name
        script = _ENTER.format(there="/run/systemd/journal", here=here, run=run)
        return ["unshare", "--mount", "sh", "-c", script]

    def run(self, *words: object, unit: str = "session-1.scope") -> Done:
        """Run the command, in `unit`."""
        process = subprocess.Popen(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None:  # what it says fits into the pipes
            self.read(unit)
            time.sleep(0.005)
        self.read(unit)
        out, err = process.communicate()
        return Done(process.args, process.returncode, out, err)

    def read(self, unit: str) -> None:
        """Take what was sent."""
        self._socket.setblocking(False)
        while True:
            try:
                data, control, _, _ = self._socket.recvmsg(1 << 18, 1 << 10)
            except BlockingIOError:
                return
            ((_, _, stamp),) = control
            uid = _CREDENTIALS.unpack(stamp[: _CREDENTIALS.size])[1]
            sent = {k: v for k, v in fields_of(data).items() if not k.startswith("_")}
            self.entries.append({**sent, "_UID": str(uid), "_SYSTEMD_UNIT": unit})

    def save(self, path: Path) -> Path:
        """Append the entries to `path`."""
        with path.open("a") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in self.entries)
        self.entries = []
        return path
