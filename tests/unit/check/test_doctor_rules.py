"""The doctor's look at rules and translators, by the kernel's own lists where it has them."""

from __future__ import annotations

import json
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_flowtable_msg

from ctrecorder.check import doctor_rules, firewall
from ctrecorder.check.doctor_tools import Finding, Note
from ctrecorder.errors import KernelError
from ctrecorder.kernel import rules as kernel_rules
from ctrecorder.kernel import sockets
from tests.support.conntrack_messages import attribute, number

ROOT = Path(__file__).parents[3]
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
# Rules that translate without connection tracking, and others that write into packets or read them.
STATELESS = (
    "ip saddr set 192.0.2.1",
    "ip daddr set 192.0.2.1",
    "udp dport set 99",
    "tcp sport set 99",
    "@nh,96,16 set 0x0a00",
    "ip6 saddr set 2001:db8::1",
    "ip6 daddr set 2001:db8::1",
    "tcp dport 80 ip daddr 10.0.0.1 counter ip daddr set 10.0.0.2",
)
STATEFUL = (
    "ip saddr 192.0.2.1 udp dport 53 accept",
    "ip6 daddr 2001:db8::1 drop",
    "ip dscp set cs1",
    "ip6 hoplimit set 3",
    "ip ttl set 5",
    "tcp option maxseg size set 1400",
    "meta mark set 7",
    'log prefix "payload"',
)
LOOK = (
    "from ctrecorder.check import doctor_rules as d; "
    "print(*(one.fix for one in d.look_at_rules() if hasattr(one, 'fix')), sep='\\n')"
)


def in_namespace(script: str) -> str:
    command = ["unshare", "--net", "sh", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def python(code: str) -> str:
    return f"{sys.executable} -B -c {shlex.quote(code)}"


@pytest.mark.slow
def test_a_notrack_rule_is_found_and_its_fix_shows_that_rule_and_deletes_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "rules").write_text(NFT)
    script = f"export PYTHONPATH={ROOT}; cd {tmp_path}; nft -f rules; {python(LOOK)} >fixes; "
    script += "nft -a list ruleset >before; cat fixes; echo ---; sh -eu fixes; echo ---; "
    script += "nft -a list ruleset >after; cmp before after"
    fix, shown, _ = in_namespace(script).split("---\n")
    assert fix == "nft -a list chain inet raw pre\n"
    assert re.search(r'udp dport 53 .* notrack comment "a { brace" # handle \d+', shown)


@pytest.mark.slow
def test_rules_that_translate_without_tracking_are_found() -> None:
    """One chain for each rule; a chain that is not found is not one of those that translate."""
    hook = "type filter hook prerouting priority raw"
    chains = "".join(
        f"chain y{number} {{ {hook}; {rule}; }}; "
        for number, rule in enumerate((*STATELESS, *STATEFUL))
    )
    code = "from ctrecorder.check import doctor_rules as d; "
    code += "print(*(one.what for one in d.look_at_rules()), sep='\\n')"
    table = shlex.quote(f"table inet x {{ {chains} }}")
    found = in_namespace(f"nft {table}; {python(code)}").splitlines()
    wanted = r"a rule in inet x y(\d+) \(handle \d+\) translates without connection tracking: .*"
    numbers = [int(match[1]) for line in found if (match := re.fullmatch(wanted, line))]
    assert sorted(numbers) == list(range(len(STATELESS))), found


def test_prefix_translation_of_ip6tables_is_found() -> None:
    """Not every kernel has these targets: the names are looked for in a rule's message."""
    target = attribute(1, b"target\0") + attribute(2, attribute(1, b"SNPT\0") + number(2, 0, 4))
    assert kernel_rules.is_stateless_nat(attribute(4, attribute(1, target)))
    target = attribute(1, b"target\0") + attribute(2, attribute(1, b"LOG\0") + number(2, 0, 4))
    assert not kernel_rules.is_stateless_nat(attribute(4, attribute(1, target)))


