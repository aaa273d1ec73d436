"""A wrong setting stops what it governs and nothing else: for every setting, what each command does
with a wrong value, a misspelt name, and a file that cannot be read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.cli import ctexpire, ctrecord, ctship, ctsqueeze, cttest
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import UsageError
from ctrecorder.listing import ctlist
from ctrecorder.record.configured import Configured
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import config, settings
from ctrecorder.service.key import read_key
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T, row, table

# What becomes of a wrong setting: written here by hand, to compare with the declarations.
USES_DEFAULT = {
    "record.rotate": "60",
    "record.inside": "",
    "record.updates": "no",
    "record.resync": "yes",
    "record.accept_notrack": "no",
    "record.probe": "yes",
    "record.buffer": "65536",
    "record.rows": "16384",
    "record.memory": "64",
    "record.sync": "10",
    "record.nice": "0",
    "squeeze.resolution": "us",
    "metrics.directory": "/run/ctrecorder",
    "ship.ship_raw": "no",
}
USES_LAST_GOOD = {
    "record.template": "/srv/log/%s.ctlog",
    "record.protocols": "udp",
    "record.nat_only": "yes",
    "record.omit": "remote",
    "record.user": "",
    "record.group": "",
    "record.mode": "0600",
    "seal.key": "",
    "seal.state": "",
}
REFUSES = {
    "squeeze.folder",
    "squeeze.keep",
    "expire.folder",
    "expire.max_age",
    "expire.max_size",
    "expire.min_free",
    "expire.trust_clock",
    "ship.folder",
    "ship.to",
    "ship.router",
    "ship.bandwidth",
    "ship.ssh_key",
    "ship.password_file",
}
STRICTEST = {"query.audit", "ship.keep_until_shipped"}
ALL = [f"{name}.{one.name}" for name, each in settings.SECTIONS.items() for one in each.settings]


@dataclass
class Site:
    """A folder with one closed segment of long ago, and the default configuration."""

    folder: Path
    conf: Path
    capfd: pytest.CaptureFixture[str]

    def write(self, text: str) -> None:
        """The configuration: `text` over sections that name the folder."""
        named = f"[record]\ntemplate = {self.folder}/%s.ctlog\n"
        named += f"[squeeze]\nfolder = {self.folder}\n[expire]\nfolder = {self.folder}\n"
        section, _, line = text.partition(": ")
        name = line.partition(" =")[0]
        lines = named.splitlines() if line else []
        if line:
            at = lines.index(section) if section in lines else len(lines)
            if at == len(lines):
                lines.append(section)
            if len(lines) > at + 1 and lines[at + 1].startswith(f"{name} ="):
                del lines[at + 1]
            lines.insert(at + 1, line)
        self.conf.write_text("\n".join(lines) + "\n" if line else named)

    def run(self, command: str, *arguments: str) -> tuple[int, str, list[str]]:
        """Exit code, stdout and the lines of stderr."""
        programs = {
            "ctlist": ctlist.main,
            "ctwho": ctwho.main,
            "cttest": cttest.main,
            "ctexpire": ctexpire.main,
            "ctship": ctship.main,
            "ctsqueeze": ctsqueeze.main,
            "ctrecord": ctrecord.main,
        }
        self.capfd.readouterr()
        code = programs[command](arguments)
        out, err = self.capfd.readouterr()
        return code, out, err.splitlines()

    def segments(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.ctlog"))


@pytest.fixture
def site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Site:
    folder = tmp_path / "log"
    folder.mkdir()
    writer = SegmentWriter.create(str(folder / "001.ctlog"), Header(), bytes(16), time_ns=T)
    writer.append(table([row(NEW, T), row(DESTROY, T + SECOND)]))
    writer.close()
    conf = tmp_path / "ctrecorder.conf"
    monkeypatch.setattr(config, "DEFAULT_PATH", str(conf))
    monkeypatch.setattr(config, "DEFAULT_FOLDER", str(folder))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    site = Site(folder, conf, capfd)
    site.write("")
    return site


def test_every_setting_has_its_row() -> None:
    assert sorted([*USES_DEFAULT, *USES_LAST_GOOD, *REFUSES, *STRICTEST]) == sorted(ALL)


def test_with_right_settings_every_command_works(site: Site) -> None:
    assert site.run("ctrecord", "--check-config") == (
        0,
        f"{site.conf}: all settings are right\n",
        [],
    )
    assert site.run("ctlist", "-s")[::2] == (0, [])
    assert site.run("cttest")[::2] == (0, [])
    assert site.run("ctsqueeze")[0] == 0
    assert site.run("ctexpire", "--max-age", "1s")[0] == 0
    assert site.segments() == []


@pytest.mark.parametrize("setting", ALL)
@pytest.mark.parametrize("how", ["value", "name"])
def test_a_wrong_setting(site: Site, setting: str, how: str) -> None:
    section, name = setting.split(".")
    line = f"{name} = ?" if how == "value" else f"{name}x = 1"
    site.write(f"[{section}]: {line}")
    written = line.replace("= ?", "= ?: allowed is") if how == "value" else f"no setting {name}x in"
    said = written

    code, out, err = site.run("ctrecord", "--check-config")
    assert (code, out, len(err)) == (2, "", 1), err
    assert said in err[0]

    # A question depends on nothing but the folder, and on its own section.
    code, out, err = site.run("ctlist")
    if section == "query":
        assert (code, out) == (2, "")
        assert "using audit = require-reason" in err[0]
        assert "a reason is required" in err[1]
        code, out, _ = site.run("ctlist", "--reason", "case 17")
        err = []
    assert (code, out.count("\n")) == (0, 2)
    misled = setting == "record.template" and how == "value"
    assert [each for each in err if not misled or f"; reading {site.folder}" not in each] == []
    code, out, err = site.run("cttest")
    # A name that resembles none can be meant for any.
    keyless = setting == "seal.key" or (section == "seal" and how == "name")
    assert code == (2 if keyless else 0)
    assert ("seals are not checked" in out) == keyless

    # Nothing is deleted while anything in [expire] is wrong; holds need its folder only.
    for arguments in ((), ("--max-age", "1s"), ("--max-age", "1s", str(site.folder))):
        if section == "expire":
            code, _, err = site.run("ctexpire", *arguments)
            assert (code, len(err)) == (2, 1)
            assert said in err[0]
    assert site.segments() == ["001.ctlog"]
    code, out, err = site.run("ctexpire", "--hold", "--reason", "x")
    assert code == (2 if setting == "expire.folder" else 0), err
    code = site.run("ctexpire", "--hold", "--reason", "x", str(site.folder))[0]
    assert code == 0
    for number in range(1, 3):
        site.run("ctexpire", "--release", str(number), str(site.folder))

    code, _, err = site.run("ctsqueeze")
    stopped = keyless or setting in ("squeeze.folder", "squeeze.keep")
    assert code == (2 if stopped else 0), err
    assert any(said in each for each in err) == (stopped or section == "squeeze")
    if setting in ("squeeze.folder", "squeeze.resolution"):
        assert site.run("ctsqueeze", str(site.folder))[0] == 0

    code, _, err = site.run("ctship", "--to", "ssh://a:/b", "--dry-run", str(site.folder))
    refused = setting in ("ship.router", "ship.bandwidth", "ship.ssh_key", "ship.password_file")
    assert code == (2 if refused else 0), err
    code, _, err = site.run("ctship", "--dry-run")
    assert code == 2
    assert (said in err[0]) == (section == "ship" and setting in REFUSES), err
    recorder(site, setting, said, how)

    if section != "expire":
        assert site.run("ctexpire", "--max-age", "1s")[0] == 0
        assert site.segments() == []


def recorder(site: Site, setting: str, said: str, how: str) -> None:
    """What the recorder makes of it, without and with values that were right before."""
    section, name = setting.split(".")
    configured = Configured({}, None)
    if setting in USES_LAST_GOOD:
        with pytest.raises(UsageError, match=r"line \d+: "):
            configured.read()
    else:
        configured.read()
        uses = USES_DEFAULT.get(setting)
        if section in ("record", "metrics"):
            (notice,) = configured.notices
            assert said in notice
            assert notice.endswith(f"; using {name} = {uses}".rstrip())
        else:
            assert configured.notices == []
    if setting not in USES_LAST_GOOD:
        return
    state = site.conf.parent / "state"
    state.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(state))
        kept: dict[str, dict[str, str]] = {"record": {}, "seal": {}}
        for each, text in USES_LAST_GOOD.items():
            kept[each.split(".")[0]][each.split(".")[1]] = text
        (state / "ctrecorder.conf.last-good").write_text(json.dumps(kept))
        configured = Configured({}, None)
        options = configured.read()
        (notice,) = configured.notices
        assert said in notice
        assert f"{name} = {USES_LAST_GOOD[setting]}".rstrip() in notice
        if section == "record" and how == "name":
            # It may have been any of them: all are as they were.
            assert (options.nat_only, options.protocols, options.mode) == (True, (17,), 0o600)
            assert options.template == "/srv/log/%s.ctlog"


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("[expier]\nmax_age = 5y\n", {"ctexpire"}),
        ("[retention]\nmax_age = 5y\n", {"ctexpire"}),
        ("[nothing]\nof_ours = 1\n", set()),
        ("[sael]\nkey = /etc/key\n", {"ctrecord", "ctsqueeze"}),
        ("[recrod]\nrotate = 5\n", {"ctrecord"}),
        ("nat_only = yes\n", {"ctrecord"}),
        ("rotate = 5\n", set()),
        ("[record]\nnat_only yes\n", {"ctrecord"}),
        ("[record]\nfilter = tcp\n", {"ctrecord"}),
        ("[record]\nmax_age = 5y\n", {"ctexpire"}),
        ("[squeeze]\nmax_age = 5y\n", {"ctexpire", "ctsqueeze"}),
        ("[record]\nrotate = 5\n[record]\nnice = 1\n", set()),
        ("[record]\nnat_only = yes\nnat_only = no\n", {"ctrecord"}),
        ("\udcff", {"ctrecord", "ctexpire", "ctsqueeze"}),
    ],
)
def test_what_is_not_known_stops_only_what_it_may_be_about(
    site: Site, text: str, stops: set[str]
) -> None:
    site.conf.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert site.run("ctrecord", "--check-config")[0] == 2
    assert site.run("ctlist", "--reason", "case")[0] == 0
    stopped = set()
    for command in ("ctsqueeze", "ctexpire"):
        if site.run(command, str(site.folder))[0] == 2:
            stopped.add(command)
    assert (site.segments() == ["001.ctlog"]) == ("ctexpire" in stops)
    try:
        Configured({}, None).read()
    except UsageError:
        stopped.add("ctrecord")
    assert stopped == stops


def test_ctlist_and_cttest_follow_the_folder(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "DEFAULT_FOLDER", str(tmp_path / "none"))
    for text in (
        f"[record]\ntemplate = {site.folder}/%s.ctlog\n[squeeze]\nfolder = /none\n",
        f"[squeeze]\nfolder = {site.folder}\n[expire]\nfolder = /none\n",
        f"[expire]\nfolder = {site.folder}\n",
    ):
        site.conf.write_text(text)
        for arguments in (("ctlist",), ("cttest",), ("ctlist", "--coverage")):
            assert site.run(*arguments)[::2] == (0, [])
        code, _, err = site.run("ctwho", "192.0.2.1:5", "2020-01-01")
        assert (code, err) == (3, [])
    site.conf.write_text("[record]\ntemplate = log\n")
    code, _, err = site.run("ctlist")
    assert code == 2
    assert "template = log: allowed is" in err[0]
    assert err[0].endswith(f"; reading {tmp_path}/none")


def test_what_was_right_is_kept_and_read_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path = str(site.conf)
    site.write("[record]: nat_only = yes")
    given = {"template": "/run/x/%s.ctlog"}
    configured = Configured(given, path)
    assert configured.read().nat_only
    assert list(tmp_path.glob("*.last-good")) == []
    configured._keep()
    stored = json.loads((tmp_path / "ctrecorder.conf.last-good").read_text())
    assert stored["record"]["nat_only"] == "yes"
    assert "template" not in stored["record"], "that of the command line is not in the file"
    assert stored["seal"] == {"key": "", "state": ""}
    site.write("[record]: nat_only = no")
    for broken in ("{", "[]", '{"record": 3}', "\x00", "[" * 70_000):
        (tmp_path / "ctrecorder.conf.last-good").write_text(broken)
        assert not Configured(given, path).read().nat_only
    site.write("[record]: nat_only = nein")
    with pytest.raises(UsageError):
        Configured(given, path).read()
    (tmp_path / "ctrecorder.conf.last-good").write_text(json.dumps(stored))
    assert Configured(given, path).read().nat_only
    with pytest.raises(UsageError):
        Configured(given, str(other(site))).read()


def test_a_wrong_inside_leaves_no_more_recorded(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With omit it decides what is recorded: the last one is used, else nothing is recorded."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    given = {"template": "/run/x/%s.ctlog"}
    right, wrong = "203.0.113.0/24", "203.0.113.0/240"
    site.conf.write_text(f"[record]\ninside = {wrong}\n")
    assert Configured(given, str(site.conf)).read().inside == ()
    site.conf.write_text(f"[record]\nomit = remote\ninside = {wrong}\n")
    with pytest.raises(UsageError, match=f"inside = {re.escape(wrong)}"):
        Configured(given, str(site.conf)).read()
    site.conf.write_text(f"[record]\nomit = remote\ninside = {right}\n")
    configured = Configured(given, str(site.conf))
    assert configured.read().inside == (right,)
    configured._keep()
    for words, omit in (("omit = remote\n", {}), ("", {"omit": "remote"})):
        site.conf.write_text(f"[record]\n{words}inside = {wrong}\n")
        configured = Configured(given | omit, str(site.conf))
        assert configured.read().inside == (right,)
        (notice,) = configured.notices
        assert notice.endswith(f"; using inside = {right}")


def test_a_folder_or_a_key_that_is_not_there_is_wrong_too(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    key, stored = tmp_path / "seal.key", tmp_path / "ctrecorder.conf.last-good"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    right = {"record": {"template": f"{site.folder}/%s.ctlog"}, "seal": {"key": str(key)}}
    stored.write_text(json.dumps(right))
    site.conf.write_text(f"[record]\ntemplate = {tmp_path}/lgo/%s\n[seal]\nkey = {tmp_path}/sael\n")
    configured = Configured({}, None)
    options = configured.read()
    assert (options.template, options.key) == (f"{site.folder}/%s.ctlog", read_key(str(key)))
    template, seal = configured.notices
    assert f"{tmp_path}/lgo is not a folder" in template
    assert template.endswith(f"; using template = {site.folder}/%s.ctlog")
    assert seal.endswith(f"; using key = {key}")
    # Not without a seal, where one is configured.
    stored.write_text(json.dumps({**right, "seal": {"key": ""}}))
    with pytest.raises(UsageError, match="the key cannot be read"):
        Configured({}, None).read()
    # A disk that is not mounted is no other folder.
    stored.write_text(json.dumps({**right, "record": {"template": f"{tmp_path}/lgo/%s"}}))
    assert Configured({}, None).read().template == f"{tmp_path}/lgo/%s"


def other(site: Site) -> Path:
    """Another recorder's configuration, with the same mistake: it has a store of its own."""
    path = site.conf.with_name("udp.conf")
    path.write_text(site.conf.read_text())
    return path
