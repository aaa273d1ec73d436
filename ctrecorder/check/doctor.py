"""Why nothing, or not all, is recorded here: what is wrong with this machine, and the command that
mends each.

Only looks, changes nothing.  Reads /proc, the kernel's firewall rules and systemctl; what cannot be
read is a finding itself, for then something was not looked at.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctrecorder import uapi
from ctrecorder.errors import KernelError
from ctrecorder.kernel import sockets, tracking
from ctrecorder.kernel.netns import Namespace
from ctrecorder.record.counters import WANTED_SYSCTLS
from ctrecorder.record.deadlines import HEARTBEAT_NS
from ctrecorder.service import config, privileges
from ctrecorder.service.values import Value

UNIT, INSTANCES = "ctrecord.service", "ctrecord@*.service"
# For --netns: the path unit starts the service whenever the namespace exists.
NAMESPACE_PATH, NAMESPACE_UNIT = "ctrecord-netns@{}.path", "ctrecord-netns@{}.service"
PROPERTIES = "LoadState,ActiveState,SubState,MainPID,NRestarts,UnitFileState"
TMPFILES = "/usr/lib/tmpfiles.d/ctrecorder.conf"
TIMERS = {"ctsqueeze.timer": "segments stay large", "ctexpire.timer": "nothing is deleted"}
# The recorder writes at least a heartbeat: after three that are missing it is not the clock's or
# the disk's hiccup.
SILENT_SECONDS = 3 * HEARTBEAT_NS // 1_000_000_000
FREE_SHARE, FREE_BYTES = 0.05, 256 << 20
# A tool that has not answered by then hangs; the doctor must not.
TOOL_SECONDS = 20
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
TIMEX_BYTES = 512  # struct timex has 208; the kernel writes no more
_UNTRACKED = "what it matches is not tracked, so not recorded"


@dataclass(frozen=True)
class Finding:
    """What is wrong, in a line, and the command that mends it."""

    what: str
    mend: str


def diagnose(path: str | None, namespace: Namespace | None = None) -> list[Finding]:
    """All findings, gravest first; [] is a healthy recorder.

    path: the configuration; None: the default file.
    namespace: that of --netns, which this process has entered; its recorder, rules and sysctls are
        checked.
    """
    problems = config.check(path)
    if problems:
        option = "" if path is None else f" -c {path}"
        return [
            Finding(problem, f"mend the file, then: ctrecord --check-config{option}")
            for problem in problems
        ]
    settings = config.load(path, "record")
    folder = os.path.dirname(str(settings["template"]))
    inside = namespace.inside if namespace else ""
    checks = [
        look_at_rights(),
        look_at_kernel(inside),
        look_at_namespace_unit(namespace, settings) if namespace else look_at_unit(settings),
        look_at_log(folder),
        look_at_rules(inside),
        look_at_buffer(settings),
        look_at_clock(),
        look_at_disk(folder),
        look_at_timers(),
    ]
    return [finding for check in checks for finding in check]


def look_at_rights() -> Iterator[Finding]:
    """Whether this process may look at everything."""
    if not privileges.has_net_admin():
        yield Finding(
            "the doctor lacks CAP_NET_ADMIN and cannot look at firewall rules and buffers",
            "run as root: cttest --doctor",
        )


def look_at_kernel(inside: str = "") -> Iterator[Finding]:
    """Connection tracking there, awake, with events, and with the sysctls that recording wants.

    inside: what goes before a command that is to run in the network namespace that is looked at.
    """
    if sockets.table_count() is None:
        yield Finding(
            "this kernel has no connection tracking loaded", "modprobe nf_conntrack_netlink"
        )
        return
    if sockets.sysctl("nf_conntrack_events") is None:
        mend = "boot a kernel with CONFIG_NF_CONNTRACK_EVENTS, such as Debian's: "
        mend += "apt-get install linux-image-amd64"
        yield Finding("this kernel's connection tracking has no events", mend)
        return
    for name, (wanted, why) in WANTED_SYSCTLS.items():
        value = sockets.sysctl(name)
        if value is None:
            yield Finding(
                f"this kernel has no net.netfilter.{name}: {why}",
                "boot a kernel with CONFIG_NF_CONNTRACK_TIMESTAMP",
            )
        elif value != wanted:
            mend = f"{inside}sysctl -w net.netfilter.{name}={wanted}"
            yield Finding(f"net.netfilter.{name} is {value}: {why}", mend)
    if tracking.asleep():
        mend = (
            f"load the router's NAT rules, or only: {inside}nft "
            "'table inet wake { chain forward { type filter hook forward priority 0; "
            "ct state new counter; }; }'"
        )
        yield Finding(
            "connection tracking is inactive: no rule of this network namespace uses it, so there are no events",
            mend,
        )


def look_at_unit(settings: dict[str, Value]) -> Iterator[Finding]:
    """Whether the recorder runs, and with the capability that it needs; further recorders
    (ctrecord@NAME) too.
    """
    if not _systemd():
        if not _someone_listens():
            yield Finding("no recorder runs: no process listens to connection events", "ctrecord")
        return
    main = _properties(UNIT)
    if main.get("LoadState") != "loaded":
        if not _someone_listens():
            yield Finding(
                f"{UNIT} is not there, and no process listens to connection events",
                "apt-get install ctrecorder",
            )
        return
    further = (
        _run("systemctl", "list-units", "--all", "--plain", "--no-legend", INSTANCES) or ""
    ).split("\n")
    instances = [line.split()[0] for line in further if line.strip()]
    # Who runs further recorders may have switched off the first.
    if not instances or main["ActiveState"] != "inactive" or main["UnitFileState"] != "disabled":
        yield from _look_at_recorder(UNIT, main, settings)
    for unit in instances:
        yield from _look_at_recorder(unit, _properties(unit), settings)


def look_at_namespace_unit(namespace: Namespace, settings: dict[str, Value]) -> Iterator[Finding]:
    """Whether a recorder runs in the namespace, and is started again if that is made anew."""
    listened = _someone_listens()
    if not _systemd() or "/" in namespace.name:
        if not listened:
            what = f"no recorder runs in the network namespace {namespace.name}"
            yield Finding(what, f"ctrecord --netns {namespace.name}")
        return
    starter, unit = NAMESPACE_PATH.format(namespace.name), NAMESPACE_UNIT.format(namespace.name)
    started, shown = _properties(starter), _properties(unit)
    if started.get("ActiveState") != "active":
        # A recorder by hand will do.
        if not listened or shown.get("ActiveState") == "active":
            what = f"{starter} is off: no recorder is started for this network namespace"
            yield Finding(what, f"systemctl enable --now {starter}")
        return
    shown["UnitFileState"] = started.get("UnitFileState", "")
    yield from _look_at_recorder(unit, shown, settings, enable=starter)
    pid = shown.get("MainPID", "0")
    if shown.get("ActiveState") == "active" and not listened:
        what = f"the recorder (pid {pid}) does not listen in this network namespace: it may have been made anew"
        yield Finding(what, f"systemctl restart {unit}")


def look_at_log(folder: str) -> Iterator[Finding]:
    """A segment written lately, in a folder that others cannot see."""
    try:
        others = os.stat(folder).st_mode & 0o007
        newest_segment = max(
            (
                entry.stat().st_mtime
                for entry in os.scandir(folder)
                if entry.is_file(follow_symlinks=False)
            ),
            default=None,
        )
    except FileNotFoundError:
        packaged = f"systemd-tmpfiles --create ctrecorder.conf && systemctl restart {UNIT}"
        yield Finding(
            f"{folder} is not there",
            packaged if os.path.exists(TMPFILES) else f"mkdir -m 750 {folder}",
        )
        return
    except PermissionError:
        yield Finding(
            f"{folder} may not be looked into",
            "run as root or as a member of the group ctrecorder: cttest --doctor",
        )
        return
    if others:
        yield Finding(
            f"{folder} is open to everyone: who talked to whom is personal data",
            f"chmod o= {folder}",
        )
    if newest_segment is None:
        yield Finding(f"there is no segment in {folder}", f"systemctl restart {UNIT}")
    elif time.time() - newest_segment > SILENT_SECONDS:
        yield Finding(
            f"nothing was written to {folder} for {int(time.time() - newest_segment)} s",
            f"systemctl restart {UNIT}",
        )


def look_at_rules(inside: str = "") -> Iterator[Finding]:
    """Rules that keep connections from being tracked, and flowtables that do not count.

    inside: as of `look_at_kernel`.
    """
    if not privileges.has_net_admin():
        return
    # Loaded only here: pyroute2 takes longer to import than all else that cttest does.
    from ctrecorder.check import firewall

    try:
        rules, flowtables = firewall.rules(tracking.UNTRACKING), firewall.flowtables()
    except KernelError as error:
        yield Finding(str(error), f"{inside}nft list ruleset")
        return
    for rule in rules:
        if "notrack" in rule.expressions:
            what = f"a NOTRACK rule in {rule.place}: {_UNTRACKED}"
            yield Finding(what, f"{inside}nft delete rule {rule.place} handle {rule.handle}")
    if sockets.sysctl("nf_conntrack_acct") == 1:
        for flowtable in flowtables:
            if not flowtable.counts:
                what = f"the flowtable {flowtable.place} does not count: packets and bytes of the connections that it forwards are too small"
                mend = "add `counter` to it in /etc/nftables.conf, then: systemctl reload nftables"
                yield Finding(what, mend)
    for program in ("iptables", "ip6tables"):
        yield from _look_at_legacy_rules(program, inside)


def _look_at_legacy_rules(program: str, inside: str) -> Iterator[Finding]:
    """The table raw of the legacy iptables, which nftables does not list: it can stop tracking."""
    if "raw" not in _legacy_tables(program):
        return
    said = _run(f"{program}-legacy-save", "-t", "raw")
    if said is None:
        what = f"{program}-legacy has rules in its table raw, which could not be read: they may keep connections from being tracked"
        yield Finding(what, f"apt-get install iptables, then: {inside}{program}-legacy-save -t raw")
    elif re.search(r"--notrack|-j NOTRACK", said):
        what = f"a NOTRACK rule of {program}-legacy: {_UNTRACKED}"
        mend = f"find it with {inside}{program}-legacy-save -t raw, and delete it: {inside}{program}-legacy -t raw -D ..."
        yield Finding(what, mend)


def look_at_buffer(settings: dict[str, Value]) -> Iterator[Finding]:
    """Whether the kernel would give the buffer that is set.

    Only CAP_NET_ADMIN in the initial user namespace is not capped.
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
        yield Finding(what, f"on the host of this container: sysctl -w net.core.rmem_max={asked}")


