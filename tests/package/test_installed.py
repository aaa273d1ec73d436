"""An installed recorder, looked at from outside: what runs, as whom, what it may, what it writes
and says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from ctrecorder.service import messages
from tests.package.conftest import EXPOSURE
from tests.support.booted import LOGS, Router
from tests.support.router import (
    INSIDE,
    INSIDE6,
    INSIDE_SERVER,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    wait_for_next,
)

NET_ADMIN, NONE = f"{1 << 12:016x}", f"{0:016x}"


def events(router: Router, *arguments: object) -> list[dict[str, object]]:
    return [json.loads(line) for line in router.lines("--format", "json", *arguments)]


def newest_segment(router: Router) -> str:
    return router.sh(f"ls -t {LOGS}/*.ctlog | head -1").strip()


def test_apt_starts_the_recorder_and_both_timers(router: Router) -> None:
    assert "Setting up ctrecorder" in router.said
    assert not re.search(r"(?i)warning|fail|error", router.said), router.said
    shown = router.show(
        "ctrecord.service",
        "ActiveState",
        "UnitFileState",
        "Type",
        "Restart",
        "WatchdogUSec",
        "StatusText",
    )
    assert shown.pop("StatusText")
    assert shown == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "Type": "notify",
        "Restart": "always",
        "WatchdogUSec": "30s",
    }
    timers = {
        timer["unit"]: timer
        for timer in json.loads(
            router.run("systemctl", "list-timers", "--all", "--output=json").stdout
        )
    }
    for name in ("ctsqueeze", "ctexpire"):
        assert timers[f"{name}.timer"]["activates"] == f"{name}.service"
        assert timers[f"{name}.timer"]["next"]
    assert router.sh("systemctl --failed --no-legend --plain") == ""


def test_the_jobs_stand_back_and_do_not_all_run_at_once(router: Router) -> None:
    for name in ("ctsqueeze", "ctexpire"):
        shown = router.show(f"{name}.service", "CPUSchedulingPolicy", "IOSchedulingClass", "Nice")
        assert shown == {"CPUSchedulingPolicy": "5", "IOSchedulingClass": "3", "Nice": "19"}, (
            "SCHED_IDLE, IOPRIO_CLASS_IDLE"
        )
        timer = router.show(f"{name}.timer", "RandomizedDelayUSec", "Persistent")
        assert timer["RandomizedDelayUSec"] != "0"
        assert timer["Persistent"] == "yes"


def test_it_runs_as_its_own_user_with_one_capability(router: Router) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in router.run("cat", f"/proc/{router.pid()}/status").stdout.splitlines()
        if ":\t" in line
    )
    uid, gid = (router.run("id", option, "ctrecorder").stdout.strip() for option in ("-u", "-g"))
    assert uid != "0"
    assert status["Uid"] == "\t".join([uid] * 4)
    assert status["Gid"] == "\t".join([gid] * 4)
    assert status["Groups"].split() in ([], [gid])
    capabilities = {name: value for name, value in status.items() if name.startswith("Cap")}
    assert capabilities == {
        "CapInh": NET_ADMIN,
        "CapPrm": NET_ADMIN,
        "CapEff": NET_ADMIN,
        "CapBnd": NET_ADMIN,
        "CapAmb": NET_ADMIN,
    }
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


RECORDERS = ("ctrecord", "ctrecord@x", "ctrecord-netns@x")


@pytest.mark.parametrize(
    ("unit", "most"),
    [*((unit, 1.8) for unit in RECORDERS), ("ctship", 1.5)]
    + [(unit, 0.5) for unit in ("ctsqueeze", "ctexpire", "ctsqueeze-sealed")],
)
def test_the_sandbox_is_tight(
    router: Router, unit: str, most: float, record_property: Callable[[str, object], None]
) -> None:
    """The exposures are printed at the end of the run."""
    said = router.run("systemd-analyze", "security", "--no-pager", f"{unit}.service").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure
    record_property(EXPOSURE, f"{unit}.service in {router.suite}: {exposure[1]}, at most {most}")
    assert float(exposure[1]) <= most


def test_systemd_finds_nothing_wrong_with_the_units(router: Router) -> None:
    units = ["ctrecord-netns@x.path", *(f"{unit}.service" for unit in RECORDERS)]
    units += ["ctsqueeze.service", "ctsqueeze.timer", "ctexpire.service", "ctexpire.timer"]
    units += ["ctsqueeze-sealed.service", "ctsqueeze-sealed.timer"]
    units += ["ctship.service", "ctship.timer"]
    done = router.run("systemd-analyze", "verify", "--man=no", *units)
    assert [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if "ctrec" in line or "ctsq" in line or "ctex" in line or "ctsh" in line
    ] == []


def test_it_starts_before_the_network_and_stops_after_it(router: Router) -> None:
    shown = router.show("ctrecord.service", "Before", "After", "Conflicts")
    assert {"network-pre.target", "shutdown.target"} <= set(shown["Before"].split())
    assert not {"network.target", "network-online.target", "basic.target", "sysinit.target"} & set(
        shown["After"].split()
    )
    assert "shutdown.target" in shown["Conflicts"].split()


def test_the_kernel_is_set_to_tell_everything(router: Router) -> None:
    """The namespace had the kernel's defaults when the service was started."""
    assert router.lab.router.sysctl_value("nf_conntrack_events") == 1
    assert router.lab.router.sysctl_value("nf_conntrack_timestamp") == 1


