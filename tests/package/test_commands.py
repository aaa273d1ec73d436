"""Each command that a target of the Makefile runs comes with a package that the target installs.

A test machine has every package, so a missing one would show on a stranger's machine only.  What a
target runs is read from its recipe (`make -nB`), from the shell scripts in it, and from the Python
files that it starts or imports.  What packages bring is read from dpkg's lists of files, with their
dependencies and with what a bare Debian has.  The commands that cttest --doctor runs are optional,
and not looked for.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import unpacked
from tests.support.shellwords import BUILTINS, commands

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
DPKG = Path("/var/lib/dpkg/info")
# The lists of the Makefile that each target installs.
TARGETS = {
    "demo": ("RUN", "DEMO"),
    "check": ("RUN", "CHECK", "BENCH", "BUILD", "COVERAGE"),
    "check-unit": ("RUN", "CHECK"),
    "check-lab": ("RUN", "CHECK"),
    "check-faults": ("RUN", "CHECK"),
    "check-model": ("RUN", "CHECK"),
    "check-package": ("RUN", "CHECK", "BENCH", "BUILD"),
    "check-other": ("OTHER",),
    "check-browser": ("RUN", "CHECK", "BROWSER"),
    "bench": ("RUN", "BENCH"),
    "deb": ("BUILD",),
}
# What runs a command that is given as words or as a list.  The first word is surely a command.
RUNNERS = {"run", "spawn", "Popen", "check_call", "check_output", "timed"}
# Runs inside a booted router, which has the packages that boot.sh names.
INSIDE = {CHECKOUT / "tests" / "package" / "press_tab.py"}
OURS = {path.name for path in (CHECKOUT / "bin").iterdir()}


def lists() -> dict[str, list[str]]:
    """The Makefile's lists of packages, expanded."""
    names = sorted({name for used in TARGETS.values() for name in used})
    rule = "".join(f"$(info {name} $({name}))" for name in names)
    command = ["make", "-n", "-f", "Makefile", "-f", "-", "help"]
    shown = subprocess.run(
        command, cwd=CHECKOUT, input=rule, capture_output=True, text=True, check=True
    ).stdout
    return {
        words[0]: words[1:] for line in shown.splitlines() if (words := line.split())[0] in names
    }


