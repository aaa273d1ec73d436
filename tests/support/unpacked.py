"""Programs of Debian that the tests run and that are not installed: unpacked into build/.

A package such as openssh-server would enable a unit on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.support.router import CHECKOUT

PACKAGES = ("rsync", "openssh-server", "libwrap0", "nfdump")
COMMANDS = {"rsync", "rrsync", "sshd", "nfcapd", "nfdump"}  # that tests run by `environment`


@cache
def root() -> Path:
    """The folder in which the packages are unpacked, made at the first use."""
    return _unpacked("unpacked-2", PACKAGES)


@cache
def pmacct() -> Path:
    """The folder with pmacct and the libraries that it needs and that are not installed."""
    command = ["apt-get", "-s", "--no-install-recommends", "install", "pmacct"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in said.splitlines() if line.startswith("Inst ")]
    return _unpacked("pmacct", [name for _, name, *_ in words])


def _unpacked(name: str, packages: Iterable[str]) -> Path:
    release = next(
        line.partition("=")[2].strip()
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    folder = CHECKOUT / "build" / f"{name}-{release}"
    if not folder.exists():
        part = folder.with_suffix(f".{os.getpid()}")
        part.mkdir(parents=True)
        subprocess.run(["apt-get", "-q", "download", *packages], cwd=part, check=True)
        for package in part.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, part], check=True)
            package.unlink()
        part.rename(folder)
    return folder


def environment() -> dict[str, str]:
    """The environment in which they are found."""
    place = root()
    libraries = [str(path.parent) for path in place.rglob("libwrap.so.0")]
    return {
        **os.environ,
        "PATH": f"{place}/usr/bin:{place}/usr/sbin:{CHECKOUT}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LD_LIBRARY_PATH": ":".join(libraries),
    }


def program(name: str) -> str:
    """The path of one of them."""
    found = shutil.which(name, path=environment()["PATH"])
    assert found is not None, name
    return found
