"""ctship: arguments, and what it says without a target that answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrecorder.cli import ctship
from ctrecorder.service import config
from tests.support.history import History


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setattr(config, "DEFAULT_PATH", str(tmp_path / "ctrecorder.conf"))
    made = History(tmp_path / "log")
    made.run("ctsqueeze", made.folder)
    return made


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = ctship.main(list(map(str, arguments)))
    return (code, *capfd.readouterr())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no target: give one with --to, or in [ship] to"),
        (("--to", "ssh://-oProxyCommand=touch /x:/y"), "must not begin with '-'"),
        (("--to", "ssh://a:/b", "--router", "../x"), "--router: '../x' is not allowed"),
        (("--to", "ssh://a:/b", "--status", "--dry-run"), "use one of --status and --dry-run"),
        (("--to", "ssh://a:/b", "--bandwidth", "fast"), "--bandwidth: 'fast' is not allowed"),
    ],
)
def test_wrong_arguments(
    history: History,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    code, out, err = run(capfd, *arguments, history.folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_dry_run_and_status_ask_nobody(
    history: History, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    to = ("--to", "ssh://192.0.2.1:/srv", "--to", "rsync://192.0.2.1/m", "--router", "edge1")
    code, out, err = run(capfd, *to, "--dry-run", history.folder)
    assert (code, err, out.count("\n")) == (0, "", 10)
    first = out.splitlines()[0]
    assert first.startswith(f"would ship {history.paths[0]}, ")
    assert " to ssh://192.0.2.1:/srv as edge1/" in first
    code, out, err = run(capfd, *to, "--status", history.folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "ssh://192.0.2.1:/srv"
    assert out.count("  shipped: 0 segments, 0 bytes\n") == 2
    assert out.count("  waiting: 5 segments, ") == 2


def test_without_rsync_it_says_what_to_install(
    history: History, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = run(capfd, "--to", "rsync://192.0.2.1/m", history.folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "rsync is not installed: apt install rsync" in err
    code, _, err = run(capfd, "--to", "ssh://192.0.2.1:/m", history.folder)
    assert "ssh is not installed: apt install openssh-client" in err


def test_the_configuration_has_the_targets(
    history: History, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "ctrecorder.conf").write_text(
        f"[ship]\nfolder = {history.folder}\nto = ssh://a:/b rsync://c/d\nrouter = edge9\n"
    )
    code, out, err = run(capfd, "--dry-run")
    assert (code, err, out.count("\n")) == (0, "", 10)
    assert " as edge9/" in out
    assert not os.path.exists(history.folder / "ctship.shipped")
