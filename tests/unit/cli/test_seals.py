"""The commands that make and take a verification key."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ctrecorder.cli import ctexpire, ctrecord, ctsqueeze, cttest
from ctrecorder.kept.retention import HOLDS, RECEIPTS
from ctrecorder.sealing import locate
from ctrecorder.sealing.state import SealError
from ctrecorder.seals.keys import key_id, key_text, parse_key_text
from ctrecorder.service.config import read
from ctrecorder.times import DAY
from tests.support.history import History
from tests.support.sealed import Recording

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locate, "DEFAULT_ROOT", str(tmp_path / "lib"))
    path = tmp_path / "router.conf"
    path.write_text("")
    return path


def sealed_in(config: Path, named: str | None = None, netns: str | None = None) -> str | None:
    """The folder of the key for a recorder with this configuration."""
    choice = read(str(config)).choose("seal")
    return locate.live_state(named, {**choice.values}, str(config), netns)


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_key_is_made_and_shown_once(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--setup-seal", "-c", str(config), "-U", "root"]
    assert ctrecord.main(arguments) == 0
    out, advice = capsys.readouterr()
    key = parse_key_text(out)
    state = tmp_path / "lib" / "router"
    assert locate.find_state(key_id(key), None) == str(state)
    assert "keep it off this machine" in advice
    assert "can also forge them" in advice
    assert [path.stat().st_mode & 0o777 for path in (state.parent, state)] == [0o700, 0o700]
    before = (state / "key").read_bytes()
    assert ctrecord.main(arguments) == 2
    assert "--replace-key" in capsys.readouterr().err
    assert (state / "key").read_bytes() == before
    assert ctrecord.main([*arguments, "--replace-key"]) == 0
    assert parse_key_text(capsys.readouterr().out) != key
    assert ctrecord.main(["--replace-key", "-c", str(config)]) == 2


def test_at_a_terminal_there_is_a_qr_code(tmp_path: Path) -> None:
    """Of the same key, in half blocks; a pipe gets the text alone."""
    reading, writing = pty.openpty()
    command = [sys.executable, "-B", "bin/ctrecord", "--setup-seal", "-U", "root"]
    command += ["--seal-state", str(tmp_path / "state")]
    subprocess.run(
        command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=True, timeout=60
    )
    os.close(writing)
    shown = b""
    try:
        while data := os.read(reading, 65536):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(reading)
    lines = shown.decode().splitlines()
    parse_key_text("".join(lines[1:3]))
    code = [line for line in lines if "\u2588" in line]
    assert len(code) > 15
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize("static", [False, True])
def test_whether_a_recorder_seals(config: Path, tmp_path: Path, *, static: bool) -> None:
    assert sealed_in(config) is None
    with pytest.raises(SealError, match="no key"):
        sealed_in(config, str(tmp_path / "lib" / "blue"))
    path = tmp_path / "lib" / "blue"
    assert ctrecord.main(["--setup-seal", "--seal-state", str(path), "-c", str(config)]) == 0
    if static:
        config.write_text("[seal]\nkey = /etc/key\n")
        with pytest.raises(Exception, match="static key"):
            sealed_in(config, str(path))
        return
    assert sealed_in(config, None, "/run/netns/blue") == str(path)
    config.write_text(f"[seal]\nstate = {path}\n")
    assert sealed_in(config) == str(path)
    config.write_text(f"[seal]\nstate = {path}/none\n")
    with pytest.raises(SealError, match="no key"):
        sealed_in(config)


def test_a_folder_of_another_user_is_not_needed(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who records by hand cannot look into that of the service."""

    def refuse(path: str, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert sealed_in(config) is None
    with pytest.raises(SealError, match="Permission denied"):
        sealed_in(config, "/var/lib/ctrecorder/x")


def test_cttest_reads_the_key_from_standard_input(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = Recording(tmp_path)
    path = ours.record(1)
    arguments = ["--seals", "-c", str(config), str(ours.folder)]
    typed(monkeypatch, key_text(ours.key))
    assert cttest.main(arguments) == 0
    told = capsys.readouterr()
    assert "sealed until" in told.out
    assert told.err == ""
    for text in ("nonsense", key_text(ours.key)[:-1]):
        typed(monkeypatch, text)
        assert cttest.main(arguments) == 2
        assert "not a verification key" in capsys.readouterr().err
    for nothing in ("", "\n", " \n\n"):
        typed(monkeypatch, nothing)
        assert cttest.main(arguments) == 2
        assert "no verification key was given" in capsys.readouterr().err
    path.unlink()
    typed(monkeypatch, key_text(ours.key).lower())
    assert cttest.main(arguments) == 1
    monkeypatch.setattr(sys, "stdin", None)
    assert cttest.main(arguments) == 2


def test_cttest_tells_to_check_elsewhere(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = Recording(tmp_path)
    ours.record(1)
    (tmp_path / "lib").mkdir()
    ours.state.rename(tmp_path / "lib" / "router")
    typed(monkeypatch, key_text(ours.key))
    assert cttest.main(["--seals", "-q", "-c", str(config), str(ours.folder)]) == 0
    assert "check on another one" in capsys.readouterr().err


def test_the_commands_find_the_key_by_its_id(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = Recording(tmp_path)
    path = ours.record(1)
    before = path.read_bytes()
    squeeze = ["-c", str(config), str(ours.folder)]
    assert ctsqueeze.main(squeeze) == 2
    assert "no folder has the key" in capsys.readouterr().err
    assert path.read_bytes() == before
    (tmp_path / "lib").mkdir()
    ours.state.rename(tmp_path / "lib" / "any-name")
    ours.state = tmp_path / "lib" / "any-name"
    assert ctsqueeze.main(squeeze) == 0
    assert len(path.read_bytes()) != len(before)
    hold = ["--hold", "--since", "2020-01-01", "--reason", "case 17"]
    assert ctexpire.main([*hold, "-c", str(config), str(ours.folder)]) == 0
    assert ctexpire.main(["--release", "1", "-c", str(config), str(ours.folder)]) == 0
    ours.clock.passes(400 * DAY)
    assert ctexpire.main(["--max-size", "0", "-c", str(config), str(ours.folder)]) == 0
    assert not path.exists()
    assert ours.check()[1] == []


@pytest.mark.parametrize("line", ["state = lib/here", "stat = /srv/key"])
def test_a_wrong_setting_keeps_what_is_sealed_and_nothing_else(
    config: Path, tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key may be in the folder that was meant: then nothing is deleted or released unsealed."""
    ours = Recording(tmp_path)
    sealed = ours.record(1)
    plain = History(tmp_path / "other").paths[0].rename(ours.folder / "plain.ctlog")
    config.write_text(f"[seal]\n{line}\n")
    where = ["-c", str(config), str(ours.folder)]
    assert ctexpire.main(["--max-age", "1s", "--trust-clock", *where]) == 2
    assert f"{config}: line 2: " in capsys.readouterr().err
    assert sealed.exists()
    assert not plain.exists()
    assert sealed.name not in (ours.folder / RECEIPTS).read_text()
    assert ctexpire.main(["--hold", "--reason", "case 17", *where]) == 2
    told = capsys.readouterr().err
    assert "the ledger does not note the hold" in told
    assert "hold 1 set" in told
    assert ctexpire.main(["--release", "1", *where]) == 2
    assert ctexpire.main(["--holds", *where]) == 0, "it is held"
    (ours.folder / HOLDS).unlink()
    assert ours.check()[0] == 0

    # A key that is found by its id is the right one, whatever was meant.
    (tmp_path / "lib").mkdir()
    ours.state = ours.state.rename(tmp_path / "lib" / "any-name")
    assert ctexpire.main(["--max-age", "1s", "--trust-clock", *where]) == 0
    assert not sealed.exists()
    assert ours.check()[1] == []


def test_only_sealed(config: Path, tmp_path: Path) -> None:
    ours = Recording(tmp_path)
    sealed = ours.record(1)
    (tmp_path / "lib").mkdir()
    ours.state.rename(tmp_path / "lib" / "any-name")
    plain = History(tmp_path / "other").paths[0]
    there = plain.rename(ours.folder / "plain.ctlog")
    sizes = [path.stat().st_ino for path in (sealed, there)]
    assert ctsqueeze.main(["--only-sealed", "-c", str(config), str(ours.folder)]) == 0
    after = [path.stat().st_ino for path in (sealed, there)]
    assert (sizes[0] != after[0], sizes[1] == after[1]) == (True, True)
