"""The doctor's look at the kernel: the real one in namespaces, else its recorded answers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctrecorder import uapi
from ctrecorder.check import doctor_kernel, doctor_tools
from ctrecorder.check.doctor_tools import Finding, Note
from ctrecorder.errors import KernelError
from ctrecorder.kernel import sockets, timex, tracking
from ctrecorder.kernel.statistics import Statistics
from ctrecorder.kernel.timex import ClockState
from ctrecorder.service import settings
from tests.support.router import wait_until

ROOT = Path(__file__).parents[3]
RECORD = {one.name: one.parse(one.default) for one in settings.SECTIONS["record"].settings}
NAT = "table ip nat { chain post { type nat hook postrouting priority srcnat; masquerade; }; }"


def in_namespace(script: str) -> str:
    command = ["unshare", "--net", "sh", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def look(code: str) -> str:
    """The shell command that prints the fixes of findings, in a namespace."""
    code = f"from ctrecorder.check import doctor_kernel as k; print(*({code}), sep='\\n')"
    return f"{sys.executable} -B -c {shlex.quote(code)}"


@pytest.mark.parametrize(
    ("sysctls", "asleep", "fixes"),
    [
        ({}, False, ["modprobe nf_conntrack_netlink"]),
        ({"nf_conntrack_count": 0}, False, ["boot a kernel with CONFIG_NF_CONNTRACK_EVENTS"]),
        (
            {"nf_conntrack_count": 0, "nf_conntrack_events": 1, "nf_conntrack_timestamp": 1},
            False,
            [],
        ),
        (
            {"nf_conntrack_count": 0, "nf_conntrack_events": 2, "nf_conntrack_timestamp": 0},
            True,
            [
                "sysctl -w net.netfilter.nf_conntrack_events=1",
                "sysctl -w net.netfilter.nf_conntrack_timestamp=1",
                "load the router's NAT",
            ],
        ),
        (
            {"nf_conntrack_count": 0, "nf_conntrack_events": 1},
            False,
            ["boot a kernel with CONFIG_NF_CONNTRACK_TIMESTAMP"],
        ),
    ],
)
def test_what_the_kernel_lacks_is_found(
    monkeypatch: pytest.MonkeyPatch, sysctls: dict[str, int], asleep: bool, fixes: list[str]
) -> None:
    monkeypatch.setattr(sockets, "sysctl", sysctls.get)
    off = [uapi.AF_INET6] if asleep else []
    monkeypatch.setattr(tracking, "families_off", lambda: off)
    monkeypatch.setattr(tracking, "forwards", lambda family: True)
    monkeypatch.setattr(doctor_kernel, "prove_events", lambda: iter(()))
    found = [one.fix for one in doctor_kernel.look_at_kernel() if isinstance(one, Finding)]
    assert len(found) == len(fixes)
    assert all(fix.startswith(start) for fix, start in zip(found, fixes, strict=True))


def test_events_that_are_off_are_not_called_autodetected(monkeypatch: pytest.MonkeyPatch) -> None:
    sysctls = {"nf_conntrack_count": 0, "nf_conntrack_events": 0, "nf_conntrack_timestamp": 1}
    monkeypatch.setattr(sockets, "sysctl", sysctls.get)
    monkeypatch.setattr(tracking, "families_off", list)
    (finding,) = doctor_kernel.look_at_kernel()
    assert finding.what == (
        "net.netfilter.nf_conntrack_events is 0: the kernel sends no events, so nothing is recorded"
    )


@pytest.mark.parametrize(("family", "name"), [(2, "IPv4"), (10, "IPv6")])
def test_a_family_that_sleeps_alone_is_named(
    monkeypatch: pytest.MonkeyPatch, family: int, name: str
) -> None:
    monkeypatch.setattr(tracking, "families_off", lambda: [family])
    monkeypatch.setattr(tracking, "forwards", lambda family: True)
    (finding,) = doctor_kernel._look_at_families("")
    assert isinstance(finding, Finding)
    assert finding.what.startswith(f"{name} connection tracking is off: ")
    # The command that wakes it works, and is for that family only.
    rule = re.search(r"nft ('.*')$", finding.fix)
    assert rule is not None
    shown = in_namespace(f"nft {rule[1]}; nft list ruleset")
    assert shown.startswith(
        {2: "table ip ctrecorder_wake", 10: "table ip6 ctrecorder_wake"}[family]
    )
    assert "ct state new counter" in shown


def test_a_family_that_is_not_forwarded_may_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "families_off", lambda: [uapi.AF_INET6])
    monkeypatch.setattr(tracking, "forwards", lambda family: family == uapi.AF_INET)
    (note,) = doctor_kernel._look_at_families("")
    assert isinstance(note, Note)
    assert note.why.startswith("IPv6 is not forwarded here: ")


def test_one_interface_that_forwards_is_enough() -> None:
    look = "from ctrecorder.kernel.tracking import forwards as f; print(f(2), f(10))"
    asked = f'{sys.executable} -B -c "{look}"'
    assert in_namespace(asked) == "False False\n"
    one = "sysctl -qw net.ipv6.conf.lo.forwarding=1 && "
    assert in_namespace(one + asked) == "False True\n"


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["", f"nft '{NAT}';"])
def test_the_probe_proves_that_events_arrive(rules: str) -> None:
    """events=1 and 2 (this process listens): they arrive; 0: they do not, and the fix helps."""
    look_at_events = look("one.what for one in k.prove_events()")
    for value in (1, 2):
        setting = f"sysctl -qw net.netfilter.nf_conntrack_events={value};"
        assert in_namespace(f"{rules} {setting} {look_at_events}") == "\n"
    fix = look("one.fix for one in k.look_at_kernel() if 'k_events' in one.what")
    script = f"{rules} sysctl -qw net.netfilter.nf_conntrack_events=0; {look_at_events}; "
    script += f'sh -euc "$({fix})" >&2; {look_at_events}; conntrack -L 2>/dev/null'
    found, *rest = in_namespace(script).splitlines()
    assert found.startswith("events do not arrive: ")
    assert rest == [""], "fixed, and no entry stays behind"


def test_a_probe_that_is_refused_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> bool:
        raise KernelError("the kernel refused: Cannot allocate memory")

    monkeypatch.setattr(doctor_kernel, "_probe_arrives", refuse)
    (finding,) = doctor_kernel.prove_events()
    assert finding.what == (
        "it is not proved that events arrive: the kernel refused: Cannot allocate memory"
    )


def test_without_rights_the_doctor_says_so_and_does_not_guess() -> None:
    code = "from ctrecorder.check import doctor_kernel as k; "
    code += "print(len(list(k.prove_events())), *(one.fix for one in k.look_at_rights()))"
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "0 run as root: cttest --doctor\n"


@pytest.mark.parametrize(("entries", "limit", "full"), [(89, 100, 0), (90, 100, 1), (9, 0, 0)])
def test_a_table_that_is_nearly_full_is_found(
    monkeypatch: pytest.MonkeyPatch, entries: int, limit: int, full: int
) -> None:
    sysctls = {"nf_conntrack_count": entries, "nf_conntrack_max": limit}
    monkeypatch.setattr(sockets, "sysctl", sysctls.get)
    monkeypatch.setattr(doctor_kernel, "read_statistics", lambda: Statistics(0, 0, 0))
    monkeypatch.setattr(doctor_tools, "in_container", lambda: False)
    found = list(doctor_kernel.look_at_table())
    assert len(found) == full, "0 entries at most means that there is no limit"
    if full:
        assert found[0].what.startswith("the connection table is nearly full: 90 of 100 entries")
        assert "sysctl -w net.netfilter.nf_conntrack_max=200" in repr(found[0])


def test_what_the_kernel_refused_is_no_more_certain_than_its_counters() -> None:
    def said(*counters: int) -> list[str]:
        return [note.what for note in doctor_kernel.describe_refused(Statistics(*counters))]

    collision = "refused: no free source port, or a collision"
    assert said(0, 5, 0) == []
    assert said(3511, 0, 0) == ["table full: 3,511 connections refused"]
    assert said(0, 0, 7) == [f"7 {collision}"]
    assert said(7, 0, 7) == [f"7 {collision}"]
    assert said(8, 0, 7) == ["table full: at least 1 connection refused", f"7 {collision}"]


def test_refused_connections_are_counted_by_the_kernel_itself() -> None:
    """The second entry with a tuple that is taken fails to be inserted."""
    nat = "table ip nat { chain post { type nat hook postrouting priority srcnat; "
    nat += "udp dport 9 snat to 127.0.0.1:5000; }; }"
    send = "import socket; s=[socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]; "
    send += "[one.bind(('127.0.0.1', 0)) for one in s]\n"
    send += "for one in s:\n  try: one.sendto(b'x', ('127.0.0.1', 9))\n  except OSError: pass"
    script = f"ip link set lo up; nft '{nat}'; {sys.executable} -c {shlex.quote(send)}; "
    script += look("one.what for one in k.look_at_table()")
    shown = in_namespace(script)
    assert "refused: no free source port, or a collision" in shown
    assert "table full" not in shown


def test_a_capped_buffer_is_found_where_the_kernel_caps_it() -> None:
    assert list(doctor_kernel.look_at_buffer(RECORD)) == [], (
        "root of the initial user namespace may force it"
    )
    # In a user namespace of its own this process has CAP_NET_ADMIN, but not the one that forces a
    # buffer.
    code = (
        "from ctrecorder.check import doctor_kernel; from ctrecorder.service import settings\n"
        "options = settings.SECTIONS['record'].settings\n"
        "record = {one.name: one.parse(one.default) for one in options}\n"
        "print(*(finding.fix for finding in doctor_kernel.look_at_buffer(record)))"
    )
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "on the host of this container: sysctl -w net.core.rmem_max=67108864\n"


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (ClockState(True, 1_020_000, 0), ""),
        (ClockState(True, 2_500_000, 0), "the clock may be wrong by up to 2.5 s"),
        (ClockState(False, 16_000_000, 0), "the clock is not synchronised"),
        (None, "the state of the clock cannot be read"),
    ],
)
def test_the_clock_is_judged_by_the_kernels_state(
    monkeypatch: pytest.MonkeyPatch, state: ClockState | None, what: str
) -> None:
    monkeypatch.setattr(timex, "clock_state", lambda: state)
    assert [finding.what for finding in doctor_kernel.look_at_clock()] == ([what] if what else [])


@pytest.mark.parametrize(
    ("packages", "active", "fix"),
    [
        ("installed bash \n", "", "apt-get --no-remove install systemd-timesyncd"),
        ("installed chrony time-daemon\n", "inactive", "systemctl enable --now chrony.service"),
        ("installed chrony time-daemon\n", "active", "chronyc -n sources"),
        ("installed ntpsec ntp (= 1), time-daemon\n", "active", "ntpq -np"),
        (
            "config-files chrony time-daemon\ninstalled systemd-timesyncd time-daemon\n",
            "inactive",
            "systemctl enable --now systemd-timesyncd.service",
        ),
        (None, "", "apt-get --no-remove install systemd-timesyncd"),
    ],
)
def test_the_fix_of_the_clock_keeps_the_time_daemon_that_is_there(
    monkeypatch: pytest.MonkeyPatch, packages: str | None, active: str, fix: str
) -> None:
    monkeypatch.setattr(doctor_tools, "in_container", lambda: False)
    monkeypatch.setattr(doctor_tools, "run_tool", lambda *command: packages)
    monkeypatch.setattr(doctor_tools, "unit_properties", lambda unit: {"ActiveState": active})
    monkeypatch.setattr(doctor_kernel, "_clock_program", lambda: None)
    assert doctor_kernel._fix_of_clock()[0] == fix
    monkeypatch.setattr(doctor_tools, "in_container", lambda: True)
    assert doctor_kernel._fix_of_clock()[0].startswith("on the host of this container")


@pytest.mark.parametrize("packages", ["installed bash\n", "installed chrony time-daemon\n"])
def test_a_program_that_sets_the_clock_gets_no_second_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packages: str
) -> None:
    """For example linuxptp, or a chronyd that is not from Debian."""
    monkeypatch.setattr(doctor_tools, "in_container", lambda: False)
    monkeypatch.setattr(doctor_tools, "run_tool", lambda *command: packages)
    monkeypatch.setattr(doctor_tools, "unit_properties", lambda unit: {})
    program = tmp_path / "phc2sys"
    shutil.copy("/usr/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        try:
            wait_until(doctor_kernel._clock_program, "the program to be there")
            fix, changes = doctor_kernel._fix_of_clock()
        finally:
            running.kill()
    assert fix == f"ps -fp {running.pid}"
    assert changes.startswith("nothing: ")


def test_refused_connections_are_notes() -> None:
    assert all(isinstance(one, Note) for one in doctor_kernel.describe_refused(Statistics(9, 9, 1)))
