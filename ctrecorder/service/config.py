"""The configuration file: read, checked, and merged with the command line.

The command line overrides the file, the file overrides the defaults of `settings`.
"""

from __future__ import annotations

import argparse
import configparser
import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ctrecorder.errors import UsageError
from ctrecorder.service.settings import SECTIONS, in_unit, setting
from ctrecorder.service.values import Value
from ctrecorder.terminal import printable

DEFAULT_PATH = "/etc/ctrecorder/ctrecorder.conf"
# A configuration is a few kB: a longer file is none, and is not read into memory.
MAX_FILE_BYTES = 1 << 20


def argument(section: str, name: str) -> Callable[[str], Value]:
    """A parser for argparse's `type=`: the command line allows the same values as the file."""
    one = setting(section, name)

    def parse(text: str) -> Value:
        try:
            return one.parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not allowed: {one.allowed}{in_unit(one)}"
            ) from None

    return parse


def load(path: str | None, section: str) -> dict[str, Value]:
    """The values of all settings of `section`, by name: those of the file, otherwise the defaults.

    `path`: None is the default file, which may be missing.  Raises UsageError for the first problem
    anywhere in the file: no command runs with a part of its configuration.
    """
    values, problems = _read(path)
    if problems:
        more = (
            f" (and {len(problems) - 1} more: ctrecord --check-config)" if len(problems) > 1 else ""
        )
        raise UsageError(problems[0] + more)
    return values[section]


def merge(args: argparse.Namespace, section: str) -> None:
    """Set each setting of `section` that is None in `args`, because the command line lacks it.

    `args.config`: the file, or None.  Raises UsageError as `load`.
    """
    for name, value in load(args.config, section).items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)


def check(path: str | None) -> list[str]:
    """All problems of the file, a line each: file, line, setting, and allowed values."""
    return _read(path)[1]


def _read(path: str | None) -> tuple[dict[str, dict[str, Value]], list[str]]:
    """The values of all sections, and the problems.

    Raises UsageError if the file cannot be read as text.
    """
    values = {
        name: {one.name: one.parse(one.default) for one in section.settings}
        for name, section in SECTIONS.items()
    }
    text = _text(path)
    parser = configparser.ConfigParser(
        interpolation=None,
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        empty_lines_in_values=False,
        default_section="\n",
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        return values, [_syntax(path, error)]
    problems = []
    for name in parser.sections():
        if name not in SECTIONS:
            near = _near(name, SECTIONS)
            problems.append(
                f"{_location(path, text, name)}: no section [{name}]{near}: "
                f"there are {', '.join(SECTIONS)}"
            )
            continue
        for key, written in parser[name].items():
            problem = _take(values[name], name, key, written)
            if problem:
                problems.append(f"{_location(path, text, name, key)}: {problem}")
    return values, [printable(problem) for problem in problems]


def _take(values: dict[str, Value], section: str, key: str, written: str) -> str:
    """Put a setting's value into `values`; returns the problem, "" if there is none."""
    known = {one.name: one for one in SECTIONS[section].settings}
    if key not in known:
        return f"no setting {key} in [{section}]{_near(key, known)}"
    if "\n" in written:
        return (
            f"the line after {key} is indented, which makes it a part of {key}: "
            "do not indent settings"
        )
    one = known[key]
    try:
        values[key] = one.parse(written)
    except ValueError:
        return f"{key} = {written}: allowed is {one.allowed}{in_unit(one)}"
    return ""


def _text(path: str | None) -> str:
    """The file's text; "" for a default file that is not there."""
    try:
        with Path(path or DEFAULT_PATH).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise UsageError(
                f"{path or DEFAULT_PATH}: is not a configuration: "
                f"longer than {MAX_FILE_BYTES} bytes"
            )
        return raw.decode("utf-8")
    except FileNotFoundError as error:
        if path is None:
            return ""
        raise UsageError(
            f"{path}: no such file; give a configuration with -c, or no -c for the default file"
        ) from error
    except OSError as error:
        raise UsageError(f"{path or DEFAULT_PATH}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path or DEFAULT_PATH}: is not a configuration: not UTF-8 at byte {error.start}"
        ) from error


def _syntax(path: str | None, error: configparser.Error) -> str:
    """The line for an error of configparser."""
    place = path or DEFAULT_PATH
    if isinstance(error, configparser.DuplicateOptionError):
        return f"{place}: line {error.lineno}: {error.option} is set twice in [{error.section}]"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"{place}: line {error.lineno}: there are two sections [{error.section}]"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return printable(
            f"{place}: line {error.lineno}: {error.line.strip()}: "
            "is before the first section, such as [record]"
        )
    if isinstance(error, configparser.ParsingError) and error.errors:
        line, written = error.errors[0]
        return printable(
            f"{place}: line {line}: {written.strip(chr(39))}: "
            "not a section, a comment or `name = value`"
        )
    return printable(f"{place}: {error}")


def _location(path: str | None, text: str, section: str, key: str = "") -> str:
    """FILE: line N, of the setting `key` in `section`, or of the section's first line.

    configparser does not keep line numbers.
    """
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\[([^]]+)\]", line.strip())
        if head:
            here = head[1]
        found = line.partition("=")[0].strip().lower() == key if key else head is not None
        if here == section and found:
            return f"{path or DEFAULT_PATH}: line {number}"
    return path or DEFAULT_PATH


def _near(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""
