"""A command that tells who held an address: real scripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ctrecorder.errors import CtrecorderError, UsageError
from ctrecorder.names import command, reader
from ctrecorder.names.directory import Directory, Holder

S = 10**9
SINCE, UNTIL = 1795455437 * S + 5, 1795455438 * S  # 2026-11-23 17:37:17

Script = Callable[[str], Directory]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A directory of a shell script with this body."""

    def made(body: str) -> Directory:
        path = tmp_path / "who had"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o700)
        return reader.read(f"|{path}", UNTIL)

    return made


def asked(source: Directory) -> tuple[Holder, ...]:
    return source.holders("100.64.0.7", SINCE, UNTIL, 1, None)


def running(group: int) -> list[str]:
    """The states of the processes of a group that still run; init may not have reaped others."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state not in "ZX":
                found.append(state)
    return found


def test_it_is_asked_with_address_and_time(tmp_path: Path, script: Script) -> None:
    out = tmp_path / "out"
    source = script(
        f"""printf '%s\\n' "$@" >'{out}'; cat >>'{out}'; pwd >>'{out}'; env >>'{out}'
echo 'address,name,from,until,zone'
echo '100.64.0.7,Anna; rm -rf /,2026-11-23T00:00:00Z,,1'
echo '100.64.0.7,Bob,2026-11-23T17:37:17.5Z,,'
echo '100.64.0.7,other zone,,,2'
echo '100.64.0.7,over,,2026-11-23T17:37:17Z,'
echo '100.64.0.8,other address,,,'"""
    )
    found = asked(source)
    assert [one.name for one in found] == ["Anna; rm -rf /", "Bob"]
    assert found[0].source == f"{tmp_path}/who had, line 2"
    lines = out.read_text().splitlines()
    assert lines[:4] == [
        "100.64.0.7",
        "2026-11-23T17:37:17.000000005Z",
        "2026-11-23T17:37:18.000000000Z",
        "/",
    ]
    names = {line.partition("=")[0] for line in lines[4:]}
    assert names <= {"PATH", "LC_ALL", "HOME", "TZ", "PWD", "OLDPWD", "SHLVL", "_"}


def test_an_answer_is_kept(tmp_path: Path, script: Script) -> None:
    source = script(f"echo x >>'{tmp_path}/runs'; echo address,name; echo 100.64.0.7,Anna")
    assert asked(source) == asked(source)
    assert (tmp_path / "runs").read_text() == "x\n"


def test_it_knows_nobody(script: Script) -> None:
    assert asked(script("echo address,name")) == ()
    assert asked(script("true")) == ()


def test_lines_that_cannot_be_read_are_problems(tmp_path: Path, script: Script) -> None:
    source = script("echo address,name; echo 100.64.0.7; echo 100.64.0.7,Anna")
    assert [one.name for one in asked(source)] == ["Anna"]
    assert source.problems == (
        f"{tmp_path}/who had: line 2 of its output: it has 1 values for 2 columns",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'no database\x1b[31m' >&2; echo more >&2; exit 3",
         "failed with exit status 3: no database\\x1b[31m"),
        ("exit 1", "failed with exit status 1"),
        ("kill -9 $$", "failed with exit status -9"),
        ("yes 100.64.0.7,Anna", "printed more than 1,048,576 bytes"),
        ("yes | head -c 3000000 >&2; exit 4", "exit status 4"),
    ],
)  # fmt: skip
def test_a_command_that_fails(script: Script, body: str, reason: str) -> None:
    with pytest.raises(CtrecorderError) as caught:
        asked(script(body))
    assert str(caught.value).startswith("--names: ")
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("body", ["sleep 600", "exec >&- 2>&-; sleep 600", "sleep 600 & exit 0"])
def test_a_command_that_hangs_is_killed(
    tmp_path: Path, script: Script, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "TIMEOUT_SECONDS", 0.3)
    source = script(f"echo $$ >'{tmp_path}/pid'; {body}")
    begin = time.monotonic()
    with pytest.raises(CtrecorderError, match="did not end within"):
        asked(source)
    assert time.monotonic() - begin < 5
    group = int((tmp_path / "pid").read_text())
    while running(group):  # a killed process takes a moment to end
        assert time.monotonic() - begin < 10
        time.sleep(0.02)


def test_what_is_no_command(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for source, reason in (
        ("|who", "write its full path"),
        ("|", "write its full path"),
        (f"|{path}", "No such file"),
        (f"|{tmp_path}", "no program that this user can run"),
        ("|/dev/null", "no program that this user can run"),
    ):
        with pytest.raises(UsageError, match=reason):
            reader.read(source, 0)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="no program that this user can run"):
        reader.read(f"|{path}", 0)
    path.chmod(0o777)
    with pytest.raises(UsageError, match="everybody can change"):
        reader.read(f"|{path}", 0)
    path.write_text("#!/nowhere\n")
    path.chmod(0o700)
    with pytest.raises(UsageError, match="cannot run"):
        asked(reader.read(f"|{path}", 0))