@functools.cache
def installed() -> dict[str, tuple[list[list[str]], bool, list[str]]]:
    """Each installed package: what it depends on, if it is essential, what it provides."""
    names = ("binary:Package", "db:Status-Status", "Essential", "Provides", "Pre-Depends")
    fields = "\t".join(f"${{{name}}}" for name in names) + ", ${Depends}\n"
    found = {}
    for line in subprocess.run(
        ["dpkg-query", "-W", "-f", fields], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        name, status, essential, provides, depends = line.split("\t")
        if status == "installed":
            plain = [
                [re.sub(r"[ (:].*", "", one.strip()) for one in group.split("|")]
                for group in depends.split(",")
            ]
            provided = [re.sub(r" .*", "", one.strip()) for one in provides.split(",")]
            found[name] = (plain, essential == "yes", provided)
    return found


@functools.cache
def _by_name() -> dict[str, list[str]]:
    """dpkg's names of packages, by each name under which another may depend on them."""
    names: dict[str, list[str]] = {}
    for full, (_, _, provided) in installed().items():
        for name in (full.partition(":")[0], *provided):
            names.setdefault(name, []).append(full)
    return names


def brought(packages: list[str]) -> set[str]:
    """The commands, by name, of a bare Debian and of `packages` with all that they depend on."""
    missing = [name for name in packages if name not in _by_name()]
    assert not missing, f"not installed here: make deps installs {' '.join(missing)}"
    wanted = [
        *packages,
        "apt",
        "make",
        *(name for name, (_, essential, _) in installed().items() if essential),
    ]
    closure: set[str] = set()
    while wanted:
        for full in _by_name().get(wanted.pop(), [])[:1]:
            if full not in closure:
                closure.add(full)
                # Of alternatives, the first that is installed here.
                wanted += [
                    next((one for one in group if one in _by_name()), "")
                    for group in installed()[full][0]
                ]
    files = {line for full in closure for line in _files(full)}
    names = {os.path.basename(path) for path in files if os.path.dirname(path) in FOLDERS}
    for folder in ("/usr/bin", "/usr/sbin"):  # awk and others, by update-alternatives
        for path in Path(folder).iterdir():
            if (
                path.is_symlink()
                and os.readlink(path).startswith("/etc/alternatives/")
                and str(path.resolve()) in files
            ):
                names.add(path.name)
    return names


@functools.cache
def _files(full: str) -> list[str]:
    path = DPKG / f"{full}.list"
    return (
        (path if path.exists() else DPKG / f"{full.partition(':')[0]}.list")
        .read_text()
        .splitlines()
    )


@functools.cache
def executables() -> set[str]:
    """The names of all commands of this machine."""
    return {
        path.name for folder in FOLDERS if Path(folder).is_dir() for path in Path(folder).iterdir()
    }


def of_shell(script: str) -> tuple[set[str], list[Path]]:
    """What a script runs, and the files of the checkout that it names."""
    found = commands(script)
    words = found.commands | found.arguments
    named = [
        CHECKOUT / word
        for word in words
        if "/" in word and not word.startswith(("/", ".")) and (CHECKOUT / word).exists()
    ]
    named += [
        CHECKOUT / f"{word.replace('.', '/')}.py" for word in words if word.startswith("tests.")
    ]
    plain = {word for word in found.commands if "/" not in word} | (found.arguments & executables())
    return plain | {
        os.path.basename(word) for word in found.commands if word.startswith(("/bin/", "/usr/bin/"))
    }, named


def of_python(path: Path) -> tuple[set[str], list[Path]]:
    """What a Python file runs, and the files of the checkout that it imports or names."""
    used: set[str] = set()
    named: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
            modules = [prefix.rstrip("."), *(prefix + alias.name for alias in node.names)]
            named += [
                file
                for name in modules
                if name.startswith("tests.")
                if (file := CHECKOUT / f"{name.replace('.', '/')}.py").exists()
            ]
        elif isinstance(node, ast.List | ast.Tuple):
            words = [
                one.value
                for one in node.elts
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            if (
                isinstance(node, ast.List)
                and node.elts
                and words[:1] == [getattr(node.elts[0], "value", None)]
                and words[0] in executables()
            ):
                used |= {word for word in words if word in executables() - BUILTINS}
        elif isinstance(node, ast.Call) and node.args:
            function = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            first = (
                node.args[0].elts[0]
                if isinstance(node.args[0], ast.List) and node.args[0].elts
                else node.args[0]
            )
            if (
                function in RUNNERS
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                used.add(first.value)
    return {word for word in used if re.fullmatch(r"[a-z][\w.+-]*", word)} - OURS - BUILTINS, named


def of_target(target: str) -> dict[str, set[str]]:
    """Each command that `make target` runs, with the files that run it."""
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-nB", target],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used, waiting = of_shell(recipe)
    found = {command: {"Makefile"} for command in used}
    seen = set(INSIDE)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.is_dir():
            waiting += sorted(path.rglob("*.py")) if path.is_relative_to(CHECKOUT / "tests") else []
            continue
        used = set()
        more: list[Path] = []
        if path.suffix == ".py":
            used, more = of_python(path)
            if path.name == "bench.py":
                more += sorted(path.parent.glob("bench_*.py"))
        elif path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash")):
            used, more = of_shell(path.read_text())
        waiting += more
        for command in used:
            found.setdefault(command, set()).add(str(path.relative_to(CHECKOUT)))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_a_listed_package_brings_what_the_target_runs(target: str) -> None:
    packages = [package for name in TARGETS[target] for package in lists()[name]]
    assert packages
    have = brought(packages)
    found = of_target(target)
    # What is unpacked, and never installed, is found by its environment alone.
    have |= unpacked.COMMANDS
    lacking = {command: sorted(files) for command, files in found.items() if command not in have}
    assert lacking == {}, f"no package of {', '.join(TARGETS[target])} brings it"


def test_it_finds_what_the_demonstration_and_the_build_run() -> None:
    assert {
        "conntrack",
        "ip",
        "nft",
        "sysctl",
        "nsenter",
        "setpriv",
        "ping",
        "apt-get",
        "dpkg-query",
    } <= set(of_target("demo"))
    assert {"dpkg-buildpackage", "dpkg-parsechangelog", "tar"} <= set(of_target("deb"))
    assert {"mkfs.btrfs", "mandoc", "systemd-nspawn", "mmdebstrap", "zstd", "git"} <= set(
        of_target("check")
    )
    assert {"gcc", "ulogd", "nfdump", "nfcapd"} <= set(of_target("bench"))
    assert "conntrackd" in of_target("check-model")
