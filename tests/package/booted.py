"""A router with a real systemd: a lab's router namespace with a Debian container in it, as PID 1, between inside and outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "lab"))

from router import Lab, wait_until  # noqa: E402  (after the path is known)

BOOT = str(HERE / "boot.sh")
SUITES = ("bookworm", "trixie")
LOGS = "/var/log/ctrecorder"
Done = subprocess.CompletedProcess[str]


def boot_sh(*words: str, bind: Path | None = None, stdin: str = "", check: bool = True, timeout: float = 600) -> Done:
    """boot.sh; with `check`, a failure is an AssertionError that shows what it said."""
    environment = {**os.environ, "BIND": str(bind or "")}
    done = subprocess.run([BOOT, *words], input=stdin, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words[2:])}: exit {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done


class Router:
    """The booted router.  `folder` of this machine is its /srv."""

    def __init__(self, lab: Lab, suite: str, folder: Path) -> None:
        self.lab, self.suite, self.folder = lab, suite, folder
        self.name = lab.router.name
        self.said = ""  # what apt said at the installation

    def __enter__(self) -> Router:
        boot_sh("up", self.name, self.suite, bind=self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        boot_sh("down", self.name)

    def run(self, *command: object, stdin: str = "", check: bool = True) -> Done:
        """Run `command` inside as root."""
        return boot_sh("exec", self.name, *map(str, command), stdin=stdin, check=check)

    def sh(self, script: str, *, check: bool = True) -> str:
        """What a shell script inside prints."""
        return self.run("sh", "-c", script, check=check).stdout

    def install(self, package: Path, *options: str) -> str:
        """apt install a package of `folder`; what apt and dpkg said."""
        done = self.run("apt-get", "install", "-y", *options, f"/srv/{package.relative_to(self.folder)}")
        return done.stdout + done.stderr

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """systemctl's properties of a unit."""
        said = self.run("systemctl", "show", unit, "--property=" + ",".join(names)).stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def pid(self, unit: str = "ctrecord.service") -> str:
        """The unit's main process, as it is numbered inside."""
        return self.show(unit, "MainPID")["MainPID"]

    def journal(self, *matches: str) -> list[dict[str, str]]:
        """The entries of the journal that match, as dicts of their fields."""
        said = self.run("journalctl", "--output=json", "--quiet", "--all", *matches).stdout
        return [json.loads(line) for line in said.splitlines()]

    def wait(self, done: Callable[[], object], what: str, seconds: float = 20) -> None:
        """Wait until `done` is true; a failure shows the recorder's last words."""
        try:
            wait_until(done, what, seconds)
        except TimeoutError as error:
            words = self.sh("systemctl status ctrecord.service; journalctl -q -n 20 -u ctrecord.service", check=False)
            raise AssertionError(f"{error}\n{words}") from None

    def restart(self) -> None:
        """Restart the recorder, and wait until it is ready (systemctl does)."""
        self.run("systemctl", "restart", "ctrecord.service")

    def lines(self, *arguments: object) -> list[str]:
        """What ctlist says; exit 1 (no match) is an empty list."""
        done = self.run("ctlist", *arguments, check=False)
        if done.returncode not in (0, 1):
            raise AssertionError(f"ctlist: exit {done.returncode}: {done.stderr}")
        return done.stdout.splitlines()