def test_it_is_recorded_who_spoke_to_whom(router: Router) -> None:
    lab = router.lab
    tcp = lab.tcp(INSIDE, (SERVER, 25))
    udp = lab.udp(INSIDE6, (SERVER6, 53))
    into = lab.tcp(SERVER, (PUBLIC, 8080))
    lab.ping(INSIDE, SERVER, identifier=4711)
    lab.flush()

    def found() -> list[dict[str, object]]:
        return [
            one
            for one in events(router)
            if one["event"] in ("NEW", "DESTROY") and one["orig_src"] in (INSIDE, INSIDE6, SERVER)
        ]

    router.wait(lambda: len(found()) >= 8, "8 events in the log")
    seen = {
        (
            one["event"],
            one["protocol"],
            one["orig_src"],
            one["orig_dst"],
            one["reply_src"],
            one["reply_dst"],
        )
        for one in found()
    }
    flows = [
        ("tcp", INSIDE, SERVER, SERVER, PUBLIC),
        ("udp", INSIDE6, SERVER6, SERVER6, PUBLIC6),
        ("tcp", SERVER, PUBLIC, INSIDE_SERVER, SERVER),
        ("icmp", INSIDE, SERVER, SERVER, PUBLIC),
    ]
    assert seen == {(event, *flow) for event in ("NEW", "DESTROY") for flow in flows}
    ports = {one["orig_sport"] for one in found() if one["protocol"] in ("tcp", "udp")}
    assert ports == {tcp, udp, into}


def test_members_of_the_group_may_list_and_others_do_not_even_see(router: Router) -> None:
    said = router.sh(f"stat -c '%A %U %G' {LOGS} {LOGS}/*.ctlog").splitlines()
    assert said[0] == "drwxr-x--- ctrecorder ctrecorder"
    assert set(said[1:]) == {"-rw-r----- ctrecorder ctrecorder"}
    other = router.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ctlist", check=False
    )
    assert other.returncode == 2
    assert re.fullmatch(r"ctlist: /var/log/ctrecorder: .*[Pp]ermission denied.*\n", other.stderr)
    assert other.stdout == ""
    member = router.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--groups=ctrecorder", "--", "ctlist"
    )
    assert member.stdout


def test_systemctl_status_tells_rate_drops_and_segment(router: Router) -> None:
    segment = newest_segment(router).rpartition("/")[2]
    router.wait(
        lambda: segment in router.show("ctrecord.service", "StatusText")["StatusText"],
        "the segment in STATUS=",
        15,
    )
    assert re.fullmatch(
        rf"\d+ events/s, \d+ in all, 0 lost; {segment}",
        router.show("ctrecord.service", "StatusText")["StatusText"],
    )


def test_reload_begins_a_segment_and_the_journal_has_the_last_hash_of_the_old_one(
    router: Router,
) -> None:
    wait_for_next(3600, 15)
    port = router.lab.tcp(INSIDE, (SERVER, 25))  # the segment of a new hour has no rows yet
    router.lab.flush()
    router.wait(lambda: router.lines("--event", "destroy", "-p", port), "the connection in the log")
    old = newest_segment(router)
    router.sh("sleep 1.1; systemctl reload ctrecord.service")
    router.wait(lambda: newest_segment(router) != old, "a new segment")
    opened = router.journal(
        f"MESSAGE_ID={messages.SEGMENT_OPENED.id}", f"CTRECORDER_PATH={newest_segment(router)}"
    )
    assert len(opened) == 1
    router.wait(
        lambda: router.journal(
            f"MESSAGE_ID={messages.SEGMENT_CLOSED.id}", f"CTRECORDER_PATH={old}"
        ),
        "the entry of the closed one",
    )
    (closed,) = router.journal(f"MESSAGE_ID={messages.SEGMENT_CLOSED.id}", f"CTRECORDER_PATH={old}")
    assert int(closed["CTRECORDER_ROWS"]) > 0
    assert closed["SYSLOG_IDENTIFIER"] == "ctrecord"
    assert closed["PRIORITY"] == str(messages.SEGMENT_CLOSED.level)
    assert closed["_SYSTEMD_UNIT"] == "ctrecord.service"
    assert opened[0]["CTRECORDER_PREVIOUS_HASH"] == closed["CTRECORDER_LAST_HASH"]
    # The hash is the last 16 bytes of the footer's frame: looked up in the file itself.
    assert re.fullmatch(r"[0-9a-f]{32}", closed["CTRECORDER_LAST_HASH"])
    assert bytes.fromhex(closed["CTRECORDER_LAST_HASH"]) in bytes.fromhex(
        router.sh(f"od -An -v -tx1 {old} | tr -d ' \\n'")
    )


def test_journalctl_explains_each_entry(router: Router) -> None:
    said = router.run(
        "journalctl", "--catalog", "--no-pager", f"MESSAGE_ID={messages.STARTED.id}"
    ).stdout
    assert f"ctrecord records to {LOGS}/" in said
    assert "From now on the log contains the start and the" in said
    known = router.run("journalctl", "--list-catalog").stdout
    assert {kind.id for kind in messages.kinds().values()} <= set(known.split())


def test_usr1_logs_the_counters(router: Router) -> None:
    for _ in range(4):
        router.lab.udp(INSIDE, (SERVER, 53))
    router.lab.flush()
    router.sh("systemctl kill --signal=USR1 ctrecord.service")
    router.wait(lambda: router.journal(f"MESSAGE_ID={messages.COUNTERS.id}"), "the counters")
    counters = router.journal(f"MESSAGE_ID={messages.COUNTERS.id}")[-1]
    assert int(counters["CTRECORDER_EVENTS"]) >= 8
    assert counters["CTRECORDER_LOST"] == "0"
