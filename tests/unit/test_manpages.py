"""Manual pages: what mandoc says of them, and their options against the parsers'."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "man").glob("*.[1-9]"))
COMMANDS = sorted(path.stem for path in (ROOT / "ctrecorder" / "cli").glob("ct*.py"))
# What is installed on the machine that runs the test, and which pages its index has, says nothing
# about ours.
_OTHERS = ("referenced manual not found", "outdated mandoc.db")
HELP_COLUMNS, HELP_LINES = 80, 66


def page(command: str) -> Path:
    """The manual page of a command."""
    (found,) = [path for path in PAGES if path.stem == command]
    return found


def parser_of(command: str) -> argparse.ArgumentParser:
    return importlib.import_module(f"ctrecorder.cli.{command}").build_parser()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_mandoc_finds_nothing(path: Path) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", path],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if not any(other in line for other in _OTHERS)
    ] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_has_examples_and_its_own_name(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^\.Sh EXAMPLES\n(?:.+\n)*\.(?:D[l1]|Bd) ", text, re.MULTILINE)
    assert (
        re.search(r"^\.Dt (\S+) (\d)$", text, re.MULTILINE)[0]
        == f".Dt {path.stem.upper()} {path.suffix[1:]}"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_the_parsers(command: str) -> None:
    """Each option with all its names and its value's name, none more and none less; the short ones
    in the synopsis too.
    """
    text = page(command).read_text()
    described = set()
    for line in re.findall(r"^\.It (Fl .*)$", text, re.MULTILINE):
        for name, value in re.findall(r"Fl (\S+)(?: Ar (\S+))?", line):
            described.add((f"-{name}", value))
    parsed = set()
    for action in parser_of(command)._actions:
        value = (
            ""
            if action.nargs == 0
            else action.metavar or ("FORMAT" if action.choices else str(action.dest).upper())
        )
        parsed |= {(name, value) for name in action.option_strings}
    assert described == parsed
    synopsis = text.partition(".Sh SYNOPSIS\n")[2].partition(".Sh ")[0]
    for name, _ in parsed:
        if len(name) == 2:
            assert re.search(rf"(?:Fl|\|) {name[1]}\b", synopsis), f"{name} is not in the synopsis"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_page_of_80_columns_with_examples(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = parser_of(command).format_help().splitlines()
    assert max(map(len, lines)) <= HELP_COLUMNS
    assert len(lines) <= HELP_LINES
    examples = lines[lines.index("examples:") :]
    assert sum(line.startswith(f"  {command}") for line in examples) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_page_are_accepted_by_the_parser(command: str) -> None:
    """An option that was renamed would stay in the examples."""
    names = {name for action in parser_of(command)._actions for name in action.option_strings}
    text = page(command).read_text().partition(".Sh EXAMPLES\n")[2].partition("\n.Sh ")[0]
    for line in re.findall(rf"\b{command} ([^|;&\n]*)", text):
        used = re.findall(r"(?<!\S)(--?[a-z][-a-z]*)", line, re.IGNORECASE)
        assert {name for name in used if name.startswith("--") or len(name) == 2} <= names, line
