"""The addresses of this machine, in a network namespace of our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
ip link set lo up
ip link add out type veth peer name in
ip addr add 198.51.100.7/24 dev out
ip addr add 198.51.100.8 peer 198.51.100.9 dev out
ip -6 addr add 2001:db8::7/64 dev out nodad
ip link set out up
exec /usr/bin/python3 -B -c 'from ctrecorder.watch import here; print(here.own())'
"""


def test_the_addresses_of_this_machine() -> None:
    """Not those of a host or link alone, and of a point-to-point link the own end."""
    found = subprocess.run(
        ["unshare", "--net", "sh", "-ec", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert found == "['198.51.100.7', '198.51.100.8', '2001:db8::7']\n"


def test_a_machine_without_addresses() -> None:
    code = "from ctrecorder.watch import here; print(here.own())"
    command = ["unshare", "--net", "/usr/bin/python3", "-B", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert found == "[]\n"
