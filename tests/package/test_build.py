"""The package as a file: built twice it is the same, lintian has nothing to say, and it asks for
what the code imports.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.booted import BOOT, CHECKOUT, SUITES, Builds, boot_sh

# What is imported, and the Debian package that has it.
MODULES = {
    "argcomplete": "python3-argcomplete",
    "capng": "python3-cap-ng",
    "defusedxml": "python3-defusedxml",
    "numpy": "python3-numpy",
    "pyroute2": "python3-pyroute2",
    "qrcode": "python3-qrcode",
    "systemd": "python3-systemd",
    "tqdm": "python3-tqdm",
    "zstandard": "python3-zstandard",
}
# Imported only by an option that says so if they are missing.
SUGGESTED = {"cryptography": "python3-cryptography", "matplotlib": "python3-matplotlib"}
COMMANDS = {"ctexpire", "ctlist", "ctrecord", "ctship", "ctsqueeze", "cttest", "ctwho"}


def imported() -> set[str]:
    """The foreign modules that the package's code imports anywhere."""
    names: set[str] = set()
    for path in (CHECKOUT / "ctrecorder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    # mypy's own types are read by mypy alone.
    return names - set(sys.stdlib_module_names) - {"ctrecorder", "_typeshed"}


def test_it_depends_on_what_the_code_imports_and_on_no_more() -> None:
    control = (CHECKOUT / "debian" / "control").read_text()
    depends = set(
        re.findall(r"^ (python3-\S+),$", control.partition("\nDepends:")[2], flags=re.MULTILINE)
    )
    assert {MODULES[name] for name in imported() - SUGGESTED.keys()} == depends
    suggests = re.search(r"^Suggests: (.*)$", control, flags=re.MULTILINE)
    assert suggests
    assert set(SUGGESTED.values()) <= set(suggests[1].split(", "))
    makefile = (CHECKOUT / "Makefile").read_text().replace("\\\n", "")
    installed_by_make = re.search(r"^RUN = (.*)$", makefile, flags=re.MULTILINE)
    assert installed_by_make
    assert depends <= set(installed_by_make[1].split())


@pytest.mark.parametrize("suite", SUITES)
def test_two_builds_are_the_same_bytes(
    suite: str, builds: Builds, packages: dict[str, Path]
) -> None:
    again = builds.build(
        suite,
        f"{suite}-again",
        prepare="umask 077; touch ctrecorder/*.py; export TZ=Asia/Tokyo LANG=C; sleep 2",
    )
    for path in sorted(again.parent.iterdir()):
        if path.suffix not in (".buildinfo", ".changes"):  # those tell of the machine that built
            other = packages[suite].parent / path.name
            assert (
                hashlib.sha256(path.read_bytes()).digest()
                == hashlib.sha256(other.read_bytes()).digest()
            ), path.name


def test_a_changelog_that_differs_from_the_code_stops_the_build(builds: Builds) -> None:
    with pytest.raises(
        AssertionError, match=r"debian/changelog has version \S+, ctrecorder/__init__.py has 9\.9"
    ):
        builds.build(
            "bookworm",
            "differs",
            prepare="sed -i 's/^__version__ = .*/__version__ = \"9.9\"/' ctrecorder/__init__.py",
        )


@pytest.mark.parametrize("suite", SUITES)
def test_lintian_has_nothing_to_say(suite: str, builds: Builds, packages: dict[str, Path]) -> None:
    command = (
        f"cd /srv/{packages[suite].parent.name} && lintian --allow-root --display-info "
        "--show-overrides --no-tag-display-limit *.changes"
    )
    said = boot_sh(
        "sh", suite, command, settings={"BIND": builds.folder}, check=False
    ).stdout.splitlines()
    assert [
        line for line in said if not line.startswith(("O:", "N:", "P:", "C:", "X:", "M:"))
    ] == []


def test_an_override_of_lintian_has_its_reason_above_it() -> None:
    paths = list((CHECKOUT / "debian").rglob("*lintian-overrides"))
    assert paths
    for path in paths:
        lines = path.read_text().splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            assert line.startswith("#") or before.startswith("#"), f"{path.name}: {line}"


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_in_it(suite: str, packages: dict[str, Path]) -> None:
    said = subprocess.run(
        ["dpkg-deb", "-c", packages[suite]], capture_output=True, text=True, check=True
    ).stdout
    modes = {line.split()[5].removeprefix("."): line.split()[0] for line in said.splitlines()}
    assert {Path(path).name for path in modes if re.fullmatch(r"/usr/bin/\w+", path)} == COMMANDS
    assert all(modes[f"/usr/bin/{command}"] == "-rwxr-xr-x" for command in COMMANDS)
    pages = {path.name for path in (CHECKOUT / "man").iterdir()}
    shipped = {
        Path(path).name.removesuffix(".gz")
        for path in modes
        if path.startswith("/usr/share/man/man")
    }
    assert pages
    assert shipped >= pages
    assert not [
        path
        for path in modes
        if path.startswith(("/lib/", "/usr/sbin/")) or "__pycache__" in path or "/tests" in path
    ]
    units = ["ctrecord.service", "ctrecord@.service", "ctsqueeze.timer"]
    units += ["ctrecord-netns@.service", "ctrecord-netns@.path", "ctship.service", "ctship.timer"]
    for path in ("catalog/ctrecorder.catalog", *(f"system/{unit}" for unit in units)):
        assert f"/usr/lib/systemd/{path}" in modes
    # Other programs read these: dh_compress leaves them as they are.
    read = ["clickhouse.sql", "prometheus/ctrecorder-alerts.yml"]
    for name in (*read, "prometheus/ctrecorder-dashboard.json"):
        assert f"/usr/share/doc/ctrecorder/{name}" in modes


def test_further_recorders_run_as_the_first_one() -> None:
    """ctrecord@.service differs from ctrecord.service in its name and in the configuration only."""
    first = (CHECKOUT / "debian" / "ctrecorder.ctrecord.service").read_text().splitlines()
    further = (CHECKOUT / "debian" / "ctrecorder@.ctrecord.service").read_text().splitlines()
    assert [pair for pair in zip(first, further, strict=True) if pair[0] != pair[1]] == [
        ("Description=Connection recorder", "Description=Connection recorder %i"),
        (
            "ExecStart=/usr/bin/ctrecord --foreground",
            "ExecStart=/usr/bin/ctrecord --foreground --config /etc/ctrecorder/%i.conf",
        ),
    ]


def test_recorders_of_network_namespaces_run_as_further_ones() -> None:
    """ctrecord-netns@.service differs in where it runs, what it records to and what starts it."""
    further = (CHECKOUT / "debian" / "ctrecorder@.ctrecord.service").read_text().splitlines()
    inside = (CHECKOUT / "debian" / "ctrecorder@.ctrecord-netns.service").read_text().splitlines()
    changed = [line for line in difflib.ndiff(further, inside) if line[0] in "+-"]
    changes = [line for line in changed if line[2:3] not in ("#", "")]
    assert changes == [
        "- Description=Connection recorder %i",
        "+ Description=Connection recorder of the network namespace %i",
        "+ ConditionPathExists=/run/netns/%i",
        "+ PartOf=ctrecord-netns@%i.path",
        "+ NetworkNamespacePath=/run/netns/%i",
        "- ExecStart=/usr/bin/ctrecord --foreground --config /etc/ctrecorder/%i.conf",
        "+ ExecStart=/usr/bin/ctrecord --foreground --netns %i "
        "--file /var/log/ctrecorder/%i-%%Y%%m%%d-%%H%%M%%S.ctlog",
        "+ SuccessExitStatus=4",
        "+ RestartPreventExitStatus=4",
        "- [Install]",
        "- WantedBy=multi-user.target",
    ]


def test_a_machine_that_cannot_boot_containers_says_so_and_fails(tmp_path: Path) -> None:
    for tool in ("bash", "id", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    for command, path, why in (
        (
            [BOOT, "up", "x", "bookworm"],
            str(tmp_path),
            "no systemd-nspawn: apt-get install systemd-container",
        ),
        (
            [BOOT, "up", "no-such-namespace", "bookworm"],
            os.environ["PATH"],
            "no network namespace no-such-namespace",
        ),
        (
            ["setpriv", "--reuid=65534", "--clear-groups", BOOT, "up", "x", "bookworm"],
            os.environ["PATH"],
            "only root can boot a container",
        ),
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
        )
        assert (done.returncode, done.stderr.strip()) == (1, f"boot.sh: {why}")
