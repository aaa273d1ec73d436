"""A router that ships and a collector that receives, each in a network namespace: a real sshd and a
real rsync daemon, whose link can be cut.

Accounts, host keys and known hosts are in a mount namespace: nothing on the machine is changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from pyroute2 import netns

from tests.support import links, unpacked
from tests.support.router import CHECKOUT

# Two runs of the tests must not meet.
ROUTER, COLLECTOR = (f"ctship-{name}-{os.getpid()}" for name in ("router", "centre"))
HOST = "192.0.2.2"
ACCOUNTS = {"sshd": 64_001, "ship": 64_002, "edge1": 64_003, "edge2": 64_004}
_SSHD = """\
HostKey {here}/host_key
AuthorizedKeysFile {here}/keys/%u
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
MaxStartups 100
SetEnv PATH={path}
"""
_RSYNCD = """\
pid file = {here}/rsyncd.pid
log file = {here}/rsyncd.log
use chroot = no
uid = ship
gid = ship
[log]
path = {here}/module
read only = no
write only = yes
"""


class Collector:
    """`here`: all files of it.  `folder`: where ssh puts the segments.  `module`: where rsync does.

    `ssh`, `daemon`: the two targets.
    """

    def __init__(self, here: Path) -> None:
        self.here = here
        here.chmod(0o755)
        self.folder, self.module, self.key = here / "central", here / "module", here / "key"
        self.ssh, self.daemon = f"ssh://ship@{HOST}:{self.folder}", f"rsync://{HOST}/log"
        self.daemon += "/all"
        self._running: list[subprocess.Popen[bytes]] = []
        for name in (ROUTER, COLLECTOR):
            links.delete(name)
            links.create(name)
        self._connect()
        self._write_files()
        self._start(["sshd", "-D", "-e", "-f", str(here / "sshd_config")])
        self._start(["rsync", "--daemon", "--no-detach", f"--config={here}/rsyncd.conf"])
        self._wait()

    def __enter__(self) -> Collector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs there."""
        for each in self._running:
            os.killpg(each.pid, signal.SIGKILL)
            each.wait()
        for name in (ROUTER, COLLECTOR):
            links.delete(name)

    def _connect(self) -> None:
        self.cut()
        subprocess.run(
            ["ip", "-n", ROUTER, "link", "add", "out", "type", "veth", "peer", "name", "in"]
            + ["netns", COLLECTOR],
            check=True,
        )
        for name, link, address in (
            (ROUTER, "out", "192.0.2.1/24"),
            (COLLECTOR, "in", f"{HOST}/24"),
        ):
            netns.pushns(name)
            links.configure(link, address)
            netns.popns()

    def cut(self) -> None:
        """Cut the line: packets are lost, nobody is told."""
        subprocess.run(["ip", "-n", ROUTER, "link", "del", "out"], check=False, capture_output=True)

    def mend(self) -> None:
        """Connect the line again."""
        self._connect()

    def _write_files(self) -> None:
        here = self.here
        for name in ("keys", "etc-ssh", "run-sshd", "module", "central", "home"):
            (here / name).mkdir(exist_ok=True)
        (here / "run-sshd").chmod(0o755)
        passwd = Path("/etc/passwd").read_text()
        group = Path("/etc/group").read_text()
        for name, number in ACCOUNTS.items():
            passwd += f"{name}:x:{number}:{number}::{here}/home:/bin/sh\n"
            group += f"{name}:x:{number}:\n"
        (here / "passwd").write_text(passwd)
        (here / "group").write_text(group)
        for name in ("host_key", "key", "key1", "key2"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(here / name)]
            subprocess.run(command, check=True)
        for account, key in (("ship", "key"), ("edge1", "key1"), ("edge2", "key2")):
            self.allow(account, (here / f"{key}.pub").read_text())
        public = (here / "host_key.pub").read_text()
        (here / "etc-ssh" / "ssh_known_hosts").write_text(f"{HOST} {public}")
        path = unpacked.environment()["PATH"]
        (here / "sshd_config").write_text(_SSHD.format(here=here, path=path))
        (here / "rsyncd.conf").write_text(_RSYNCD.format(here=here))
        for name in ("central", "module", "home"):
            shutil.chown(here / name, ACCOUNTS["ship"], ACCOUNTS["ship"])

    def allow(self, account: str, line: str) -> None:
        """The line of authorized_keys of an account."""
        (self.here / "keys" / account).write_text(line)

    def command(self, namespace: str, *words: object) -> list[str]:
        """The words of a command in a namespace, with the accounts and known hosts."""
        here = self.here
        script = f"mount --bind {here}/passwd /etc/passwd && mount --bind {here}/group /etc/group"
        script += f" && mount --bind {here}/etc-ssh /etc/ssh && mount -t tmpfs tmpfs /run"
        # rrsync starts /usr/bin/rsync.
        lower = f"lowerdir={unpacked.root()}/usr/bin:/usr/bin"
        script += f" && mount -t overlay -o {lower} overlay /usr/bin"
        script += ' && mkdir /run/sshd && exec "$@"'
        inside = ["unshare", "-m", "sh", "-c", script, "sh", *map(str, words)]
        return ["ip", "netns", "exec", namespace, *inside]

    def _start(self, words: list[str]) -> None:
        program = unpacked.program(words[0])
        with (self.here / f"{words[0]}.log").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    self.command(COLLECTOR, program, *words[1:]),
                    stdout=log,
                    stderr=log,
                    env=unpacked.environment(),
                    start_new_session=True,
                )
            )

    def _wait(self) -> None:
        for port in (22, 873):
            for _ in range(200):
                done = subprocess.run(
                    ["ip", "netns", "exec", COLLECTOR, "ss", "-Hltn", f"sport = :{port}"],
                    capture_output=True,
                    check=True,
                )
                if done.stdout:
                    break
                time.sleep(0.05)
            else:
                raise AssertionError(f"nothing listens on port {port}")

    def start_ctship(self, *arguments: object) -> subprocess.Popen[str]:
        """Start ctship on the router."""
        return subprocess.Popen(
            self.command(ROUTER, CHECKOUT / "bin" / "ctship", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=unpacked.environment(),
            start_new_session=True,
        )

    def ctship(self, *arguments: object) -> tuple[int, str]:
        """Run ctship; its exit code and what it said."""
        running = self.start_ctship(*arguments)
        out, err = running.communicate(timeout=120)
        return running.returncode, out + err
