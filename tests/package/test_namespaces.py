"""ctrecord-netns@NAME: a recorder in a named network namespace of a booted router."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from ctrecorder.service import messages
from tests.package import test_doctor_heals
from tests.support.booted import LOGS, Router

BLUE = "blue-7"  # a dash: systemd's %I would make it a slash
STARTER, UNIT = f"ctrecord-netns@{BLUE}.path", f"ctrecord-netns@{BLUE}.service"
SYSCTLS = {"nf_conntrack_events": 1, "nf_conntrack_timestamp": 1}
NAT = "type nat hook postrouting priority 100; oifname none masquerade;"
NOTRACK = "type filter hook prerouting priority raw; udp dport 53 notrack;"
# What makes a new namespace: a shell script.
MAKE = f"""
ip netns add {BLUE}
ip -n {BLUE} link set lo up
ip netns exec {BLUE} nft 'table ip nat {{ chain post {{ {NAT} }}; }}'
"""


@pytest.fixture
def blue(router: Router) -> Iterator[Router]:
    """The namespace is there, and its recorder is not switched on yet."""
    router.sh(MAKE)
    yield router
    router.sh(
        f"systemctl disable -q --now {STARTER} 2>&1; ip netns del {BLUE}; "
        f"rm -f {LOGS}/{BLUE}-*; systemctl reset-failed",
        check=False,
    )


def pid(router: Router) -> str:
    return router.pid(UNIT)


def wait_for_recorder(router: Router, before: str = "0") -> str:
    """Until another recorder than `before` is ready in the namespace; its pid."""

    def ready() -> bool:
        shown = router.show(UNIT, "ActiveState", "MainPID")
        return shown["ActiveState"] == "active" and shown["MainPID"] not in ("0", before)

    router.wait(ready, f"a recorder in {BLUE}")
    return pid(router)


def inside(router: Router) -> dict[str, int]:
    """The sysctls in the namespace."""
    names = " ".join(f"net.netfilter.{name}" for name in SYSCTLS)
    said = router.sh(f"ip netns exec {BLUE} sysctl {names}")
    return {
        name.removeprefix("net.netfilter."): int(value)
        for name, value in re.findall(r"(\S+) = (\d+)", said)
    }


def connect(router: Router, port: int) -> None:
    """A connection of the namespace with this port, begun and ended, without a packet."""
    entry = f"-p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 53"
    router.sh(f"ip netns exec {BLUE} sh -c 'conntrack -I {entry} -t 60; conntrack -D {entry}' 2>&1")


def recorded(router: Router, pattern: str = f"{LOGS}/{BLUE}-*") -> dict[int, set[str]]:
    """The kinds of events in the segments, by the connection's port."""
    found: dict[int, set[str]] = {}
    for line in router.sh(f"ctlist --format json {pattern}", check=False).splitlines():
        row = json.loads(line)
        found.setdefault(row.get("orig_sport", 0), set()).add(row["event"])
    return found


def wait_for_port(router: Router, port: int) -> None:
    router.wait(
        lambda: {"NEW", "DESTROY"} <= recorded(router).get(port, set()), f"port {port} in the log"
    )


def findings(router: Router) -> dict[str, str]:
    return test_doctor_heals.findings(router, "--netns", BLUE)


