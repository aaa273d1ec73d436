"""The packages of ctrecorder as DESIGN.md's table and the import statements describe them.

Run as a program, it rewrites the face of each package: SHOWN in its `__init__`, the names that
other packages import from its modules.  tests/unit/test_packages.py compares the two.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ctrecorder"
FACE = "\n# What other packages may use: module.name.\nSHOWN = ("
# What nothing else imports has no names to show.
COMMANDS = {"(root)", "cli", "listing", "asking"}


@cache
def table() -> dict[str, tuple[int, str]]:
    """Each package of DESIGN.md's table: its position, and its rule ("pure" or "")."""
    section = (ROOT / "DESIGN.md").read_text().partition("\n## Packages\n")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| `([a-z]+|\(root\))/?` \| [^|]+ \| ?([a-z]*) ?\|$", section, re.MULTILINE
    )
    return {name: (position, rule) for position, (name, rule) in enumerate(rows)}


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name below `ctrecorder`."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


def package_of(module: str) -> str:
    return module.split(".")[0] if "." in module else "(root)"


@cache
def imports(name: str) -> tuple[set[str], set[tuple[str, str]]]:
    """The modules that `name` imports anywhere (ours dotted below `ctrecorder.`, others by their
    top-level name), and the names that it takes out of ours as (module, name)."""
    tree = ast.parse(modules()[name].read_text())
    found: set[str] = set()
    taken: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            base = node.module or ""
            if base.split(".")[0] != "ctrecorder":
                found.add(base.split(".")[0])
                continue
            for alias in node.names:
                module = f"{base}.{alias.name}".removeprefix("ctrecorder.")
                if module in modules():
                    found.add(f"ctrecorder.{module}")
                    local = alias.asname or alias.name
                    taken |= {(module, attribute) for attribute in attributes_of(tree, local)}
                else:
                    found.add(base)
                    taken.add((base.removeprefix("ctrecorder").removeprefix("."), alias.name))
    return found, taken


def attributes_of(tree: ast.AST, local: str) -> set[str]:
    """The attributes that are read from the imported module `local`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == local
    }


def ours(name: str) -> set[str]:
    """The modules of `ctrecorder` that the module imports."""
    found = imports(name)[0]
    return {each.removeprefix("ctrecorder.") for each in found if "." in each} & modules().keys()


def reach(name: str) -> set[str]:
    """Everything that the module imports, directly or not."""
    seen: set[str] = set()
    waiting = {name}
    while waiting:
        seen |= waiting
        waiting = {each for module in waiting for each in ours(module)} - seen
    return seen | {each for module in seen for each in imports(module)[0]}


def faces() -> dict[str, list[str]]:
    """For each package the names that other packages take from it, as "module.name", sorted."""
    found: dict[str, set[str]] = {package: set() for package in table().keys() - COMMANDS}
    for name in modules():
        for module, taken in imports(name)[1]:
            package = package_of(module)
            if package in found and package != package_of(name):
                found[package].add(f"{module.partition('.')[2]}.{taken}")
    return {package: sorted(names) for package, names in found.items()}


def rewrite(package: str, names: list[str]) -> bool:
    """Whether the face of the package was another one; it is `names` now."""
    path = PACKAGE / package / "__init__.py"
    before = path.read_text()
    lines = "".join(f'\n    "{name}",' for name in names)
    after = before.partition(FACE)[0].rstrip("\n") + f"\n{FACE}{lines}" + "\n)\n"
    path.write_text(after)
    return after != before


if __name__ == "__main__":
    for package, names in sorted(faces().items()):
        if rewrite(package, names):
            print(f"ctrecorder/{package}/__init__.py: SHOWN rewritten")
