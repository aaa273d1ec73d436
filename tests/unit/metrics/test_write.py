"""The files of metrics."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrecorder.metrics.families import FAMILIES
from ctrecorder.metrics.text import Sample, text_of
from ctrecorder.metrics.write import folder_of, remove, write

HELD = "ctrecorder_held_bytes"
EVENTS = "ctrecorder_events_total"


def test_samples_of_a_metric_are_together() -> None:
    found = text_of(
        [
            Sample(EVENTS, ("a", "new"), 3),
            Sample(HELD, ("a",), 7.0),
            Sample(EVENTS, ("a", "destroy"), 10**15),
        ]
    )
    assert found == (
        f"# HELP {EVENTS} {FAMILIES[EVENTS].help}\n"
        f"# TYPE {EVENTS} counter\n"
        f'{EVENTS}{{recording="a",event="new"}} 3\n'
        f'{EVENTS}{{recording="a",event="destroy"}} 1000000000000000\n'
        f"# HELP {HELD} {FAMILIES[HELD].help}\n"
        f"# TYPE {HELD} gauge\n"
        f'{HELD}{{recording="a"}} 7\n'
    )


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ('a"b\\c\nd', 'a\\"b\\\\c\\nd'),
        (os.fsdecode(b"/var/\xff"), "/var/?"),
        ("größe", "größe"),
    ],
)
def test_labels_are_text_that_prometheus_reads(label: str, written: str) -> None:
    assert f'{{recording="{written}"}} 1.500' in text_of([Sample(HELD, (label,), 1.5)])


def test_what_is_not_declared_is_not_written() -> None:
    with pytest.raises(KeyError):
        text_of([Sample("ctrecorder_other", (), 1)])
    with pytest.raises(ValueError, match="zip"):
        text_of([Sample(HELD, (), 1)])


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for value in (1, 2):
        assert write("ctrecord-a", [Sample(HELD, ("a",), value)], str(tmp_path)) == ""
        (path,) = tmp_path.iterdir()
        assert path.name == "ctrecord-a.prom"
        assert path.read_text().endswith(f" {value}\n")
        assert path.stat().st_mode & 0o777 == 0o644
    remove("ctrecord-a", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_two_writers_never_have_one_file(tmp_path: Path) -> None:
    paths = ("/var/log/ctrecorder", "/var/log-ctrecorder", "/var-log/ctrecorder", "/ä", "/%")
    for path in paths:
        assert write(f"ctexpire-{path}", [], str(tmp_path)) == ""
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == len(paths)
    assert "ctexpire-var-log-ctrecorder.prom" in names


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    """No recorder runs there, or the setting is empty: that is no fault of a command."""
    assert write("ctexpire", [], str(tmp_path / "none")) == ""
    assert write("ctexpire", [], "") == ""


def test_what_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert write("x", [], str(tmp_path / "file")) == (
        f"no metrics: {tmp_path}/file: Not a directory"
    )
    (tmp_path / "x.prom").mkdir()
    assert write("x", [], str(tmp_path)) == f"no metrics: {tmp_path}/x.prom: Is a directory"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_folder_is_a_setting(tmp_path: Path) -> None:
    conf = tmp_path / "ctrecorder.conf"
    conf.write_text("")
    assert folder_of(str(conf)) == "/run/ctrecorder"
    conf.write_text("[metrics]\ndirectory =\n")
    assert folder_of(str(conf)) == ""
    conf.write_text("[metrics]\ndirectory = relative\n[expire]\nmax_age = soon\n")
    assert folder_of(str(conf)) == "/run/ctrecorder"
