"""A router with a real systemd: a lab's router namespace with a Debian container in it, as PID 1,
between inside and outside.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.support.router import Lab, wait_until

HERE = Path(__file__).resolve().parents[1] / "package"
CHECKOUT = HERE.parents[1]
BOOT = str(HERE / "boot.sh")
SUITES = ("bookworm", "trixie")
LOGS = "/var/log/ctrecorder"
# A root is made in two minutes; all else takes seconds.
MOST_SECONDS = 900
Done = subprocess.CompletedProcess[str]


def boot_sh(
    *words: str,
    stdin: str = "",
    check: bool = True,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Done:
    """boot.sh, with its `settings` (BIND, ROOT, KIND); with `check`, a failure is an AssertionError
    that shows what it said.
    """
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    done = subprocess.run(
        [BOOT, *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        env=environment,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(words[2:])}: exit {done.returncode}:\n"
            f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return done


# Builds a copy: the tree is other people's as well.
PACK = """
mkdir -p /tmp/tree && cd /srv/tree && tar -c . | tar -x -C /tmp/tree
/tmp/tree/debian/build /srv/{out}
"""


@dataclass
class Builds:
    """`folder`, with tree/ (a copy of the checkout) and a folder for each build."""

    folder: Path

    def build(self, suite: str, out: str, prepare: str = "") -> Path:
        """Build the package in `suite` into folder/out; `prepare` is shell, run in the copy of the
        tree first.  The .deb.
        """
        script = PACK.format(out=out).replace(
            "/tmp/tree/debian", f"cd /tmp/tree; {prepare or ':'}; /tmp/tree/debian"
        )
        boot_sh("sh", suite, script, settings={"BIND": self.folder})
        (package,) = (self.folder / out).glob("*.deb")
        return package


class Router:
    """The booted router.

    `folder` of this machine is its /srv; with a ROOT of its own it can be switched off and on.
    """

    def __init__(self, lab: Lab, suite: str, folder: Path, **settings: object) -> None:
        self.lab, self.suite, self.folder, self.settings = lab, suite, folder, settings
        self.name = lab.router.name
        self.said = ""  # what apt said at the installation

    def __enter__(self) -> Router:
        self.switch_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.switch_off()

    def switch_on(self) -> None:
        """Boot, and wait until all that starts at boot has started."""
        boot_sh("up", self.name, self.suite, settings={"BIND": self.folder, **self.settings})

    def switch_off(self) -> None:
        """Halt in order."""
        boot_sh("down", self.name)

    def run(self, *command: object, stdin: str = "", check: bool = True) -> Done:
        """Run `command` inside as root."""
        return boot_sh("exec", self.name, *map(str, command), stdin=stdin, check=check)

    def sh(self, script: str, *, check: bool = True) -> str:
        """What a shell script inside prints."""
        return self.run("sh", "-c", script, check=check).stdout

    def install(self, package: Path, *options: str) -> str:
        """apt install a package of `folder`; what apt and dpkg said."""
        done = self.run(
            "apt-get", "install", "-y", *options, f"/srv/{package.relative_to(self.folder)}"
        )
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
            words = self.sh(
                "systemctl status ctrecord.service; journalctl -q -n 20 -u ctrecord.service",
                check=False,
            )
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
