"""The floors of DESIGN.md: its table is the truth, and the modules' import statements are held
against it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ctrecorder"
MOST_LINES = 400  # beyond it a module has two subjects
# What a pure module has no use for: files, sockets, processes, the clock.
IMPURE = {
    "fcntl",
    "io",
    "mmap",
    "os",
    "pathlib",
    "select",
    "shutil",
    "socket",
    "subprocess",
    "systemd",
    "tempfile",
    "threading",
}
CLOCK = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "datetime.now",
    "datetime.today",
    "date.today",
}
NUMPY = {"numpy"}


@cache
def floors() -> dict[str, tuple[int, int]]:
    """Each module named in DESIGN.md's table: its floor, and its place there."""
    section = (ROOT / "DESIGN.md").read_text().partition("\n## Floors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", section, re.MULTILINE)
    found = {}
    for floor, modules in rows:
        for place, name in enumerate(part.strip() for part in modules.split(",")):
            assert name not in found, f"{name} is in the table twice"
            found[name] = (int(floor), place)
    return found


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name below it, with dots."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def imports(name: str) -> set[str]:
    """All that the module imports, anywhere in it: `ctrecorder.X` for ours, the top-level name of
    others.
    """
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            base = node.module or ""
            # `from ctrecorder import x`: x is a module, or something of the package itself.
            ours = {
                alias.name
                for alias in node.names
                if f"{base}.{alias.name}".removeprefix("ctrecorder.") in modules()
            }
            found |= {f"{base}.{alias}" for alias in ours} or {base}
    return {each if each.startswith("ctrecorder.") else each.split(".")[0] for each in found}


def ours(name: str) -> set[str]:
    """The modules of the package that the module imports."""
    return {
        each.removeprefix("ctrecorder.") for each in imports(name) if each.startswith("ctrecorder.")
    } & modules().keys()


def floor_of(name: str) -> tuple[int, int]:
    """Floor and place; on the roof, what the table does not name (which a test of its own tells)."""
    return floors().get("cli/" if name.startswith("cli.") else name, (9, 0))


def reach(name: str) -> set[str]:
    """Everything that the module imports, and all that those import."""
    seen: set[str] = set()
    waiting = {name}
    while waiting:
        seen |= waiting
        waiting = {each for module in waiting for each in ours(module)} - seen
    return seen | {each for module in seen for each in imports(module)}


def test_the_table_names_every_module() -> None:
    top = {name for name in modules() if "." not in name}
    assert floors().keys() - {"cli/"} == top


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down(name: str) -> None:
    """To a lower floor; on its own floor, to what is written before it."""
    floor = floor_of(name)
    for other in ours(name):
        if name.startswith("cli.") and other.startswith("cli."):
            continue
        assert floor_of(other) < floor, f"{name} {floor} imports {other} {floor_of(other)}"


@pytest.mark.parametrize("name", sorted(modules()))
def test_length(name: str) -> None:
    assert len(modules()[name].read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", sorted(name for name in modules() if floor_of(name)[0] == 1))
def test_the_first_floor_is_pure(name: str) -> None:
    assert not imports(name) & IMPURE
    calls = [
        node.func
        for node in ast.walk(ast.parse(modules()[name].read_text()))
        if isinstance(node, ast.Call)
    ]
    assert not set(map(ast.unparse, calls)) & {"open", "input", *CLOCK}


@pytest.mark.parametrize("name", ["errors", "uapi", "messages"])
def test_no_numpy_at_the_bottom(name: str) -> None:
    assert not reach(name) & NUMPY


@pytest.mark.parametrize("name", sorted(name for name in modules() if name.startswith("cli.")))
def test_parsers_need_no_numpy(name: str) -> None:
    """Building the parser, as completion does, loads neither numpy nor anything that takes as long."""
    code = f"import sys; from ctrecorder.{name.rpartition('.')[0]} import {name.rpartition('.')[2]} as m; "
    code += "getattr(m, 'build_parser', lambda: None)(); print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"numpy", "zstandard", "pyroute2", "systemd", "tqdm"}


@pytest.mark.parametrize(
    "name", ["cli.ctlist", "cli.ctrecord", "cli.cttest", "cli.ctsqueeze", "cli.ctexpire"]
)
def test_commands_do_not_reach_pyroute2(name: str) -> None:
    """It takes 0.25 s and 20 MB to import."""
    assert "pyroute2" not in reach(name)


def test_only_the_recorder_needs_its_own() -> None:
    """ctlist reads files: it reaches no socket, no journal but for the audit, and nothing that
    writes segments.
    """
    assert not reach("cli.ctlist") & {"recorder", "spool", "writer", "netlink", "capng", "squeeze"}
