"""The packages of DESIGN.md: one-way imports, faces, sizes of folders and modules.

The import statements of the modules are compared with DESIGN.md's table of packages.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

from tests.support.faces import (
    PACKAGE,
    ROOT,
    faces,
    imports,
    modules,
    ours,
    package_of,
    reach,
    table,
)

MAX_LINES = 400  # a longer module has two subjects
MAX_MODULES = 13  # a folder of more modules has two subjects
# Modules that a pure package does not need: files, sockets, processes.
IMPURE = {"fcntl", "io", "mmap", "os", "pathlib", "select", "shutil", "socket", "subprocess"}
IMPURE |= {"systemd", "tempfile", "threading"}
CLOCK = {"time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns"}
CLOCK |= {"datetime.now", "datetime.today", "date.today"}
# Parsers of commands with a package of their own.
PARSERS = ["listing.ctlist", "asking.ctwho"]


def test_the_table_names_every_package() -> None:
    assert table().keys() == {package_of(name) for name in modules()}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_one_way(name: str) -> None:
    """A module imports from its own package and from packages above it in the table."""
    position = table()[package_of(name)][0]
    for other in ours(name):
        same = package_of(other) == package_of(name)
        assert same or table()[package_of(other)][0] < position, f"{name} imports {other}"


def test_no_import_cycles() -> None:
    """Also inside a package: a module that reaches itself is two halves of one module."""
    for name in modules():
        direct = ours(name)
        assert not any(name in (reach(other) & modules().keys()) for other in direct), name


@pytest.mark.parametrize("package", sorted(faces()))
def test_faces(package: str) -> None:
    """SHOWN lists exactly the names that other packages use.  `make faces` rewrites it."""
    shown = importlib.import_module(f"ctrecorder.{package}").SHOWN
    assert list(shown) == faces()[package]
    assert not [name for name in shown if name.partition(".")[2].startswith("_")]


@pytest.mark.parametrize("package", sorted(table().keys() - {"(root)"}))
def test_a_package_says_what_it_is_for_and_imports_nothing(package: str) -> None:
    """Importing a package loads none of its modules: completion must not load numpy."""
    source = (PACKAGE / package / "__init__.py").read_text()
    tree = ast.parse(source)
    assert len((ast.get_docstring(tree) or "").splitlines()[0]) > 20
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("name", sorted(modules()))
def test_length(name: str) -> None:
    lines = len(modules()[name].read_text().splitlines())
    assert lines <= MAX_LINES


def test_no_folder_has_two_subjects() -> None:
    counts: dict[str, int] = {}
    for name in modules():
        counts[package_of(name)] = counts.get(package_of(name), 0) + 1
    assert {package: count for package, count in counts.items() if count > MAX_MODULES} == {}


@pytest.mark.parametrize("name", sorted(modules()))
def test_pure_packages_are_pure(name: str) -> None:
    if table()[package_of(name)][1] != "pure":
        return
    assert not imports(name)[0] & IMPURE
    tree = ast.parse(modules()[name].read_text())
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not set(calls) & {"open", "input", *CLOCK}


@pytest.mark.parametrize("name", ["errors", "times", "uapi", "service.messages"])
def test_no_numpy_at_the_bottom(name: str) -> None:
    assert "numpy" not in reach(name)


@pytest.mark.parametrize(
    "name", [*sorted(name for name in modules() if package_of(name) == "cli"), *PARSERS]
)
def test_parsers_need_no_numpy(name: str) -> None:
    """Building the parser, as completion does, loads nothing that takes as long as numpy."""
    code = f"import sys; import ctrecorder.{name} as m; "
    code += "getattr(m, 'build_parser', lambda: None)(); "
    code += "print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"numpy", "zstandard", "pyroute2", "systemd", "tqdm"}


@pytest.mark.parametrize(
    "name", ["listing.ctlist", "asking.ctwho", "cli.ctrecord", "cli.ctsqueeze", "cli.ctexpire"]
)
def test_commands_do_not_reach_pyroute2(name: str) -> None:
    """It takes 0.1 to 0.7 s and 26 MB to import."""
    assert "pyroute2" not in reach(name)


@pytest.mark.slow
def test_pyroute2_is_loaded_for_the_doctor_alone() -> None:
    assert {name for name in modules() if "pyroute2" in imports(name)[0]} == {"check.firewall"}
    assert {name for name in modules() if "check.firewall" in ours(name)} == {"check.doctor_rules"}
    code = "import sys; import ctrecorder.check.doctor; from ctrecorder.cli import cttest; "
    code += "cttest.main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, "tests/data/golden/v1-closed.ctlog"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "numpy" in loaded
    assert "pyroute2" not in loaded


def test_only_the_recorder_needs_its_own() -> None:
    """ctlist reads files: it reaches no socket, and nothing that writes segments."""
    theirs = {"record.recorder", "spool.queue", "segment.writer", "kernel.sockets"}
    assert theirs <= modules().keys()
    assert not reach("listing.ctlist") & (theirs | {"maintain.squeeze", "capng"})
    # ctwho --hold uses the key of a recording, which can write SEALs, and gives up root, without
    # capng, in the module that has the recorder's way too.
    theirs -= {"segment.writer"}
    assert not reach("asking.ctwho") & (theirs | {"maintain.squeeze"})