def flowtable_message(flags: int) -> bytes:
    """The kernel's answer to NFT_MSG_GETFLOWTABLE: this machine's kernel may have no flowtables."""
    table, name = attribute(1, b"filter\0"), attribute(2, b"fast\0")  # NFTA_FLOWTABLE_TABLE, _NAME
    # family inet; NFTA_FLOWTABLE_FLAGS
    body = struct.pack("=BBH", 1, 0, 0) + table + name + number(7, flags, 4)
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | 22, 2, 1, 0) + body


@pytest.fixture
def no_translators(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("look_at_traffic_control", "look_at_jool"):
        monkeypatch.setattr(doctor_rules, name, lambda inside: iter(()))


@pytest.mark.usefixtures("no_translators")
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
        assert bool(list(doctor_rules.look_at_rules())) is bool(accounted and not counts)


@pytest.mark.usefixtures("no_translators")
@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_a_notrack_rule_of_iptables_legacy_is_found(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """pyroute2 does not list those; where they cannot be read either, the doctor says so."""
    save = f"{program}-legacy-save"
    said: dict[str, str | None] = {save: "*raw\n-A PREROUTING -p udp -j CT --notrack\nCOMMIT\n"}
    monkeypatch.setattr(firewall, "_ask", lambda what: ())
    monkeypatch.setattr(doctor_rules, "run_tool", lambda *command: said[command[0]])
    tables = {"iptables": ["filter"], "ip6tables": ["filter"], program: ["raw"]}
    monkeypatch.setattr(doctor_rules, "_legacy_tables", tables.__getitem__)
    assert [finding.what for finding in doctor_rules.look_at_rules()] == [
        f"a NOTRACK rule of {program}-legacy: connections that it matches are not tracked, "
        "so they are not recorded"
    ]
    said[save] = "*raw\n-A PREROUTING -j CT --zone 5\nCOMMIT\n"
    assert list(doctor_rules.look_at_rules()) == []
    said[save] = None
    (unread,) = doctor_rules.look_at_rules()
    assert unread.what.startswith(f"{program}-legacy has rules in its table raw, which could not")


@pytest.mark.slow
def test_legacy_tables_are_seen_in_the_kernels_list_and_the_fix_shows_the_rule() -> None:
    tables = "print(d._legacy_tables('iptables'), d._legacy_tables('ip6tables'))"
    rule = "iptables-legacy -t raw -A PREROUTING -p udp -j NOTRACK"
    said = in_namespace(f"{rule}; {python(f'{LOOK}; {tables}')}; iptables-legacy-save -t raw")
    fix, listed, *shown = said.splitlines()
    assert fix == "iptables-legacy-save -t raw"
    assert listed == "['raw'] []"
    assert [line for line in shown if line.startswith("-A PREROUTING -p udp -j ")]


@pytest.mark.usefixtures("no_translators")
def test_rules_that_cannot_be_read_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from ctrecorder.check import firewall; firewall.rules()"
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    line = "the kernel does not list the firewall's rules: Operation not permitted"
    assert done.stderr.splitlines()[-1] == f"ctrecorder.errors.KernelError: {line}"

    def refuse(containing: Sequence[bytes]) -> list[firewall.Rule]:
        raise KernelError(line)

    monkeypatch.setattr(firewall, "rules", refuse)
    assert list(doctor_rules.look_at_rules()) == [Finding(line, "nft list ruleset")]


# What tc(8) and ip(8) of iproute2 6.1 print: this machine's kernel has no actions or classifiers.
NAT_ACTION = [
    {"total acts": 1},
    {
        "actions": [
            {
                "order": 0,
                "kind": "nat",
                "direction": "egress",
                "old_addr": "10.0.0.0/8",
                "new_addr": "192.0.2.1",
            }
        ]
    },
]
FILTERS = [
    {"protocol": "all", "pref": 1, "kind": "bpf", "chain": 0},
    {
        "protocol": "all",
        "pref": 1,
        "kind": "bpf",
        "chain": 0,
        "options": {"handle": "0x1", "bpf_name": "nat.o:[classifier]", "direct-action": True},
    },
]
QDISCS = [{"kind": "noqueue", "dev": "lo"}, {"kind": "clsact", "dev": "wan"}]
LINKS = [{"ifname": "lo"}, {"ifname": "lan", "xdp": {"mode": 1, "prog": {"id": 7, "name": "fw"}}}]


def replies(monkeypatch: pytest.MonkeyPatch, **said: object) -> None:
    """Let the tools answer: each name of `said` is a word of the command."""

    def run(*command: str) -> str | None:
        for word, answer in said.items():
            if word in command:
                return None if answer is None else json.dumps(answer)
        return "[]"

    monkeypatch.setattr(doctor_rules, "run_tool", run)


def test_translation_by_traffic_control_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    replies(monkeypatch, nat=NAT_ACTION)
    (finding,) = doctor_rules.look_at_traffic_control("ip netns exec x ")
    assert finding.what == "a nat action of tc: connections that it translates cannot be recorded"
    assert isinstance(finding, Finding)
    assert finding.fix == "ip netns exec x tc actions list action nat"
    replies(monkeypatch, pedit=[{"total acts": 1}, {"actions": [{"kind": "pedit"}]}])
    (note,) = doctor_rules.look_at_traffic_control()
    assert isinstance(note, Note)


def test_ebpf_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    replies(monkeypatch, qdisc=QDISCS, egress=FILTERS, link=LINKS)
    assert [one.what for one in doctor_rules.look_at_traffic_control()] == [
        "an eBPF program handles packets of wan (egress): nat.o:[classifier]",
        "an eBPF program handles packets of lan (XDP): fw",
    ]
    replies(monkeypatch, qdisc=None)
    (missing,) = doctor_rules.look_at_traffic_control()
    assert missing.what == "traffic control was not checked: tc does not run"


def test_the_tools_answer_here_and_find_nothing() -> None:
    code = (
        "from ctrecorder.check import doctor_rules as d; print(list(d.look_at_traffic_control()))"
    )
    assert in_namespace(f"ip link set lo up; {python(code)}") == "[]\n"


@pytest.mark.parametrize(
    ("instances", "found"), [("0x1,pool,netfilter\n", True), ("", False), (None, True)]
)
def test_jool_is_found_by_its_module_and_its_instances(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, instances: str | None, found: bool
) -> None:
    monkeypatch.setattr(kernel_rules, "MODULES_FOLDER", str(tmp_path))
    monkeypatch.setattr(doctor_rules, "run_tool", lambda *command: instances)
    assert list(doctor_rules.look_at_jool()) == []
    (tmp_path / "jool").mkdir()
    findings = list(doctor_rules.look_at_jool())
    assert [finding.what for finding in findings] == (
        ["Jool's NAT64 is loaded: connections that it translates cannot be recorded"]
        if found
        else []
    )


@pytest.mark.slow
def test_a_router_tells_its_public_addresses() -> None:
    look = (
        "from ctrecorder.check import doctor_rules as d; print(*d.look_at_addresses(), sep='\\n')"
    )

    def doctor(setup: str) -> str:
        command = (
            f"set -e; ip link add wan type veth peer name other; ip link set wan up; {setup}; "
        )
        command += f"{sys.executable} -c {shlex.quote(look)}"
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    inside = "ip addr add 100.64.0.1/10 dev wan; ip addr add fd00::1/64 dev wan nodad"
    forward = "sysctl -qw net.ipv4.ip_forward=1"
    own = "ip addr add 198.51.100.1 peer 10.0.0.1 dev wan; ip addr add 2001:db8::1 dev wan nodad"
    assert doctor(f"{own}; sysctl -qw net.ipv4.ip_forward=0") == "\n"  # no router
    assert "'this router has no public address'" in doctor(f"{inside}; {forward}")
    said = doctor(f"{inside}; {own}; {forward}")
    assert "public addresses of this router: 198.51.100.1 (wan), 2001:db8::1 (wan)'" in said