def look_at_clock() -> Iterator[Finding]:
    """Whether someone keeps the clock: a time that is off by a minute names the wrong customer."""
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)) == TIME_ERROR:
        yield Finding(
            "the clock is not synchronised",
            "apt-get install systemd-timesyncd && timedatectl set-ntp true",
        )


def look_at_disk(folder: str) -> Iterator[Finding]:
    """Whether there is room for the log."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return  # look_at_log has said so
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free < max(FREE_SHARE * whole, min(FREE_BYTES, whole // 4)):
        what = (
            f"the disk of {folder} is nearly full: {free >> 20} MiB of {whole >> 20} MiB are free"
        )
        yield Finding(
            what, f"make room, or delete the oldest segments: ctexpire --min-free 10% {folder}"
        )


def look_at_timers() -> Iterator[Finding]:
    """Whether segments are squeezed and deleted by themselves."""
    if not _systemd():
        return
    for timer, harm in TIMERS.items():
        shown = _properties(timer)
        if shown.get("LoadState") == "loaded" and shown.get("ActiveState") != "active":
            yield Finding(f"{timer} is off: {harm}", f"systemctl enable --now {timer}")


def _look_at_recorder(
    unit: str, shown: dict[str, str], settings: dict[str, Value], enable: str = ""
) -> Iterator[Finding]:
    """One recorder, with systemd's properties of it.

    enable: the unit that starts it, if another.
    """
    enable = enable or unit
    if shown.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        what = f"{enable} is {shown.get('UnitFileState')}: nothing is recorded after the next boot"
        yield Finding(what, f"systemctl enable {enable}")
    if shown.get("ActiveState") == "active":
        yield from _look_at_process(unit, shown.get("MainPID", "0"), settings)
    elif shown.get("SubState") == "auto-restart" or shown.get("ActiveState") == "activating":
        what = f"{unit} does not come up, {shown.get('NRestarts')} tries{_last_words(unit)}"
        yield Finding(what, f"mend what it says, then: systemctl restart {unit}")
    else:
        yield Finding(
            f"{unit} is {shown.get('ActiveState')}: nothing is recorded{_last_words(unit)}",
            f"systemctl restart {unit}",
        )


def _look_at_process(unit: str, pid: str, settings: dict[str, Value]) -> Iterator[Finding]:
    """What the running recorder may do: without CAP_NET_ADMIN it cannot dump the table."""
    try:
        status = privileges.status_of(pid)
    except OSError:
        return  # it ended this moment: the next look sees it
    if settings["resync"] and not int(status["CapEff"], 16) >> privileges.CAP_NET_ADMIN & 1:
        what = f"the recorder (pid {pid}) lacks CAP_NET_ADMIN: it cannot find again what a loss hid"
        yield Finding(what, f"systemctl revert {unit} && systemctl restart {unit}")


def _legacy_tables(program: str) -> list[str]:
    """The tables of iptables-legacy or ip6tables-legacy that this network namespace has in use."""
    name = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}[program]
    try:
        return Path("/proc/net", name).read_text("ascii").split()
    except OSError:
        return []


def _someone_listens() -> bool:
    """Whether a socket of this network namespace has joined the groups of new and ended connections
    (/proc/net/netlink).
    """
    both = 1 << (uapi.NFNLGRP_CONNTRACK_NEW - 1) | 1 << (uapi.NFNLGRP_CONNTRACK_DESTROY - 1)
    for line in Path("/proc/net/netlink").read_text("ascii").splitlines()[1:]:
        _, protocol, _, groups, *_ = line.split()
        if int(protocol) == uapi.NETLINK_NETFILTER and int(groups, 16) & both == both:
            return True
    return False


def _systemd() -> bool:
    return os.path.isdir("/run/systemd/system")


def _properties(unit: str) -> dict[str, str]:
    """systemctl's PROPERTIES of a unit; {} if it cannot be asked."""
    said = _run("systemctl", "show", unit, f"--property={PROPERTIES}") or ""
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def _last_words(unit: str) -> str:
    """What the recorder said last, with a colon before it; "" if nothing is known."""
    said = _run(
        "journalctl",
        f"--unit={unit}",
        "--lines=1",
        "--output=cat",
        "--quiet",
        "SYSLOG_IDENTIFIER=ctrecord",
    )
    return f": {said.strip()}" if said and said.strip() else ""


def _run(*command: str) -> str | None:
    """What a tool prints; None if it is missing, fails or hangs."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
