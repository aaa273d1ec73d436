"""The doctor's look at the kernel: connection tracking, its events, its table, and the clock."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from ctrecorder import labels, uapi
from ctrecorder.check import doctor_tools
from ctrecorder.check.doctor_tools import Finding, Note, Result
from ctrecorder.declared.values import Value
from ctrecorder.errors import KernelError, MessageError
from ctrecorder.kernel import bpf, sockets, timex, tracking
from ctrecorder.kernel.decoder import Decoder
from ctrecorder.kernel.probe import Probe
from ctrecorder.kernel.statistics import Statistics, read_statistics
from ctrecorder.record.report import WANTED_SYSCTLS
from ctrecorder.service import privileges
from ctrecorder.terminal import count

_TABLES = {uapi.AF_INET: "ip", uapi.AF_INET6: "ip6"}  # the names of nft(8)
_WAKE = "ctrecorder_wake"  # a table that the operator does not have
_SYSCTL_CHANGES = "a setting of the kernel, until the next boot"
# The connection table is called nearly full from this share on: a scan of ports fills the rest.
NEARLY_FULL_SHARE = 0.9
# IANA reserves protocol 255, so that a filter for it passes nothing but probes.
_NO_PROTOCOL = 255
_PROBE_BUFFER_BYTES = 1 << 20
# systemd-timesyncd asks every 2,048 s at the latest, when the kernel assumes an error of 1.02 s.
# From 16 s on the kernel calls the clock unsynchronised.
MAX_CLOCK_ERROR_US = 2_000_000


def look_at_rights() -> Iterator[Finding]:
    """If this process may look at everything."""
    if not privileges.has_net_admin():
        what = "the doctor lacks CAP_NET_ADMIN and cannot look at firewall rules, buffers and "
        what += "statistics, nor prove that events arrive"
        yield Finding(what, "run as root: cttest --doctor")


def look_at_kernel(inside: str = "") -> Iterator[Result]:
    """If connection tracking is loaded and awake, and its events arrive.

    `inside`: the prefix of a command that is to run in the network namespace that is examined.
    """
    if sockets.table_count() is None:
        what = "this kernel has no connection tracking loaded"
        yield Finding(what, "modprobe nf_conntrack_netlink", "the kernel: it loads a module")
        return
    events = sockets.sysctl("nf_conntrack_events")
    if events is None:
        fix = "boot a kernel with CONFIG_NF_CONNTRACK_EVENTS, such as Debian's: "
        fix += "apt-get --no-remove install linux-image-$(dpkg --print-architecture)"
        what = "this kernel's connection tracking has no events"
        yield Finding(
            what,
            fix,
            "the packages: a kernel is installed, none is removed; the next boot takes the newest",
        )
        return
    for name in WANTED_SYSCTLS:
        yield from _look_at_sysctl(name, inside)
    yield from _look_at_families(inside)
    if events != 0:  # without events, the finding above says all
        yield from prove_events()


def _look_at_sysctl(name: str, inside: str) -> Iterator[Finding]:
    """If a sysctl has the value that recording needs."""
    wanted, why = WANTED_SYSCTLS[name]
    value = sockets.sysctl(name)
    if name == "nf_conntrack_events" and value == 0:
        why = "the kernel sends no events, so nothing is recorded"
    if value is None:
        what = f"this kernel has no net.netfilter.{name}: {why}"
        yield Finding(what, "boot a kernel with CONFIG_NF_CONNTRACK_TIMESTAMP")
    elif value != wanted:
        fix = f"{inside}sysctl -w net.netfilter.{name}={wanted}"
        yield Finding(f"net.netfilter.{name} is {value}: {why}", fix, _SYSCTL_CHANGES)


def _look_at_families(inside: str) -> Iterator[Result]:
    """If packets of both families are tracked."""
    for family in tracking.families_off():
        if not tracking.forwards(family):
            why = f"{labels.FAMILIES[family]} is not forwarded here: only connections of this "
            yield Note(tracking.off_text(family), f"{why}host itself are missing in the log")
            continue
        table = _TABLES[family]
        rule = f"table {table} {_WAKE} {{ chain forward {{ type filter hook forward priority 0; "
        rule += "ct state new counter; }; }"
        fix = f"load the router's NAT rules, or only: {inside}nft '{rule}'"
        changes = f"the firewall, until the next boot: the table {table} {_WAKE}, which counts and "
        changes += "drops nothing. It turns connection tracking on, which takes memory, and can "
        changes += "refuse connections when its table is full"
        yield Finding(tracking.off_text(family), fix, changes)


def prove_events() -> Iterator[Finding]:
    """If both events of an entry that is made and deleted arrive on a socket of this process.

    Nothing is sent to the network.  The entry has a reserved zone, and recorders leave it out.
    """
    if not privileges.has_net_admin():
        return
    try:
        arrived = _probe_arrives()
    except (KernelError, MessageError) as error:
        what = f"it is not proved that events arrive: {error}"
        yield Finding(what, "journalctl --dmesg --grep=conntrack")
        return
    if not arrived:
        what = "events do not arrive: the kernel made and deleted an entry and sent no event of it"
        changes = "nothing: look for a driver that offloads connections and takes their events. "
        changes += "Decide yourself whether to unload it, or to boot Debian's kernel"
        yield Finding(what, "journalctl --dmesg --grep='offload|conntrack'", changes)


def _probe_arrives() -> bool:
    """If both events of a probe are received.  Raises KernelError."""
    events = sockets.EventSocket(_PROBE_BUFFER_BYTES, program=bpf.event_filter((_NO_PROTOCOL,)))
    try:
        probe = Probe()
        try:
            probe.send()
            buffer, decoder = sockets.SlotBuffer(sockets.BATCH), Decoder()
            while probe.pending and events.receive(buffer):
                for table in decoder.decode(*events.accept(buffer)):
                    probe.take(table)
            return not probe.pending
        finally:
            probe.close()
    finally:
        events.close()


def look_at_table() -> Iterator[Result]:
    """If the connection table has room, and what the kernel refused since boot."""
    entries, limit = sockets.table_count(), sockets.sysctl("nf_conntrack_max")
    if entries is None:
        return
    if limit and entries >= NEARLY_FULL_SHARE * limit:
        what = f"the connection table is nearly full: {entries:,} of {limit:,} entries. "
        what += "The kernel refuses further connections"
        fix = f"sysctl -w net.netfilter.nf_conntrack_max={2 * limit}"
        if doctor_tools.in_container():
            fix = f"on the host of this container: {fix}"
        changes = f"{_SYSCTL_CHANGES}: the table may take {limit * 400 >> 20:,} MiB more memory"
        yield Finding(what, fix, changes)
    if not privileges.has_net_admin():
        return
    try:
        refused = read_statistics()
    except (KernelError, MessageError) as error:
        yield Finding(f"the kernel's statistics cannot be read: {error}", "conntrack --stats")
        return
    yield from describe_refused(refused)


def describe_refused(statistics: Statistics) -> Iterator[Note]:
    """Notes on connections that the kernel refused since the boot of the network namespace.

    A refused packet never left this machine: the recording is complete without it.
    """
    why = "since boot; their packets never left, so the log is complete without them"
    # A refusal for a taken tuple may be counted in both.
    full = statistics.drop - statistics.insert_failed
    if full > 0:
        least = "at least " if statistics.insert_failed else ""
        yield Note(f"table full: {least}{count(full, 'connection')} refused", why)
    if statistics.insert_failed:
        number = f"{statistics.insert_failed:,}"
        yield Note(f"{number} refused: no free source port, or a collision", why)


def look_at_buffer(settings: dict[str, Value]) -> Iterator[Finding]:
    """If the kernel grants the receive buffer of the settings.

    It caps the buffer unless the process has CAP_NET_ADMIN in the initial user namespace.
    """
    if not privileges.has_net_admin():
        return
    asked = int(str(settings["buffer"])) << 10
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, uapi.NETLINK_NETFILTER
    ) as trial:
        try:
            trial.setsockopt(socket.SOL_SOCKET, uapi.SO_RCVBUFFORCE, asked)
            return
        except PermissionError:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
            got = trial.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if got < asked:
        what = f"the receive buffer is capped: {got >> 10} KiB instead of {asked >> 10} KiB, "
        what += "and a flood loses events"
        fix = f"on the host of this container: sysctl -w net.core.rmem_max={asked}"
        yield Finding(what, fix, _SYSCTL_CHANGES)


def look_at_clock() -> Iterator[Finding]:
    """If the clock is synchronised: a time that is wrong by a minute names the wrong customer."""
    state = timex.clock_state()
    if state is None:
        yield Finding("the state of the clock cannot be read", "timedatectl")
    elif not state.synchronised:
        yield Finding("the clock is not synchronised", *_fix_of_clock())
    elif state.error_us > MAX_CLOCK_ERROR_US:
        what = f"the clock may be wrong by up to {state.error_us / 1e6:.1f} s"
        yield Finding(what, *_fix_of_clock())


# How to find out why a time daemon that runs has not synchronised the clock, by Debian package.
_TIME_DAEMON_STATES = {
    "chrony": "chronyc -n sources",
    "ntpsec": "ntpq -np",
    "openntpd": "ntpctl -s all",
    "systemd-timesyncd": "timedatectl timesync-status",
}
# Programs that set the clock, by their names in /proc (15 characters): also those that are not from
# Debian, or that Debian does not call a time daemon.
_CLOCK_PROGRAMS = frozenset({"chronyd", "ntpd", "openntpd", "systemd-timesyn", "ptpd"})
_CLOCK_PROGRAMS |= {"phc2sys", "ptp4l", "timemaster", "ts2phc"}


def _fix_of_clock() -> tuple[str, str]:
    """The command that synchronises the clock, and what it changes.

    Debian has one time daemon at a time: to install another one would remove the first.  Two that
    run would set the clock against each other.
    """
    if doctor_tools.in_container():
        fix = "on the host of this container, look at its time daemon: timedatectl"
        return fix, "nothing: a container has the clock of its host"
    daemon = _installed_time_daemon()
    unit = f"{daemon}.service"
    if daemon and doctor_tools.unit_properties(unit).get("ActiveState") == "active":
        why = f"nothing: it shows why {daemon}, which runs, has not synchronised the clock"
        return _TIME_DAEMON_STATES.get(daemon, f"systemctl status {unit}"), why
    if running := _clock_program():
        why = "nothing: it shows the program that sets the clock. Find out why it does not "
        return f"ps -fp {running}", f"{why}synchronise it"
    if daemon is None:
        fix = "apt-get --no-remove install systemd-timesyncd"
        return fix, "the packages: a time daemon is installed, none is removed; it sets the clock"
    fix = f"systemctl enable --now {unit}"
    return fix, f"{daemon}, which is installed, is started now and at each boot; it sets the clock"


def _clock_program() -> int | None:
    """The pid of a program that runs and sets the clock; None if there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text("utf-8", "replace").strip()
        except OSError:
            continue  # it ended in this moment
        if name in _CLOCK_PROGRAMS:
            return int(folder.name)
    return None


def _installed_time_daemon() -> str | None:
    """The installed Debian package that provides a time daemon."""
    pattern = "${db:Status-Status} ${Package} ${Provides}\\n"
    for line in (doctor_tools.run_tool("dpkg-query", "-W", "-f", pattern) or "").splitlines():
        status, package, *provides = line.replace(",", " ").split()
        if status == "installed" and "time-daemon" in provides:
            return package
    return None
