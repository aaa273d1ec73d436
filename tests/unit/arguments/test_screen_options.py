"""The options of the screen: their words are those of the modules, and their completion."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.arguments import options, screen_options
from ctrecorder.listing import ctlist
from ctrecorder.screen.fields import field_of


def test_the_columns_are_those_of_the_module() -> None:
    """The parser is built without numpy, so it has words of its own."""
    for name in screen_options.COLUMNS:
        assert field_of(name, connections=False).name == name


def test_completion() -> None:
    assert screen_options.columns("time,re")[:2] == ["time,ev", "time,proto"]
    assert "time,time" not in screen_options.columns("time,")
    assert screen_options.formats("") == list(screen_options.FORMATS)
    found = {
        name: vars(action)["completer"]
        for action in options.build_parser()._actions
        for name in action.option_strings
        if getattr(vars(action).get("completer"), "__module__", "") == screen_options.__name__
    }
    assert found.keys() == {"--columns", "--sort", "-o", "--format"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "jsn"], "no 'jsn' here: choose from"),
        (["--format", "{remte}"], "did you mean 'remote'?"),
        (["--format", "{time"], "brace"),
        (["--columns", "remte"], "did you mean 'remote'?"),
        (["--columns", "time", "--format", "classic"], "are fixed"),
        (["--columns", "time", "--format", "{time}"], "in its braces"),
        (["--columns", "time", "-H"], "not with -H"),
        (["--sort", "time,,bytes"], "name columns, for example --sort=proto,-bytes"),
        (["--sort", "byte"], "did you mean 'bytes'?"),
        (["--color", "maybe"], "choose from"),
    ],
)
def test_one_line_for_what_is_wrong(
    options: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").mkdir()
    assert ctlist.main([*options, str(tmp_path / "log")]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_form() -> None:
    assert screen_options.form("json") == "json"
    assert screen_options.form("{time}") == "{time}"
