"""The standby of an HA pair: a second router with the same addresses, fed by conntrackd.

Traffic goes through one router at a time; `switch` moves it, as a change of the virtual addresses
would.  The router that takes over commits what it received into its kernel's table, as conntrackd's
script primary-backup.sh does: from then on both routers know the flow.
"""

from __future__ import annotations

from pathlib import Path

from tests.model import network
from tests.support.links import NETNS
from tests.support.router import (
    INSIDE6,
    INSIDE6_2,
    INSIDE6_SERVER,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    Lab,
    Namespace,
    event_sockets,
    wait_until,
)

GATEWAY, GATEWAY6 = "192.168.1.1", "fd00:db8::1"
# Of the standby, on both links: the other address of the gateway is on the link of the router.
LINK_LOCAL = "fe80::1"
# The link between the routers.
LINK = "sync"
ENDS = "192.0.2.1", "192.0.2.2"
# Of the inside and the outside towards the standby.
MACS = "02:00:00:00:00:01", "02:00:00:00:00:02"
# Commit what was received, forget it, read the own table again, and send all of it.
TAKE_OVER = "-c", "-f", "-R", "-B"
# How long an entry that is committed lives without a packet.
COMMIT_SECONDS = 3
# Not replicated: the link itself, and the recorders' probes.
_IGNORED = ("127.0.0.1", *ENDS)


class Standby:
    """The second router of `lab`; a context manager.  `router`: its namespace."""

    def __init__(self, lab: Lab, work: Path) -> None:
        self._lab, self._work = lab, work
        # The lab's own sweep removes it if this process dies.
        self.router = Namespace(lab.router.name.replace("-router", "900-router"))

    def __enter__(self) -> Standby:
        try:
            self._build()
            self._feed(self._lab.router, *ENDS)
            self._feed(self.router, *reversed(ENDS))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.router.kill_spawned()
        if (NETNS / self.router.name).exists():
            self._lab.outside.run("ip", "netns", "del", self.router.name, check=False)

    def _build(self) -> None:
        lab, name = self._lab, self.router.name
        lab.outside.run("ip", "netns", "add", name)
        for home, link, mac in ((lab.inside, "lan", MACS[0]), (lab.outside, "wan", MACS[1])):
            home.run(
                *("ip", "link", "add", "eth1", "address", mac, "type", "veth"),
                *("peer", link, "netns", name),
            )
            home.run("ip", "link", "set", "eth1", "up")
        lab.router.run("ip", "link", "add", LINK, "type", "veth", "peer", LINK, "netns", name)
        for router, address in ((lab.router, ENDS[0]), (self.router, ENDS[1])):
            router.run("ip", "addr", "add", f"{address}/24", "dev", LINK)
            router.run("ip", "link", "set", LINK, "up")
        self.router.run(
            "sysctl",
            "-qw",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        )
        for link, addresses in (
            ("lan", (f"{GATEWAY}/24", f"{GATEWAY6}/64", f"{LINK_LOCAL}/64")),
            ("wan", (f"{PUBLIC}/24", f"{PUBLIC6}/64", f"{LINK_LOCAL}/64")),
        ):
            self.router.run("ip", "link", "set", link, "up")
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                self.router.run("ip", "addr", "add", address, "dev", link, *nodad)
        # IPv6 answers only for addresses of the asked interface, and those are on the other one.
        for link, mac, far in (
            ("lan", MACS[0], (INSIDE6, INSIDE6_2, INSIDE6_SERVER)),
            ("wan", MACS[1], (SERVER6,)),
        ):
            for address in far:
                self.router.run(
                    *("ip", "-6", "neigh", "replace", address, "lladdr", mac),
                    *("dev", link, "nud", "permanent"),
                )
        for home in (lab.inside, lab.outside):
            home.run(
                *("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"),
                *("net.ipv4.conf.eth0.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=0"),
            )
        sysctls = ("nf_conntrack_events", "nf_conntrack_acct", "nf_conntrack_timestamp")
        self.router.sysctl(**{name: lab.router.sysctl_value(name) for name in sysctls})
        self.router.sysctl(**network.TIMEOUTS)
        network.load(self.router, network.RULES)
        self.router.run("ip", "route", "add", network.FLOOD_NET, "via", SERVER)

    def _config(self, here: str) -> Path:
        return self._work / f"conntrackd-{here}" / "conf"

    def _feed(self, router: Namespace, here: str, there: str) -> None:
        """Start conntrackd in `router`."""
        config = self._config(here)
        folder = config.parent
        folder.mkdir()
        ignored = "\n".join(f"IPv4_address {address}" for address in _IGNORED)
        config.write_text(f"""
Sync {{
    Mode FTFW {{
        CommitTimeout {COMMIT_SECONDS}
    }}
    UDP {{
        IPv4_address {here}
        IPv4_Destination_Address {there}
        Port 3780
        Interface {LINK}
        Checksum on
    }}
}}
General {{
    HashSize 8192
    HashLimit 65536
    LogFile {folder}/log
    LockFile {folder}/lock
    UNIX {{
        Path {folder}/control
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Address Ignore {{
            {ignored}
        }}
    }}
}}
""")
        process = router.spawn("conntrackd", "-C", config, stderr=folder / "stderr")
        wait_until(lambda: bool(event_sockets(process.pid)), "conntrackd listening")

    def switch(self, *, active: bool) -> None:
        """Move the traffic to this router, or back."""
        router, here = (self.router, ENDS[1]) if active else (self._lab.router, ENDS[0])
        for step in TAKE_OVER:
            router.run("conntrackd", "-C", self._config(here), step)
        link = "eth1" if active else "eth0"
        gateway6, public6 = (LINK_LOCAL, LINK_LOCAL) if active else (GATEWAY6, PUBLIC6)
        inside = (
            f"route replace default via {GATEWAY} dev {link} onlink",
            f"-6 route replace default via {gateway6} dev {link}",
        )
        outside = (
            f"route replace {PUBLIC}/32 dev {link}",
            f"-6 route replace {PUBLIC6}/128 dev {link}",
            f"-6 route replace {INSIDE6_2}/128 via {public6} dev {link}",
        )
        for home, lines in ((self._lab.inside, inside), (self._lab.outside, outside)):
            for line in lines:
                home.run("ip", *line.split())
