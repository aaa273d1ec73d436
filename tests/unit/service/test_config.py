"""The configuration: what a file may say, how it is refused, and that the shipped file and
ctrecorder.conf(5) say the same.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctrecorder.declared import values
from ctrecorder.declared.setting import WhenWrong
from ctrecorder.errors import UsageError
from ctrecorder.record import options, report
from ctrecorder.service import config, settings
from tests.support.example_conf import example

ROOT = Path(__file__).resolve().parents[3]
ALL = [(name, one) for name, section in settings.SECTIONS.items() for one in section.settings]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "x.conf"


def problems(path: Path) -> list[str]:
    return [str(problem) for problem in config.read(str(path)).problems]


def chosen(path: str | None, section: str) -> dict[str, values.Value]:
    """The values of a section of a file with which nothing is wrong."""
    read = config.read(path)
    assert read.problems == []
    return read.choose(section).values


def test_without_a_file_every_setting_has_its_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "none.conf"))
    assert chosen(None, "record") == {
        "template": "/var/log/ctrecorder/%Y%m%d-%H%M%S.ctlog",
        "rotate": 60,
        "protocols": (),
        "nat_only": False,
        "inside": (),
        "omit": None,
        "updates": False,
        "resync": True,
        "accept_notrack": False,
        "probe": True,
        "buffer": 65536,
        "rows": 16384,
        "memory": 64,
        "sync": 10,
        "nice": 0,
        "user": None,
        "group": None,
        "mode": 0o640,
    }
    assert chosen(None, "expire") == {
        "folder": "/var/log/ctrecorder",
        "max_age": 90 * 86400,
        "max_size": None,
        "min_free": None,
        "trust_clock": False,
    }


def test_the_file_goes_over_the_default_and_the_command_line_over_the_file(conf: Path) -> None:
    conf.write_text(
        "[record]\nrotate = 5\nprotocols = udp, tcp\nnat_only=yes\n; x\n"
        "[expire]\nmax_size = 1.5G\nmin_free = 7.5%\n"
    )
    args = argparse.Namespace(config=str(conf), rotate=None, protocols=(1,), nat_only=None)
    config.merge(args, "record")
    assert (args.rotate, args.protocols, args.nat_only, args.rows) == (5, (1,), True, 16384)
    expire = chosen(str(conf), "expire")
    assert (expire["max_size"], expire["min_free"]) == (3 << 29, 0.075)
    assert chosen(str(conf), "record")["protocols"] == (6, 17)


def test_a_zero_of_the_command_line_is_not_taken_for_nothing(conf: Path) -> None:
    conf.write_text("[record]\nnice = 5\nresync = yes\n")
    args = argparse.Namespace(config=str(conf), nice=0, resync=False)
    config.merge(args, "record")
    assert (args.nice, args.resync) == (0, False)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[record]\n\nrotate = 0\n",
            "line 3: rotate = 0: allowed is a whole number, 1 to 1440, in minutes",
        ),
        ("[record]\nrotate = 60 minutes", "line 2: rotate = 60 minutes: allowed is a whole number"),
        ("[record]\nrotate = \u0661\n", "line 2: rotate = \u0661: allowed is"),
        ("[record]\nrotate =\n", "line 2: rotate = : allowed is"),
        (
            "[record]\nprotocols = tcp,http",
            "line 2: protocols = tcp,http: allowed is all, or a list of icmp, tcp",
        ),
        ("[record]\nprotocols =\n", "line 2: protocols = : allowed is all"),
        ("[record]\nnat_only = maybe", "line 2: nat_only = maybe: allowed is yes or no"),
        ("[record]\ntemplate = log/%Y", "line 2: template = log/%Y: allowed is a full path"),
        (
            "[record]\ntemplate = /var/log/%Y/",
            "line 2: template = /var/log/%Y/: allowed is a full path",
        ),
        ("[record]\nmode = 0755", "line 2: mode = 0755: allowed is read and write"),
        ("[record]\nmode = 440", "line 2: mode = 440: allowed is"),
        ("[record]\nuser = a b", "line 2: user = a b: allowed is the name of a user"),
        ("[record]\nrotat = 5", "line 2: no setting rotat in [record] (did you mean rotate?)"),
        (
            "[record]\nrotate = 5\n  nat_only = yes",
            "line 3: nat_only = yes: is indented: do not indent settings",
        ),
        (
            "[recrod]\nrotate = 5",
            "line 1: no section [recrod] (did you mean record?): there are record, squeeze, expire",
        ),
        ("[DEFAULT]\nrotate = 5", "line 1: no section [DEFAULT]"),
        ("[record]\nrotate = 5\nrotate = 6", "line 3: rotate is set twice in [record]"),
        ("[record]\n[record]\n", "line 2: there are two sections [record]"),
        ("rotate = 5", "line 1: rotate = 5: is before the first section"),
        ("[record]\nrotate: 5", "line 2: rotate: 5: not a section, a comment or `name = value`"),
        ("[squeeze]\nresolution = ns", "line 2: resolution = ns: allowed is us, ms or s"),
        (
            "[expire]\nmax_age = 90",
            "line 2: max_age = 90: allowed is a number with s, m, h, d, w or y, or empty (keep for "
            "ever)",
        ),
        ("[record]\ntemplate = /var/%Y/x", "line 2: template = /var/%Y/x: allowed is a full path"),
        ("[record]\ntemplate = /var/x%D", "line 2: template = /var/x%D: allowed is a full path"),
        ("[record\nrotate = 5", "line 1: [record: is not a section, such as [record]"),
        ("[record] x\nrotate = 5", "line 1: [record] x: is not a section, such as [record]"),
        (
            "[squeeze]\nmax_age = 1y",
            "line 2: no setting max_age in [squeeze]: it belongs in [expire]",
        ),
        ("[expire]\nmax_age = 0d", "line 2: max_age = 0d: allowed is"),
        ("[expire]\nmax_size = -1G", "line 2: max_size = -1G: allowed is"),
        ("[expire]\nmin_free = 100%", "line 2: min_free = 100%: allowed is"),
        ("[record]\nuser = \x1b[31m", "line 2: user = \\x1b[31m: allowed is"),
    ],
)
def test_a_problem_names_file_line_setting_and_what_is_allowed(
    conf: Path, text: str, line: str
) -> None:
    conf.write_text(text, encoding="utf-8")
    (problem,) = problems(conf)
    assert problem.startswith(f"{conf}: {line}")


def test_check_tells_all_that_is_wrong(conf: Path) -> None:
    conf.write_text(
        "[record]\nrotate = x\n[expire]\nmax_age\n[squeeze]\nrotate = 5\n[expir]\nmax_size = 1\n"
        "[seal]\nkey = /a\nkey = /b\n"
    )
    assert [line.removeprefix(f"{conf}: ").partition(":")[0] for line in problems(conf)] == [
        f"line {number}" for number in (2, 4, 6, 7, 11)
    ]
    with pytest.raises(UsageError, match=r"line 4: .* \(and 1 more: ctrecord --check-config\)"):
        config.merge(argparse.Namespace(config=str(conf)), "expire")


def test_what_is_no_configuration_is_a_problem_of_every_section(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no such file"):
        config.read(str(conf))
    conf.write_bytes(b"[record]\n\xff\xfe")
    for path, what in (
        (conf.parent, "cannot be read: Is a directory"),
        (conf, "is not a configuration: not UTF-8 at byte 9"),
        (Path("/dev/zero"), "is not a configuration: longer than 1048576 bytes"),
    ):
        read = config.read(str(path))
        line = f"{path}: {what}"
        assert [str(problem) for problem in read.problems] == [line]
        for section in ("record", "squeeze", "expire", "seal"):
            assert read.choose(section).refusals == [line]
        assert read.folder() == (settings.DEFAULT_FOLDER, f"{line}; reading /var/log/ctrecorder")


def test_the_command_line_allows_what_the_file_allows() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-t", type=config.argument("record", "rotate"))
    assert parser.parse_args(["-t", "15"]).t == 15
    with pytest.raises(
        argparse.ArgumentError, match="'0' is not allowed: a whole number, 1 to 1440, in minutes"
    ):
        parser.parse_args(["-t", "0"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 7776000), ("1s", 1), ("2h", 7200), ("3w", 1814400), ("5m", 300), ("1y", 31557600)],
)
def test_a_duration_is_in_seconds(text: str, seconds: int) -> None:
    assert values.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("1K", 1024),
        ("2M", 2 << 20),
        ("1GiB", 1 << 30),
        ("1.5TB", 3 << 39),
    ],
)
def test_a_size_is_in_bytes(text: str, size: int) -> None:
    assert values.size(text) == size


def test_the_shipped_file_is_the_table_and_says_the_defaults(tmp_path: Path) -> None:
    shipped = (ROOT / "etc" / "ctrecorder.conf").read_text()
    assert shipped == example(), (
        "renew it: python3 -B -m tests.support.example_conf > etc/ctrecorder.conf"
    )
    live = tmp_path / "live.conf"
    live.write_text(re.sub(r"^#(\w+ =)", r"\1", shipped, flags=re.MULTILINE))
    for section, declared in settings.SECTIONS.items():
        assert chosen(str(live), section) == {
            one.name: one.parse(one.default) for one in declared.settings
        }


def test_the_shipped_file_shows_the_unit_of_a_value_above_it() -> None:
    lines = (ROOT / "etc" / "ctrecorder.conf").read_text().splitlines()
    units = [at for at, line in enumerate(lines) if line.startswith("# In ")]
    shown = {lines[at + 1].partition(" =")[0]: lines[at] for at in units}
    assert shown == {f"#{one.name}": f"# In {one.unit}:" for _, one in ALL if one.unit}
    assert shown["#rotate"] == "# In minutes:"


def test_ctrecorder_conf_5_tells_every_setting_as_the_table_does() -> None:
    page = (ROOT / "man" / "ctrecorder.conf.5").read_text()
    told: dict[tuple[str, str], str] = {}
    for section, body in re.findall(
        r"^\.Ss The (\w+) section\n.*?^\.Bl .*?\n(.*?)^\.El", page, flags=re.MULTILINE | re.DOTALL
    ):
        items = re.findall(
            r"^\.It Cm (\w+) Ns = Ns (?:Ar|Li) (.*?)\n(.*?)(?=^\.It|\Z)",
            body,
            flags=re.MULTILINE | re.DOTALL,
        )
        for name, default, words in items:
            told[section, name] = f"{default}: {' '.join(words.split())}"
    said = "{0}: {1.meaning} {1.reason} Allowed: {1.allowed}{2}."
    assert told == {
        (name, one.name): said.format(one.default or "empty", one, settings.in_unit(one))
        for name, one in ALL
    }


@pytest.mark.parametrize(
    "module",
    ["ctrecorder.service.config", "ctrecorder.service.settings", "ctrecorder.service.messages"],
)
def test_parsers_may_import_it_without_numpy(module: str) -> None:
    code = f"import sys, {module}; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"


def test_ctrecorder_conf_5_says_what_a_wrong_setting_does() -> None:
    """Each setting is in the item of its kind, and the settings of a reload are listed."""
    page = (ROOT / "man" / "ctrecorder.conf.5").read_text()
    body = page[page.index(".Sh WRONG SETTINGS") : page.index(".Sh DIAGNOSTICS")]
    items = [
        re.sub(r"[^\w]+", " ", line).split()
        for line in re.findall(r"^\.It (.*)", body, re.MULTILINE)
    ]
    told = [{word for word in words if word not in ("Cm", "Bq")} for words in items]
    kinds = WhenWrong
    expected = [
        {one.name for _, one in ALL if one.when_wrong is kinds.DEFAULT},
        {one.name for _, one in ALL if one.when_wrong is kinds.LAST_GOOD},
        *(
            {
                section,
                *(one.name for name, one in ALL if name == section and one.when_wrong is kind),
            }
            for section, kind in (
                ("squeeze", kinds.REFUSE),
                ("expire", kinds.REFUSE),
                ("ship", kinds.REFUSE),
            )
        ),
        {"keep_until_shipped"},
        {"audit"},
    ]
    assert told == expected
    listed = re.search(r"A reload changes\n\.Cm (.*)\nand\n\.Cm (\w+)", page)
    assert listed is not None
    names = report._SETTINGS
    assert {*listed[1].replace(",", " ").split(), listed[2]} == {
        names.get(name, name) for name in options.RELOADED
    }
