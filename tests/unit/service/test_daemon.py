"""service and privileges, each in a process of its own and looked at from outside."""

from __future__ import annotations

import ast
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ctrecorder.errors import ArchiveError, KernelError, UsageError
from ctrecorder.service import daemon, messages, privileges

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def run(code: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh Python."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        text=True,
        capture_output=True,
        timeout=20,
        env={**ENVIRONMENT, **(env or {})},
        check=False,
    )


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.01)


DROP = """
import os, sys
os.setgroups([4, 24])
from ctrecorder.service import privileges
try:
    print("missing:", privileges.drop_privileges({user!r}, {group!r}, keep_net_admin={keep}))
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(2)
status = privileges.status_of()
for name in "Uid Gid Groups CapPrm CapEff CapInh CapAmb CapBnd NoNewPrivs".split():
    print(name, status[name].split())
"""


@pytest.mark.parametrize(
    ("keep", "bits"), [(True, "0000000000001000"), (False, "0000000000000000")]
)
def test_root_becomes_a_user_with_one_capability_or_none(keep: bool, bits: str) -> None:
    result = run(DROP.format(user="nobody", group="daemon", keep=keep))
    none = "['0000000000000000']"
    assert result.stdout.splitlines() == [
        "missing: ",
        "Uid ['65534', '65534', '65534', '65534']",
        "Gid ['1', '1', '1', '1']",
        "Groups []",
        f"CapPrm ['{bits}']",
        f"CapEff ['{bits}']",
        f"CapInh {none}",
        f"CapAmb {none}",
        f"CapBnd {none}",
        "NoNewPrivs ['1']",
    ], result.stderr


def test_what_was_given_up_cannot_be_taken_back() -> None:
    code = DROP.format(user="nobody", group=None, keep=True) + (
        "calls = (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: open('/etc/shadow'))\n"
        "for call in calls:\n"
        "    try:\n        call()\n    except PermissionError:\n        continue\n"
        "    print('BACK')\n"
        "print(os.popen('grep CapEff /proc/self/status').read())"
    )
    result = run(code)
    assert "BACK" not in result.stdout
    assert result.stdout.split()[-1] == "0" * 16, "a program that it starts has nothing"


def test_the_missing_default_user_is_named_and_root_goes_on() -> None:
    code = (
        "from ctrecorder.service import privileges\nprivileges.DEFAULT_USER = 'no-such-user'\n"
        + (DROP.format(user=None, group=None, keep=True))
    )
    result = run(code)
    assert result.stdout.splitlines()[:2] == ["missing: no-such-user", "Uid ['0', '0', '0', '0']"]


@pytest.mark.parametrize(
    ("user", "group", "line"),
    [
        ("no-such-user", None, "UsageError no user no-such-user"),
        ("4294967295", None, "UsageError no user 4294967295"),
        ("99999999999999999999999", None, "UsageError no user 999"),
        ("nobody", "no-such-group", "UsageError no group no-such-group"),
    ],
)
def test_a_given_user_or_group_that_does_not_exist_is_an_error(
    user: str, group: str | None, line: str
) -> None:
    result = run(DROP.format(user=user, group=group, keep=True))
    assert result.returncode == 2
    assert result.stdout.startswith(line)


def test_a_drop_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "_change", lambda uid, gid, keep: None)
    with pytest.raises(KernelError, match="Uid is '0\\\\t0\\\\t0\\\\t0', not '65534"):
        privileges.drop_privileges("nobody", None)


def test_without_root_net_admin_must_be_there() -> None:
    become = (
        "import os\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
        "os.setgroups = lambda groups: None\n"
    )
    bare = run(become + DROP.format(user=None, group=None, keep=True))
    assert bare.stdout.startswith("KernelError recording needs CAP_NET_ADMIN")
    assert run(become + DROP.format(user="nobody", group=None, keep=False)).stdout.startswith(
        "missing: \n"
    )
    assert run(become + DROP.format(user="daemon", group=None, keep=False)).stdout.startswith(
        "UsageError cannot become user daemon"
    )


def test_the_daemon_is_detached_holds_its_pid_file_and_removes_it(tmp_path: Path) -> None:
    pid_path, out = tmp_path / "pid", tmp_path / "out"
    code = f"""
import os, time
from ctrecorder.service import daemon
from ctrecorder.service import log as service
pidfile = daemon.PidFile({str(pid_path)!r})
kept = os.open({str(out)!r}, os.O_WRONLY | os.O_CREAT)
daemon.daemonize(pidfile)
files = [os.readlink(f'/proc/self/fd/{{fd}}') for fd in (0, 1, 2)]
os.write(kept, repr((os.getpid(), os.getsid(0), os.getcwd(), files)).encode())
while not os.path.exists({str(tmp_path / "end")!r}):
    time.sleep(0.01)
pidfile.remove()
"""
    assert run(code).returncode == 0
    pid = int(pid_path.read_text())
    wait_for(lambda: out.exists() and out.read_text().endswith(")"), "the daemon's report")
    daemon_pid, session, folder, streams = ast.literal_eval(out.read_text())
    assert (daemon_pid, folder, streams) == (pid, "/", ["/dev/null"] * 3)
    assert session not in (pid, os.getsid(0)), "a session of its own that it does not lead"

    second = run(f"from ctrecorder.service import daemon\ndaemon.PidFile({str(pid_path)!r})")
    assert second.returncode != 0
    assert f"already running as pid {pid}" in second.stderr
    (tmp_path / "end").touch()
    wait_for(lambda: not pid_path.exists(), "removal of the pid file")


