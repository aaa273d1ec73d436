"""The configuration file: read, and its right part chosen for a command.

The command line overrides the file, the file overrides the defaults of `settings`.  A wrong line
stops what it governs, and nothing else: `WhenWrong` says for each setting what happens.  So the
file is read to its end, and each problem names the settings that it is about.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ctrecorder.declared.setting import Setting, WhenWrong
from ctrecorder.declared.values import Value
from ctrecorder.errors import UsageError
from ctrecorder.service.settings import DEFAULT_FOLDER, SECTIONS, in_unit, setting
from ctrecorder.terminal import printable

DEFAULT_PATH = "/etc/ctrecorder/ctrecorder.conf"
# A configuration is a few kB: a longer file is none, and is not read into memory.
MAX_FILE_BYTES = 1 << 20
CHECK = "ctrecord --check-config"


@dataclass(frozen=True)
class Problem:
    """Something wrong in the file.

    `place`: FILE: line N.  `sections`: those that it is about, first that in which it is.  `name`:
    the setting that it is about; "": any of these sections.  `guessed`: the file has another name,
    which is at most like `name`.
    """

    place: str
    what: str
    sections: tuple[str, ...]
    name: str = ""
    guessed: bool = False

    def __str__(self) -> str:
        return printable(f"{self.place}: {self.what}")

    def is_about(self, section: str, name: str) -> bool:
        """If it may be about this setting."""
        return section in self.sections and self.name in ("", name)

    @property
    def is_misplaced(self) -> bool:
        """If the name is one of another section."""
        return self.guessed and bool(self.name) and self.sections[0] not in _homes([self.name])


@dataclass(frozen=True)
class Choice:
    """What a command uses of a section.

    `texts`, `values`: of each setting that is known, by name.
    `notices`: what is wrong and what is used instead, a line each.
    `refusals`: what is wrong so that the command must not do its work.
    """

    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def raise_refusals(self) -> None:
        """Raise UsageError with the first refusal, if there is one."""
        if self.refusals:
            rest = len(self.refusals) - 1
            more = f" (and {rest} more: {CHECK})" if rest else ""
            raise UsageError(f"{self.refusals[0]}{more}")


@dataclass
class Configuration:
    """The file `path`: the right texts of its settings, by section and name, and what is wrong."""

    path: str
    written: dict[str, dict[str, str]]
    problems: list[Problem]

    def choose(
        self,
        section: str,
        *,
        given: Collection[str] = (),
        needed: Collection[str] | None = None,
        last_good: Mapping[str, str] | None = None,
    ) -> Choice:
        """The settings of `section` for a command.

        `given`: names that the command line has.  `needed`: names that the command uses; None: all.
        `last_good`: texts that were right before.
        """
        choice = Choice()
        uses: dict[Problem, list[str]] = {}
        for one in SECTIONS[section].settings:
            if needed is not None and one.name not in needed:
                continue
            wrong = [] if one.name in given else self._wrong(section, one)
            text: str | None = self.written[section].get(one.name, one.default)
            if wrong:
                text = _text_instead(one, last_good or {})
            if text is None:
                choice.refusals.extend(map(str, wrong))
                continue
            choice.texts[one.name], choice.values[one.name] = text, one.parse(text)
            for problem in wrong:
                uses.setdefault(problem, []).append(f"{one.name} = {text}".rstrip())
        refused = set(choice.refusals)
        choice.refusals[:] = [line for line in map(str, self.problems) if line in refused]
        lines = [f"{one}; using {', '.join(texts)}" for one, texts in uses.items()]
        choice.notices.extend(lines)
        return choice

    def _wrong(self, section: str, one: Setting) -> list[Problem]:
        """The problems for which `one` is not taken from the file.

        A name that is not known is about the setting whose name is like it.  If that is none, or
        one that limits what is recorded, it may have been meant for any that does.
        """
        found = [problem for problem in self.problems if section in problem.sections]
        about = [each for each in found if each.is_about(section, one.name)]
        if one.when_wrong is WhenWrong.DEFAULT:
            return [each for each in about if each.name or not each.guessed]
        if one.when_wrong is WhenWrong.LAST_GOOD:
            return [each for each in found if each in about or _may_limit(each)]
        return [each for each in found if each in about or each.is_misplaced]

    def folder(self) -> tuple[str, str]:
        """The folder of segments, for a command that reads them; and a line if the setting of it is
        wrong, otherwise "".
        """
        template = self.written["record"].get("template")
        if template is not None:
            return os.path.dirname(template), ""
        others = (self.written[name].get("folder") for name in ("squeeze", "expire"))
        found = next(filter(None, others), DEFAULT_FOLDER)
        about = [one for one in self.problems if one.is_about("record", "template")]
        return found, f"{about[0]}; reading {found}" if about else ""


def _may_limit(problem: Problem) -> bool:
    """If the name in the file may have been meant for a setting that limits what is recorded."""
    homes = _homes([problem.name])
    kinds = {setting(home, problem.name).when_wrong for home in homes}
    return problem.guessed and (not problem.name or WhenWrong.LAST_GOOD in kinds)


def _text_instead(one: Setting, last_good: Mapping[str, str]) -> str | None:
    """The text that is used for a wrong setting; None if there is none."""
    if one.when_wrong is WhenWrong.DEFAULT:
        return one.default
    if one.when_wrong is WhenWrong.STRICTEST:
        return one.strictest
    if one.when_wrong is WhenWrong.LAST_GOOD and one.name in last_good:
        try:
            one.parse(last_good[one.name])
        except ValueError:
            return None
        return last_good[one.name]
    return None


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


def merge(
    args: argparse.Namespace,
    section: str,
    needed: Collection[str] | None = None,
    *,
    overrides: bool = True,
) -> list[str]:
    """Set each setting of `section` that is None in `args`, because the command line lacks it.

    `args.config`: the file, or None.  `needed`: only these.  `overrides`: what is wrong in the file
    is no matter if the command line has it.  Returns what is wrong and what is used instead, a line
    each.  Raises UsageError if the command must not do its work.
    """
    names = [one.name for one in SECTIONS[section].settings]
    given = [name for name in names if getattr(args, name, None) is not None]
    choice = read(args.config).choose(section, given=given if overrides else (), needed=needed)
    choice.raise_refusals()
    for name, value in choice.values.items():
        if name not in given:
            setattr(args, name, value)
    return choice.notices


def defaults(section: str) -> dict[str, Value]:
    """The defaults of all settings of `section`, by name."""
    return {one.name: one.parse(one.default) for one in SECTIONS[section].settings}


def read(path: str | None) -> Configuration:
    """The file `path`; None: the default file, which may be missing.

    Raises UsageError if a file that was named does not exist.
    """
    place, nothing = path or DEFAULT_PATH, {name: dict[str, str]() for name in SECTIONS}
    try:
        with Path(place).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError as error:
        if path is None:
            return Configuration(place, nothing, [])
        raise UsageError(
            f"{path}: no such file; give a configuration with -c, or no -c for the default file"
        ) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        what = f"is not a configuration: not UTF-8 at byte {error.start}"
    else:
        if len(raw) <= MAX_FILE_BYTES:
            return _parse(place, text)
        what = f"is not a configuration: longer than {MAX_FILE_BYTES} bytes"
    return Configuration(place, nothing, [Problem(place, what, tuple(SECTIONS))])


@dataclass
class _Unknown:
    """A section of another name, and the names in it."""

    place: str
    section: str
    names: list[str]


def _parse(path: str, text: str) -> Configuration:
    """The configuration in `text`."""
    found = Configuration(path, {name: {} for name in SECTIONS}, [])
    problems = found.problems
    section, unknown, seen = "", list[_Unknown](), set[str]()
    names: dict[str, set[str]] = {name: set() for name in SECTIONS}  # that were read
    for number, line in enumerate(text.split("\n"), 1):
        words, place = line.strip(), f"{path}: line {number}"
        if not words or words[0] in "#;":
            continue
        if words[0] == "[":
            section = words[1:].partition("]")[0].strip()
            if section not in SECTIONS:
                unknown.append(_Unknown(place, section, []))
            elif section in seen:
                problems.append(Problem(place, f"there are two sections [{section}]", ()))
            if words != f"[{section}]":
                problems.append(Problem(place, f"{words}: is not a section, such as [record]", ()))
            seen.add(section)
            continue
        name, equals, value = (part.strip() for part in words.partition("="))
        name = name.lower() if equals else re.split(r"\W", words, maxsplit=1)[0].lower()
        if section and section not in SECTIONS:
            unknown[-1].names.append(name)
        elif problem := _wrong_line(place, line, section, name, bool(equals)):
            problems.append(problem)
        elif name in names[section]:
            found.written[section].pop(name, None)
            what = f"{name} is set twice in [{section}]"
            problems.append(Problem(place, what, (section,), name))
        else:
            names[section].add(name)
            one = setting(section, name)
            try:
                one.parse(value)
                found.written[section][name] = value
            except ValueError:
                what = f"{name} = {value}: allowed is {one.allowed}{in_unit(one)}"
                problems.append(Problem(place, what, (section,), name))
    problems += map(_wrong_section, unknown)
    problems.sort(key=lambda one: int(one.place.rpartition(" ")[2]))
    return found


def _wrong_line(place: str, line: str, section: str, name: str, equals: bool) -> Problem | None:
    """What is wrong with a line of a section that is known, or before the first; None: nothing."""
    words, homes = line.strip(), _homes([name])
    if not section:
        what = f"{words}: is before the first section, such as [record]"
        return Problem(place, what, homes, name)
    known = {one.name: one for one in SECTIONS[section].settings}
    if name in known and equals and not line[0].isspace():
        return None
    if not equals:
        what = f"{words}: not a section, a comment or `name = value`"
    elif name in known:
        what = f"{words}: is indented: do not indent settings"
    else:
        hint = f": it belongs in [{homes[0]}]" if homes else _near(name, known)
        what = f"no setting {name} in [{section}]{hint}"
    if name in known:
        return Problem(place, what, (section,), name)
    # In the wrong section it has no effect, which does harm only if it was to limit something.
    others = [each for each in homes if setting(each, name).when_wrong is not WhenWrong.DEFAULT]
    meant = name if others else "".join(difflib.get_close_matches(name, known, 1))
    return Problem(place, what, (section, *others), meant, guessed=True)


def _wrong_section(one: _Unknown) -> Problem:
    """A section that is not known is about the one whose name is like it, or else about those that
    have its names.
    """
    near = tuple(difflib.get_close_matches(one.section, SECTIONS, 1))
    what = f"no section [{one.section}]{_near(one.section, SECTIONS)}: "
    what += f"there are {', '.join(SECTIONS)}"
    return Problem(one.place, what, near or _homes(one.names), guessed=True)


def _homes(names: Iterable[str]) -> tuple[str, ...]:
    """The sections that have one of these settings."""
    wanted = set(names)
    return tuple(
        name
        for name, section in SECTIONS.items()
        if wanted & {one.name for one in section.settings}
    )


def _near(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""
