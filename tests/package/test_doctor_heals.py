"""cttest --doctor on a booted router: each fault is made, found, and gone after the very command
that the doctor gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ctrecorder.check import doctor
from tests.support.booted import LOGS, Router

# What this machine may have whatever the router does: only root of the host can mend it.
OF_THE_HOST = ("the clock is not synchronised",)


@dataclass(frozen=True)
class Fault:
    """`make` and `undo` are shell; `says` is in the finding; `mends`: whether the finding's command
    mends it as it stands.
    """

    make: str
    says: str
    undo: str = ":"
    mends: bool = True


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
        "tracking is inactive",
        undo="nft flush ruleset; nft -f /run/rules",
        mends=False,
    ),
    "notrack": Fault(
        "nft 'table inet quiet { chain pre { type filter hook prerouting priority raw; udp dport "
        "53 notrack; }; }'",
        "a NOTRACK rule in inet quiet pre",
        undo="nft delete table inet quiet",
    ),
    "recorder stopped": Fault(
        "systemctl stop ctrecord.service", "ctrecord.service is inactive: nothing is recorded"
    ),
    "recorder disabled": Fault(
        "systemctl disable -q ctrecord.service 2>&1", "ctrecord.service is disabled"
    ),
    "recorder fails": Fault(
        "mkdir -p /run/systemd/system/ctrecord.service.d; printf "
        "'[Service]\\nAmbientCapabilities=\\nCapabilityBoundingSet=\\n' "
        ">/run/systemd/system/ctrecord.service.d/x.conf; systemctl daemon-reload; systemctl "
        "restart ctrecord.service; true",
        "CAP_NET_ADMIN",
        undo="rm -r /run/systemd/system/ctrecord.service.d; systemctl daemon-reload; systemctl "
        "restart ctrecord.service",
        mends=False,
    ),
    "folder open": Fault(f"chmod 755 {LOGS}", "is open to everyone"),
    "hung": Fault(
        f"systemctl kill --signal=STOP ctrecord.service; touch -d '10 minutes ago' {LOGS}/*",
        "nothing was written",
        undo="systemctl restart ctrecord.service",
    ),
    "no folder": Fault(
        f"mv {LOGS} /run/logs; systemctl stop ctrecord.service",
        f"{LOGS} is not there",
        undo=f"rm -rf {LOGS}; mv /run/logs {LOGS}",
        mends=False,
    ),
    "disk full": Fault(
        f"mount -t tmpfs -o size=4M none {LOGS}; chmod o= {LOGS}; chown ctrecorder: {LOGS}; "
        "systemctl restart ctrecord.service; "
        f"head -c 3900K /dev/zero >{LOGS}/filler",
        "is nearly full",
        undo=f"systemctl stop ctrecord.service; umount {LOGS}; systemctl start ctrecord.service",
        mends=False,
    ),
    "timer off": Fault(
        "systemctl disable -q --now ctexpire.timer 2>&1",
        "ctexpire.timer is off: nothing is deleted",
    ),
    "bad setting": Fault(
        "cp /etc/ctrecorder/ctrecorder.conf /run/conf; printf '[expire]\\nmin_fre = 1\\n' "
        ">/etc/ctrecorder/ctrecorder.conf",
        "no setting min_fre in [expire] (did you mean min_free?)",
        undo="cat /run/conf >/etc/ctrecorder/ctrecorder.conf",
        mends=False,
    ),
}


def findings(router: Router) -> dict[str, str]:
    """What the doctor finds, with its mends, but for what the host has."""
    done = router.run("cttest", "--doctor", check=False)
    assert done.returncode in (0, 1), done.stderr
    said = re.findall(r"^(\S.*)\n    fix: (.*)$", done.stdout, flags=re.MULTILINE)
    assert (done.returncode == 1) == bool(said), done.stdout
    return {what: mend for what, mend in said if what not in OF_THE_HOST}


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
        "systemctl daemon-reload; systemctl enable -q --now ctrecord.service ctsqueeze.timer "
        "ctexpire.timer 2>&1; systemctl reset-failed"
    )


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_mended(healthy: Router, name: str) -> None:
    fault = FAULTS[name]
    healthy.sh(fault.make)
    try:
        found = findings(healthy)
        mends = [mend for what, mend in found.items() if fault.says in what]
        assert len(mends) == 1, found
        if fault.mends:
            healthy.sh(mends[0])
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
        "systemctl disable -q --now ctrecord.service 2>&1; systemctl enable -q --now "
        "ctrecord@all.service 2>&1"
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
    assert f"{LOGS} may not be looked into" in done.stdout


def test_the_clock_is_judged_as_systemd_judges_it(healthy: Router) -> None:
    """timedatectl asks the kernel the same by another way."""
    said = healthy.run(
        "timedatectl", "show", "--property=NTPSynchronized", "--value"
    ).stdout.strip()
    assert (said == "no") == (
        "the clock is not synchronised" in healthy.run("cttest", "--doctor", check=False).stdout
    )


def test_every_look_has_a_fault_here_or_a_unit_test() -> None:
    """Flowtables, capped buffers and kernels without events this machine cannot make:
    tests/unit/check/test_doctor.py has them.
    """
    looks = {name for name in vars(doctor) if name.startswith("look_at_")}
    here = ("rights", "kernel", "unit", "log", "rules", "buffer", "clock", "disk", "timers")
    # That of namespaces is in test_namespaces.py.
    assert looks == {f"look_at_{one}" for one in (*here, "namespace_unit")}