def test_it_records_there_with_that_namespaces_sysctls_and_again_after_it_was_made_anew(
    blue: Router,
) -> None:
    outside = {"nf_conntrack_events": 2, "nf_conntrack_timestamp": 0}
    assert inside(blue) == outside
    kept = {name: blue.lab.router.sysctl_value(name) for name in SYSCTLS}
    try:
        # The router's own are not what the package sets, so that a change is seen.
        blue.lab.router.sysctl(**outside)
        blue.sh(f"systemctl enable -q --now {STARTER} 2>&1")
        first = wait_for_recorder(blue)
        assert inside(blue) == SYSCTLS
        assert {name: blue.lab.router.sysctl_value(name) for name in SYSCTLS} == outside

        status = dict(
            line.split(":\t", 1)
            for line in blue.run("cat", f"/proc/{first}/status").stdout.splitlines()
            if ":\t" in line
        )
        user = blue.run("id", "-u", "ctrecorder").stdout.strip()
        assert status["Uid"].split() == [user] * 4
        assert status["CapEff"] == status["CapBnd"] == f"{1 << 12:016x}"
        assert (
            blue.sh(f"stat -Lc %i /proc/{first}/ns/net /run/netns/{BLUE} | uniq | wc -l") == "1\n"
        )

        connect(blue, 1001)
        wait_for_port(blue, 1001)
        assert 1001 not in recorded(blue, f"{LOGS}/2*"), "the router's own recorder does not see it"

        # Deleted: the recorder ends, and does not keep the namespace alive.
        blue.sh(f"ip netns del {BLUE}")
        blue.wait(
            lambda: blue.show(UNIT, "ActiveState")["ActiveState"] == "inactive",
            "the recorder of a deleted namespace ending",
        )
        (said,) = blue.journal(f"MESSAGE_ID={messages.NAMESPACE.id}", f"_PID={first}")
        assert (said["CTRECORDER_NAME"], said["_SYSTEMD_UNIT"]) == (BLUE, UNIT)

        # Made anew, later: the recorder is started again.
        blue.sh(MAKE)
        second = wait_for_recorder(blue, first)
        assert inside(blue) == SYSCTLS
        connect(blue, 1002)
        wait_for_port(blue, 1002)

        # Deleted and made anew at once: the recorder is in the wrong one, and finds out.
        blue.sh(f"ip netns del {BLUE}\n{MAKE}")
        wait_for_recorder(blue, second)
        assert inside(blue) == SYSCTLS
        connect(blue, 1003)
        wait_for_port(blue, 1003)
        assert {1001, 1002, 1003} <= recorded(blue).keys()
        assert {name: blue.lab.router.sysctl_value(name) for name in SYSCTLS} == outside
    finally:
        blue.lab.router.sysctl(**kept)
    assert blue.run("cttest", LOGS).returncode == 0


def test_switched_off_it_ends_at_once(blue: Router) -> None:
    blue.sh(f"systemctl enable -q --now {STARTER} 2>&1")
    wait_for_recorder(blue)
    blue.sh(f"systemctl disable -q --now {STARTER} 2>&1")
    assert blue.show(UNIT, "ActiveState")["ActiveState"] == "inactive"
    assert blue.sh(f"systemctl list-units --failed --plain --no-legend '{UNIT}'") == ""


def test_it_comes_back_after_a_crash(blue: Router) -> None:
    blue.sh(f"systemctl enable -q --now {STARTER} 2>&1")
    first = wait_for_recorder(blue)
    blue.sh(f"kill -KILL {first}")
    wait_for_recorder(blue, first)


def test_the_doctor_looks_at_the_namespace_and_its_recorder(blue: Router) -> None:
    off = f"{STARTER} is off: no recorder is started for this network namespace"
    found = findings(blue)
    assert found[off] == f"systemctl enable --now {STARTER}"
    blue.sh(found[off])
    wait_for_recorder(blue)
    blue.wait(lambda: findings(blue) == {}, "nothing left to find")
    blue.sh(f"systemctl disable -q {STARTER} 2>&1")
    disabled = f"{STARTER} is disabled: nothing is recorded after the next boot"
    assert findings(blue) == {disabled: f"systemctl enable {STARTER}"}
    blue.sh(f"ip netns exec {BLUE} nft 'table ip q {{ chain p {{ {NOTRACK} }}; }}'")
    (fix,) = [fix for what, fix in findings(blue).items() if "NOTRACK" in what]
    assert "udp dport 53 notrack" in blue.sh(fix), "an operator's rule is shown, and stays"
    blue.sh(f"ip netns exec {BLUE} nft delete table ip q")
    assert not [what for what in findings(blue) if "NOTRACK" in what]
