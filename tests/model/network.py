"""The router of the model test: its rules, its timeouts, and the addresses behind it."""

from __future__ import annotations

from tests.support.router import (
    BEHIND,
    FORWARDED,
    INSIDE,
    INSIDE6,
    INSIDE6_2,
    INSIDE_2,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    Lab,
    Namespace,
)

IPV4, IPV6 = "ipv4", "ipv6"
FAMILIES = (IPV4, IPV6)
TCP, UDP = 6, 17
PROTOCOLS = {TCP: "tcp", UDP: "udp"}

# Ports of the outside server.  Flows to PLAIN are tracked but not translated.
SERVED, PLAIN = 9000, 9053
# Flows from INSIDE6_2 are not translated either.
SOURCES = {IPV4: (INSIDE, INSIDE_2), IPV6: (INSIDE6, INSIDE6_2)}
SERVERS = {IPV4: SERVER, IPV6: SERVER6}
PUBLICS = {IPV4: PUBLIC, IPV6: PUBLIC6}
ROUTER = {PUBLIC, PUBLIC6, "192.168.1.1", "fd00:db8::1"}
# Few ports, reused all the time by two hosts: the holder of a port depends on the time.
PORTS = range(20_000, 20_400)
OUTSIDE_PORTS = range(30_000, 30_400)
# Destination and source port of a flood; no question is about that port.
FLOOD_NET, FLOOD_PORT = "198.18.0.0/15", 29_999

# Short: an entry that outlives a hole is in the next dump, so the hole would hide nothing.
TIMEOUTS = {
    "nf_conntrack_udp_timeout": 2,
    "nf_conntrack_udp_timeout_stream": 3,
    "nf_conntrack_tcp_timeout_syn_sent": 5,
    "nf_conntrack_tcp_timeout_syn_recv": 5,
    "nf_conntrack_tcp_timeout_established": 30,
    "nf_conntrack_tcp_timeout_fin_wait": 3,
    "nf_conntrack_tcp_timeout_close_wait": 3,
    "nf_conntrack_tcp_timeout_last_ack": 2,
    "nf_conntrack_tcp_timeout_time_wait": 2,
    "nf_conntrack_tcp_timeout_close": 1,
    "nf_conntrack_tcp_timeout_max_retrans": 10,
    "nf_conntrack_tcp_timeout_unacknowledged": 10,
}
# Longest life of an entry after the last packet of its flow, in s.
LONGEST_TIMEOUT = {UDP: 3, TCP: 31}


def table(family: str) -> str:
    """The NAT table of a family, for nft -f."""
    ip, source = ("ip", "192.168.1.0/24") if family == IPV4 else ("ip6", INSIDE6)
    public = PUBLICS[family]
    inside = BEHIND[public] if family == IPV4 else f"[{BEHIND[public]}]"
    forwards = "\n".join(
        f"iifname wan {ip} daddr {public} {protocol} dport {port} dnat to {inside}:{inner}"
        for port, inner in FORWARDED.items()
        for protocol in PROTOCOLS.values()
    )
    return f"""
table {ip} nat {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        {forwards}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname wan udp dport {PLAIN} accept
        oifname wan {ip} saddr {source} snat to {public}
    }}
}}
"""


RULES = table(IPV4) + table(IPV6)


def load(router: Namespace, rules: str) -> None:
    """Replace the ruleset by `rules`, in one transaction."""
    router.run("nft", "-f", "-", stdin=f"flush ruleset\n{rules}")


def prepare(lab: Lab) -> None:
    """Rules, timeouts and routes, in a lab that sleeps."""
    lab.router.sysctl(**TIMEOUTS)
    load(lab.router, RULES)
    lab.router.run("ip", "route", "add", FLOOD_NET, "via", SERVER)
    lab.outside.run("ip", "-6", "route", "add", f"{INSIDE6_2}/128", "via", PUBLIC6)
