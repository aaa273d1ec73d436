"""cttest --doctor on a booted router: each fault is made, found, and gone after the very command
that the doctor gives.  Commands that only show something change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ctrecorder.check import doctor_kernel, doctor_log, doctor_rules, doctor_service
from tests.support.booted import LOGS, Router

# What this machine may have whatever the router does: only root of the host can fix it.
OF_THE_HOST = ("the clock is not synchronised", "will not be deleted by age (max_age)")


@dataclass(frozen=True)
class Fault:
    """A fault of the router.

    `make`, `undo`: shell commands.  `says`: a part of the finding.
    `fixes`: if the command of the finding fixes it as it is.
    `shows`: if that command only shows something; a part of what it shows.
    """

    make: str
    says: str
    undo: str = ":"
    fixes: bool = True
    shows: str = ""


FAULTS = {
    "events off": Fault(
        "sysctl -qw net.netfilter.nf_conntrack_events=0", "net.netfilter.nf_conntrack_events is 0"
    ),
    "timestamps off": Fault(
        "sysctl -qw net.netfilter.nf_conntrack_timestamp=0",
        "net.netfilter.nf_conntrack_timestamp is 0",
    ),
    "asleep": Fault(
        "nft list ruleset >/run/rules; nft flush ruleset",
        "IPv4 connection tracking is off",
        undo="nft flush ruleset; nft -f /run/rules",
        fixes=False,
    ),
    "notrack": Fault(
        "nft 'table inet quiet { chain pre { type filter hook prerouting priority raw; "
        "udp dport 53 notrack; }; }'",
        "a NOTRACK rule in inet quiet pre",
        undo="nft delete table inet quiet",
        fixes=False,
        shows="udp dport 53 notrack # handle",
    ),
    "stateless NAT": Fault(
        "nft 'table ip old { chain pre { type filter hook prerouting priority raw; "
        "ip saddr 10.9.9.9 ip saddr set 10.9.9.8; }; }'",
        "translates without connection tracking: connections that it translates cannot be recorded",
        undo="nft delete table ip old",
        fixes=False,
        shows="ip saddr set 10.9.9.8 # handle",
    ),
    "wrong clock": Fault(
        # The first block of a segment with its times in the year 2104: it is damaged, and its
        # frame is read.
        f"cd {LOGS}; first=$(ls | head -n 1); late='\\0\\0\\0\\0\\0\\0\\0\\073'; "
        '(head -c 16 "$first"; printf "$late$late"; tail -c +33 "$first") >/run/late; '
        f"cp /run/late {LOGS}/late.ctlog",
        "late.ctlog in",
        undo=f"rm -f {LOGS}/late.ctlog /run/late",
        fixes=False,
    ),
    "recorder stopped": Fault(
        "systemctl stop ctrecord.service", "ctrecord.service is inactive: nothing is recorded"
    ),
    "recorder disabled": Fault(
        "systemctl disable -q ctrecord.service 2>&1", "ctrecord.service is disabled"
    ),
    "recorder fails": Fault(
        "mkdir -p /run/systemd/system/ctrecord.service.d; "
        "printf '[Service]\\nAmbientCapabilities=\\nCapabilityBoundingSet=\\n' "
        ">/run/systemd/system/ctrecord.service.d/x.conf; "
        "systemctl daemon-reload; systemctl restart ctrecord.service; true",
        "CAP_NET_ADMIN",
        undo="rm -r /run/systemd/system/ctrecord.service.d; systemctl daemon-reload; "
        "systemctl restart ctrecord.service",
        fixes=False,
    ),
    "folder open": Fault(f"chmod 755 {LOGS}", "every user can read"),
    "hung": Fault(
        f"systemctl kill --signal=STOP ctrecord.service; touch -d '10 minutes ago' {LOGS}/*",
        "nothing was written",
        undo="systemctl restart ctrecord.service",
    ),
    "no folder": Fault(
        f"mv {LOGS} /run/logs; systemctl stop ctrecord.service",
        f"{LOGS} does not exist",
        undo=f"rm -rf {LOGS}; mv /run/logs {LOGS}",
        fixes=False,
    ),
    "disk full": Fault(
        f"mount -t tmpfs -o size=4M none {LOGS}; chmod o= {LOGS}; chown ctrecorder: {LOGS}; "
        f"systemctl restart ctrecord.service; head -c 3900K /dev/zero >{LOGS}/filler",
        "is nearly full",
        undo=f"systemctl stop ctrecord.service; umount {LOGS}; systemctl start ctrecord.service",
        fixes=False,
    ),
    "timer off": Fault(
        "systemctl disable -q --now ctsqueeze.timer 2>&1",
        "ctsqueeze.timer is off: segments stay large",
    ),
    "timer that deletes off": Fault(
        "systemctl disable -q --now ctexpire.timer 2>&1",
        "ctexpire.timer is off: nothing is deleted",
        undo="systemctl enable -q --now ctexpire.timer 2>&1",
        fixes=False,
    ),
    "bad setting": Fault(
        "cp /etc/ctrecorder/ctrecorder.conf /run/conf; "
        "printf '[expire]\\nmin_fre = 1\\n' >/etc/ctrecorder/ctrecorder.conf",
        "no setting min_fre in [expire] (did you mean min_free?)",
        undo="cat /run/conf >/etc/ctrecorder/ctrecorder.conf",
        fixes=False,
    ),
}


def reported(router: Router, *options: str) -> dict[str, tuple[str, str]]:
    """What the doctor finds, with its fixes and their changes, but for what the host has."""
    done = router.run("cttest", "--doctor", *options, check=False)
    assert done.returncode in (0, 1), done.stderr
    said = re.findall(r"^(\S.*)\n    fix: (.*)\n    changes: (.*)$", done.stdout, re.MULTILINE)
    assert (done.returncode == 1) == bool(said), done.stdout
    return {
        what: (fix, changes)
        for what, fix, changes in said
        if not any(part in what for part in OF_THE_HOST)
    }


def findings(router: Router, *options: str) -> dict[str, str]:
    """What the doctor finds, with its fixes."""
    return {what: fix for what, (fix, _) in reported(router, *options).items()}


# What a fix can change, by the command that shows it.
STATE = {
    "packages": "dpkg-query -W",
    "rules": "nft -s list ruleset",
    "segments": f"ls {LOGS}; ls {LOGS}/replaced 2>/dev/null || :",
    "kernel": "sysctl net.netfilter.nf_conntrack_events net.netfilter.nf_conntrack_timestamp",
    "modes": f"stat -c %a /etc/ctrecorder /var/log /tmp {LOGS}",
    "settings": "cat /etc/ctrecorder/*",
    "units": "for unit in ctrecord.service ctsqueeze.timer ctexpire.timer "
    "systemd-timesyncd.service; do echo $unit $(systemctl is-enabled $unit; "
    "systemctl is-active $unit); done 2>&1",
}
# What may be different after a fix, by what it says to change.
MAY_CHANGE = {
    "nothing": set(),
    "a setting of the kernel": {"kernel"},
    "the firewall": {"rules"},
    "the recorder": {"units", "segments"},
    "the permissions of the folder": {"modes"},
    "the log": {"units", "segments"},
    "the disk and the recorder": {"segments", "modes", "units"},
}


def state(router: Router) -> dict[str, set[str]]:
    """The lines of each command of STATE; the folder of segments may be missing."""
    return {
        name: set(router.sh(command, check=False).splitlines()) for name, command in STATE.items()
    }


def check_changes(router: Router, fix: str, changes: str) -> None:
    """Run a fix as it is printed, without words before it; it changes only what it says, and
    removes neither segments, rules nor packages.
    """
    command = re.sub(r"^.*(?:then|only): ", "", fix)
    before = state(router)
    router.sh(command, check=False)
    after = state(router)
    said = [name for name in MAY_CHANGE if re.match(rf"{name}\b", changes)]
    assert said, changes
    different = {name for name in STATE if before[name] != after[name]}
    # The recorder goes on meanwhile, and may begin a segment.
    assert different - MAY_CHANGE[max(said, key=len)] <= {"segments"}, (fix, changes, different)
    for name in ("packages", "rules", "segments"):
        assert before[name] <= after[name], (fix, name, before[name] - after[name])


def wait_for_health(router: Router) -> None:
    """Until the doctor finds nothing; AssertionError with what it still finds."""
    found: dict[str, str] = {}

    def well() -> bool:
        nonlocal found
        found = findings(router)
        return not found

    try:
        router.wait(well, "a clean bill of health")
    except AssertionError as error:
        raise AssertionError(f"{error}\nthe doctor found: {found}") from None


@pytest.fixture
def healthy(router: Router) -> Iterator[Router]:
    router.run("systemctl", "restart", "ctrecord.service")
    wait_for_health(router)
    yield router
    router.sh(
        "systemctl daemon-reload; systemctl reset-failed; "
        "systemctl enable -q --now ctrecord.service ctsqueeze.timer ctexpire.timer 2>&1"
    )


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_mended(healthy: Router, name: str) -> None:
    fault = FAULTS[name]
    healthy.sh(fault.make)
    try:
        found = reported(healthy)
        fixes = [fix for what, fix in found.items() if fault.says in what]
        assert len(fixes) == 1, found
        ((fix, changes),) = fixes
        if fault.shows:
            assert fault.shows in healthy.sh(fix)
        check_changes(healthy, fix, changes)
        if fault.fixes:
            assert not [what for what in findings(healthy) if fault.says in what]
    finally:
        healthy.sh(fault.undo, check=False)
    healthy.sh("systemctl start ctrecord.service", check=False)
    wait_for_health(healthy)


def test_further_recorders_are_looked_at_and_may_replace_the_first(healthy: Router) -> None:
    healthy.run(
        "tee", "/etc/ctrecorder/all.conf", stdin=f"[record]\ntemplate = {LOGS}/all-%s.ctlog\n"
    )
    healthy.sh(
        "systemctl disable -q --now ctrecord.service 2>&1; "
        "systemctl enable -q --now ctrecord@all.service 2>&1"
    )
    try:
        assert findings(healthy) == {}
        healthy.sh(
            "systemctl stop ctrecord@all.service; systemctl disable -q ctrecord@all.service 2>&1"
        )
        assert [
            what
            for what in findings(healthy)
            if what.startswith("ctrecord.service is inactive: nothing is recorded")
        ]
    finally:
        healthy.sh(
            "systemctl disable -q --now ctrecord@all.service 2>&1; rm /etc/ctrecorder/all.conf"
        )


def test_a_gap_in_rights_is_said(healthy: Router) -> None:
    done = healthy.run(
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "cttest",
        "--doctor",
        check=False,
    )
    assert done.returncode == 1
    assert "lacks CAP_NET_ADMIN" in done.stdout
    assert f"this user may not read {LOGS}" in done.stdout


def test_the_clock_is_judged_as_systemd_judges_it(healthy: Router) -> None:
    """timedatectl asks the kernel the same by another way."""
    said = healthy.run(
        "timedatectl", "show", "--property=NTPSynchronized", "--value"
    ).stdout.strip()
    assert (said == "no") == (
        "the clock is not synchronised" in healthy.run("cttest", "--doctor", check=False).stdout
    )


def test_the_fix_of_the_clock_changes_no_package(healthy: Router) -> None:
    """A booted router is a container: its clock is that of its host."""
    found = healthy.run("cttest", "--doctor", check=False).stdout
    if "the clock is not synchronised" in found:
        assert "fix: on the host of this container, look at its time daemon" in found


def test_each_finding_names_what_its_command_changes(healthy: Router) -> None:
    healthy.sh("sysctl -qw net.netfilter.nf_conntrack_timestamp=0")
    try:
        found = healthy.run("cttest", "--doctor", check=False).stdout
    finally:
        healthy.sh("sysctl -qw net.netfilter.nf_conntrack_timestamp=1")
    assert found.count("    fix: ") == found.count("    changes: ") > 0


def test_every_look_has_a_fault_here_or_a_unit_test() -> None:
    """This machine cannot make flowtables, capped buffers, kernels without events, actions of tc,
    Jool, a full table or a log of days: tests/unit/check/test_doctor_*.py has them.
    """
    modules = (doctor_kernel, doctor_log, doctor_rules, doctor_service)
    looks = {name for module in modules for name in vars(module) if name.startswith("look_at_")}
    here = (
        "rights",
        "kernel",
        "unit",
        "log",
        "rules",
        "buffer",
        "clock",
        "disk",
        "timers",
        "settings",
    )
    there = ("table", "segments", "traffic_control", "jool", "addresses", "unheard", "omission")
    # That of namespaces is in test_namespaces.py.
    assert looks == {f"look_at_{one}" for one in (*here, *there, "namespace_unit")}