def test_a_daemon_that_fails_on_its_way_is_exit_2(tmp_path: Path) -> None:
    code = """
from ctrecorder.service import daemon
from ctrecorder.service import log as service
class Full:
    def write(self):
        raise OSError("no space")
daemon.daemonize(Full())
"""
    assert run(code).returncode == 2


def test_a_stale_pid_file_is_taken_over_a_foreign_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("999999999\n")
    pidfile = daemon.PidFile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()
    assert not path.exists()

    path.write_text("root:x:0:0::/root:/bin/sh\n")
    with pytest.raises(ArchiveError, match="has other content"):
        daemon.PidFile(str(path))
    assert path.read_text().startswith("root:")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    with pytest.raises(ArchiveError, match="cannot open the pid file"):
        daemon.PidFile(str(link))
    assert not (tmp_path / "target").exists()
    with pytest.raises(ArchiveError, match="cannot open the pid file"):
        daemon.PidFile("/dev/null")
    with pytest.raises(ArchiveError, match="No such file"):
        daemon.PidFile(str(tmp_path / "none" / "pid"))


def test_a_pid_file_in_a_folder_that_is_no_longer_ours_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pidfile = daemon.PidFile(str(tmp_path / "pid"))
    pidfile.write()

    def refuse(path: str, *, dir_fd: int) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "unlink", refuse)
    pidfile.remove()
    assert (tmp_path / "pid").read_text() == ""


def test_signals_wake_poll_in_order_and_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with daemon.SignalPipe([signal.SIGUSR1, signal.SIGHUP]) as pipe:
        assert pipe.read() == []
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([pipe], [], [], 2)[0] == [pipe]
        assert sorted(pipe.read()) == sorted([signal.SIGHUP, signal.SIGUSR1])
        assert select.select([pipe], [], [], 0)[0] == []
    assert signal.getsignal(signal.SIGUSR1) == before


def test_nice_is_checked_and_set() -> None:
    result = run(
        "import os\nfrom ctrecorder.service import daemon\ndaemon.set_nice(7)\n"
        "print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    assert result.stdout == "7\n"
    with pytest.raises(UsageError, match="-20 to 19"):
        daemon.set_nice(20)
    become = (
        "import os\nfrom ctrecorder.service import daemon\nos.setuid(65534)\ndaemon.set_nice(-5)"
    )
    assert "cannot set nice -5: Permission denied" in run(become).stderr


def test_notify_says_it_to_systemd_and_nothing_without_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        code = (
            "from ctrecorder.service import daemon\n"
            "daemon.notify('READY=1', 'STATUS=12 events/s')\n"
            "print(daemon.watchdog_seconds())"
        )
        result = run(
            code, env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "10000000"}
        )
        assert server.recv(1000) == b"READY=1\nSTATUS=12 events/s"
        assert result.stdout == "5.0\n"
        assert run(code, env={"NOTIFY_SOCKET": str(tmp_path / "gone")}).stdout == "0.0\n"
        assert run(code, env={"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}).stdout == "0.0\n"


def test_each_kind_of_message_has_an_id_of_its_own_and_names_only_its_fields() -> None:
    kinds = messages.kinds()
    assert len({kind.id for kind in kinds.values()}) == len(kinds) >= 20
    for name, kind in kinds.items():
        assert re.fullmatch(r"[0-9a-f]{32}", kind.id), name
        assert kind.level in (messages.ERROR, messages.WARNING, messages.NOTICE, messages.INFO), (
            name
        )
        named = set(re.findall(r"\{(\w+)\}", kind.subject + kind.help))
        assert named <= set(kind.fields), name


def test_ctrecorder_7_lists_every_kind_with_its_id_subject_and_fields() -> None:
    page = (ROOT / "man" / "ctrecorder.7").read_text()
    journal = page[page.index(".Sh THE JOURNAL") : page.index(".Sh FILES")]
    told = re.findall(
        r"^\.It Sy (\S+) No ([0-9a-f]{32})\n((?:[^.].*\n)*)(?:\.br\n((?:[^.].*\n)*))?",
        journal,
        flags=re.MULTILINE,
    )
    kinds = messages.kinds().items()
    expected = [
        (
            name.lower().replace("_", "-"),
            kind.id,
            re.sub(r"\{(\w+)\}", lambda field: field[1].upper(), f"{kind.subject}."),
            [field.upper() for field in kind.fields],
        )
        for name, kind in kinds
    ]
    assert [
        (name, number, " ".join(subject.split()), fields.replace(",", " ").split())
        for name, number, subject, fields in told
    ] == expected
    for quoted in set(
        re.findall(
            r"\b[0-9a-f]{32}\b", "".join(path.read_text() for path in (ROOT / "man").iterdir())
        )
    ):
        assert quoted in {kind.id for kind in messages.kinds().values()}


@pytest.mark.slow
def test_entries_have_only_the_fields_of_their_kind() -> None:
    """Read from the sources: other fields are in no man page and in no catalog."""
    kinds = messages.kinds()
    for path in (ROOT / "ctrecorder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "send"
                and node.args
            ):
                kind = node.args[0]
                if isinstance(kind, ast.Attribute) and kind.attr in kinds:
                    given = {keyword.arg for keyword in node.keywords if keyword.arg}
                    assert given <= set(kinds[kind.attr].fields), f"{path.name}:{node.lineno}"
