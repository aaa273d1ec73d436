"""Manual pages: mandoc's warnings, rendering at 80 columns, and options against the parsers'."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "man").glob("*.[1-9]"))
HOMES = {path.stem: path.parent.name for path in (ROOT / "ctrecorder").glob("*/ct*.py")}
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
# What is installed on the machine that runs the test, and which pages its index has, says nothing
# about ours.
_OTHERS = ("referenced manual not found", "outdated mandoc.db")
HELP_COLUMNS, HELP_LINES = 80, 130
RENDERERS = {
    "mandoc": ["mandoc", "-T", "utf8", "-O", "width=78"],
    "mandoc-ascii": ["mandoc", "-T", "ascii", "-O", "width=78"],
    "man": ["man", "-P", "cat"],
}


def page(command: str) -> Path:
    """The manual page of a command."""
    (found,) = [path for path in PAGES if path.stem == command]
    return found


def parser_of(command: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = importlib.import_module(
        f"ctrecorder.{HOMES[command]}.{command}"
    ).build_parser()
    return parser


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
    titles = re.findall(r"^\.Dt .*$", text, re.MULTILINE)
    assert titles == [f".Dt {path.stem.upper()} {path.suffix[1:]}"]


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
    text = text.replace("\\e\n", "")
    for line in re.findall(rf"\b{command} ([^|;&\n]*)", text):
        used = re.findall(r"(?<!\S)(--?[a-z][-a-z]*)", line, re.IGNORECASE)
        assert {name for name in used if name.startswith("--") or len(name) == 2} <= names, line


@functools.cache
def rendered(path: Path, renderer: str) -> list[str]:
    """The lines of a page at 80 columns, as a reader sees them."""
    environment = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    command = [*RENDERERS[renderer], str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, env=environment, check=True
    )
    return re.sub(".\b", "", done.stdout).splitlines()


def plain(line: str) -> str:
    """A line of literal mdoc as text."""
    return line.replace("\\e", "\\").replace("\\&", "").replace("\\-", "-").rstrip()


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_fits_80_columns(path: Path, renderer: str) -> None:
    assert [line for line in rendered(path, renderer) if len(line) > HELP_COLUMNS] == []


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_an_example_can_be_pasted(path: Path, renderer: str) -> None:
    """A line that is longer than the page ends in a backslash, by hand: none is wrapped."""
    text = path.read_text()
    shown = {line.strip() for line in rendered(path, renderer)}
    examples = re.findall(r"^\.Dl (.*)$", text, re.MULTILINE)
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL):
        examples += block.splitlines()
    assert examples
    assert {plain(line).strip() for line in examples} - shown == set()


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_keep_their_columns(path: Path, renderer: str) -> None:
    """A wrapped cell goes on in its column.  A quotation ends in the cell where it begins."""
    lines = rendered(path, renderer)
    for row in re.findall(r"^\.Bl -column.*\n\.It (Sy .*)$", path.read_text(), re.MULTILINE):
        cells = [cell.removeprefix("Sy ") for cell in row.split(" Ta ")]
        heading = re.compile(r" +" + r" +".join(map(re.escape, cells)))
        starts = [number for number, line in enumerate(lines) if heading.fullmatch(line)]
        assert starts, row
        for start in starts:
            first = len(lines[start]) - len(lines[start].lstrip())
            last = lines[start].rindex(cells[-1])
            for line in lines[start + 1 :]:
                indent = len(line) - len(line.lstrip())
                if not line or indent < first:
                    break
                assert indent in (first, last), line
    assert [line for line in lines if re.search(r"\u2018[^\u2019]* {3}", line)] == []
    assert re.findall(r"\u2018[^\u2019]*\u2018.*", "\n".join(lines)) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_apropos_finds_a_page_by_the_words_of_the_field(path: Path) -> None:
    (line,) = re.findall(r"^\.Nd (.*)$", path.read_text(), re.MULTILINE)
    assert {"conntrack", "NAT", "log"} & set(re.findall(r"\w+", line)), line


def test_apropos_finds_the_suite_by_each_of_the_words() -> None:
    pages = "".join(path.read_text() for path in PAGES)
    lines = " ".join(re.findall(r"^\.Nd (.*)$", pages, re.MULTILINE))
    for word in ("conntrack", "NAT", "log"):
        assert len(re.findall(rf"\b{word}\b", lines)) >= 2, word
