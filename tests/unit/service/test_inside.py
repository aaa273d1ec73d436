"""The networks that are inside: the setting, else the private ones and this router's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ctrecorder.ends import NETWORKS
from ctrecorder.service import inside
from ctrecorder.service.config import read
from tests.support.router import CHECKOUT

IN_NAMESPACE = """
for each in lan wan tun; do ip link add $each type veth peer name ${each}2; done
for each in lan wan tun lan2 wan2 tun2 lo; do ip link set $each up; done
ip address add 203.0.113.1/25 dev lan; ip address add 2001:db8:7::1/64 dev lan nodad
ip address add 198.51.100.9/24 dev wan; ip address add 2001:db8:99::9/64 dev wan nodad
ip address add 192.0.2.1/32 dev tun; ip route add 192.0.2.128/25 via 203.0.113.2
ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:99::1
/usr/bin/python3 -c 'from ctrecorder.service import inside; print(*inside.own_networks())'
"""


def test_the_setting_replaces_the_defaults(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text("[record]\ninside = 203.0.113.0/24, 2001:db8:7::/48\n")
    assert inside.networks(read(str(conf))) == ("203.0.113.0/24", "2001:db8:7::/48")
    conf.write_text("[record]\ninside =\n")
    assert inside.networks(read(str(conf)))[: len(NETWORKS)] == NETWORKS


@pytest.mark.slow
def test_own_networks_are_those_away_from_the_default_route() -> None:
    """Not that of the uplink, nor single addresses, nor what is behind another router."""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", IN_NAMESPACE],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["203.0.113.0/25", "2001:db8:7::/64"]


def test_a_machine_without_ipv6_has_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_IPV4", "/nonexistent")
    monkeypatch.setattr(inside, "_IPV6", "/nonexistent")
    assert inside.own_networks() == []
