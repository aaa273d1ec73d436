"""The doctor's checks, each on the real thing where this machine has it: rules, lists of the kernel."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_flowtable_msg

from ctrecorder import uapi
from ctrecorder.check import doctor, firewall
from ctrecorder.check.doctor import Finding
from ctrecorder.errors import KernelError
from ctrecorder.kernel import sockets, tracking
from ctrecorder.service import privileges, settings
from tests.support.conntrack_messages import attribute, number

ROOT = Path(__file__).parents[3]
RECORD = {one.name: one.parse(one.default) for one in settings.SECTIONS["record"].settings}

NFT = """table inet raw {
    chain pre {
        type filter hook prerouting priority raw; policy accept;
        udp dport 53 counter notrack comment "a { brace"
        tcp dport 80 accept comment "not notrack"
        log prefix "notrack " counter
    }
}
table ip nat { chain post { type nat hook postrouting priority srcnat; masquerade; }; }
"""


def in_namespace(script: str) -> str:
    command = ["unshare", "--net", "sh", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def mends(findings: list[Finding]) -> list[str]:
    return [finding.mend for finding in findings]


LOOK = "from ctrecorder.check import doctor; print(*(one.mend for one in doctor.look_at_rules()), sep='\\n')"


def test_a_notrack_rule_is_found_and_its_mend_removes_that_rule_alone(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(NFT)
    look = f'{sys.executable} -c "{LOOK}"'
    script = f"export PYTHONPATH={ROOT}; cd {tmp_path}; nft -f rules; {look} >mends; cat mends; "
    script += f"echo ---; sh -eu mends; {look}; nft list ruleset"
    found, _, left = in_namespace(script).partition("---\n")
    assert re.fullmatch(r"nft delete rule inet raw pre handle \d+\n", found)
    assert "nft delete" not in left
    assert "not notrack" in left


def flowtable_message(flags: int) -> bytes:
    """The kernel's answer to NFT_MSG_GETFLOWTABLE: this machine's kernel may have no flowtables."""
    table, name = attribute(1, b"filter\0"), attribute(2, b"fast\0")  # NFTA_FLOWTABLE_TABLE, _NAME
    # family inet; NFTA_FLOWTABLE_FLAGS
    body = struct.pack("=BBH", 1, 0, 0) + table + name + number(7, flags, 4)
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | 22, 2, 1, 0) + body


@pytest.mark.parametrize(("flags", "counts"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_flowtable_without_a_counter_is_found(
    monkeypatch: pytest.MonkeyPatch, flags: int, counts: bool
) -> None:
    message = nft_flowtable_msg(flowtable_message(flags))
    message.decode()
    assert firewall.flowtable(message) == ("inet filter fast", counts)
    monkeypatch.setattr(firewall, "_ask", lambda what: (message,) if what == "flowtables" else ())
    for accounted in (1, 0):  # it matters only where bytes are counted
        monkeypatch.setattr(sockets, "sysctl", lambda name, value=accounted: value)
        assert bool(list(doctor.look_at_rules())) is bool(accounted and not counts)


@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_a_notrack_rule_of_iptables_legacy_is_found(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """pyroute2 does not list those; where they cannot be read either, the doctor says so."""
    save = f"{program}-legacy-save"
    said: dict[str, str | None] = {save: "*raw\n-A PREROUTING -p udp -j CT --notrack\nCOMMIT\n"}
    monkeypatch.setattr(firewall, "_ask", lambda what: ())
    monkeypatch.setattr(doctor, "_run", lambda *command: said[command[0]])
    tables = {"iptables": ["filter"], "ip6tables": ["filter"], program: ["raw"]}
    monkeypatch.setattr(doctor, "_legacy_tables", tables.__getitem__)
    assert [finding.what for finding in doctor.look_at_rules()] == [
        f"a NOTRACK rule of {program}-legacy: what it matches is not tracked, so not recorded"
    ]
    said[save] = "*raw\n-A PREROUTING -j CT --zone 5\nCOMMIT\n"
    assert list(doctor.look_at_rules()) == []
    said[save] = None
    (unread,) = doctor.look_at_rules()
    assert unread.what.startswith(f"{program}-legacy has rules in its table raw, which could not")


def test_legacy_tables_are_seen_in_the_kernels_list() -> None:
    tables = "print(doctor._legacy_tables('iptables'), doctor._legacy_tables('ip6tables'))"
    rule = "iptables-legacy -t raw -A PREROUTING -p udp -j NOTRACK"
    said = in_namespace(f'{rule}; {sys.executable} -c "{LOOK}; {tables}"').splitlines()
    assert said[0].startswith("find it with iptables-legacy-save -t raw, and delete it: ")
    assert said[1:] == ["['raw'] []"]


def test_rules_that_cannot_be_read_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from ctrecorder.check import firewall; firewall.rules()"
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    line = "the kernel does not list the firewall's rules: Operation not permitted"
    assert done.stderr.splitlines()[-1] == f"ctrecorder.errors.KernelError: {line}"

    def refuse(containing: Sequence[bytes]) -> list[firewall.Rule]:
        raise KernelError(line)

    monkeypatch.setattr(firewall, "rules", refuse)
    assert list(doctor.look_at_rules()) == [Finding(line, "nft list ruleset")]


@pytest.mark.parametrize(
    ("sysctls", "asleep", "found"),
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
    monkeypatch: pytest.MonkeyPatch, sysctls: dict[str, int], asleep: bool, found: list[str]
) -> None:
    monkeypatch.setattr(sockets, "sysctl", sysctls.get)
    monkeypatch.setattr(tracking, "asleep", lambda: asleep)
    said = mends(list(doctor.look_at_kernel()))
    assert len(said) == len(found)
    assert all(mend.startswith(start) for mend, start in zip(said, found, strict=True))


def test_a_process_that_listens_is_seen_in_the_kernels_list() -> None:
    assert not doctor._someone_listens()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER) as listener:
        listener.bind((0, 0))
        listener.setsockopt(
            uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, uapi.NFNLGRP_CONNTRACK_NEW
        )
        assert not doctor._someone_listens(), "new ones alone are half a record"
        listener.setsockopt(
            uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, uapi.NFNLGRP_CONNTRACK_DESTROY
        )
        assert doctor._someone_listens()


def test_a_log_that_is_silent_open_empty_or_gone_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    (empty,) = doctor.look_at_log(str(tmp_path))
    assert empty.what == f"there is no segment in {tmp_path}"
    segment = tmp_path / "x.ctlog"
    segment.touch()
    assert list(doctor.look_at_log(str(tmp_path))) == []
    os.utime(segment, (0, time.time() - doctor.SILENT_SECONDS - 5))
    (silent,) = doctor.look_at_log(str(tmp_path))
    assert silent.what.startswith(f"nothing was written to {tmp_path} for 18")
    segment.touch()
    tmp_path.chmod(0o755)
    assert mends(list(doctor.look_at_log(str(tmp_path)))) == [f"chmod o= {tmp_path}"]
    (gone,) = doctor.look_at_log(str(tmp_path / "none"))
    assert gone.what == f"{tmp_path}/none is not there"


@pytest.mark.parametrize(
    ("free_mib", "whole_mib", "found"),
    [(40, 1000, True), (300, 1000, False), (60, 100, False), (20, 100, True)],
)
def test_a_disk_that_is_nearly_full_is_found(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, whole_mib: int, found: bool
) -> None:
    disk = os.statvfs_result((1 << 20, 1 << 20, whole_mib, free_mib, free_mib, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert bool(list(doctor.look_at_disk("/x"))) is found


@pytest.mark.slow
def test_a_capped_buffer_is_found_where_the_kernel_caps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor.look_at_buffer(RECORD)) == [], (
        "root of the initial user namespace may force it"
    )
    # In a user namespace of its own this process has CAP_NET_ADMIN, but not the one that forces a
    # buffer.
    code = (
        "from ctrecorder.check import doctor; from ctrecorder.service import settings\n"
        "record = {one.name: one.parse(one.default) for one in "
        "settings.SECTIONS['record'].settings}\n"
        "print(*(finding.mend for finding in doctor.look_at_buffer(record)))"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "/usr/bin/python3", "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "on the host of this container: sysctl -w net.core.rmem_max=67108864\n"


def test_a_recorder_without_its_capability_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor._look_at_process("ctrecord.service", str(os.getpid()), RECORD)) == []
    monkeypatch.setattr(privileges, "status_of", lambda pid: {"CapEff": "0" * 16})
    (finding,) = doctor._look_at_process("ctrecord@x.service", "4711", RECORD)
    assert finding.what.startswith("the recorder (pid 4711) lacks CAP_NET_ADMIN")
    assert (
        finding.mend
        == "systemctl revert ctrecord@x.service && systemctl restart ctrecord@x.service"
    )
    assert (
        list(doctor._look_at_process("ctrecord@x.service", "4711", {**RECORD, "resync": False}))
        == []
    ), "without resync it needs none"


def test_a_bad_configuration_comes_first_and_alone(tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text("[record]\nrotate = 0\nrows = 0\n")
    said = doctor.diagnose(str(conf))
    assert [finding.what.partition(": ")[2][:7] for finding in said] == ["line 2:", "line 3:"]
    assert set(mends(said)) == {f"mend the file, then: ctrecord --check-config -c {conf}"}


def test_a_hanging_tool_does_not_hang_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TOOL_SECONDS", 0.1)
    assert doctor._run("sleep", "10") is None
    assert doctor._run("no-such-tool") is None
    assert doctor._run("false") is None
    assert doctor._run("echo", "x") == "x\n"
