"""The doctor's look at the recorder's settings, services and timers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ctrecorder import times, uapi
from ctrecorder.check import doctor_tools
from ctrecorder.check.doctor_tools import Finding, Note
from ctrecorder.declared.values import Value
from ctrecorder.kernel.netns import Namespace
from ctrecorder.sealing import locate
from ctrecorder.service import privileges
from ctrecorder.service.config import CHECK, DEFAULT_PATH, Configuration
from ctrecorder.service.inside import own_networks
from ctrecorder.service.settings import SECTIONS

UNIT, INSTANCES = "ctrecord.service", "ctrecord@*.service"
# For --netns: the path unit starts the service whenever the namespace exists.
NAMESPACE_PATH, NAMESPACE_UNIT = "ctrecord-netns@{}.path", "ctrecord-netns@{}.service"
SQUEEZE_TIMER, EXPIRE_TIMER = "ctsqueeze.timer", "ctexpire.timer"
SEALED_TIMER = "ctsqueeze-sealed.timer"
RESTARTS = "the recorder: it is restarted, with a gap of about a second"
_STARTS = "the recorder: it is started now"
_STARTS_AT_BOOT = "the recorder: it is also started at each boot"
_STARTS_FROM_NOW = "the recorder: it is started now and at each boot"


def look_at_settings(read: Configuration) -> Iterator[Finding]:
    """What is wrong in the file of settings, and what that stops."""
    stopped = {
        "record": "the recorder uses the last right value, or does not start without one",
        "squeeze": "nothing is squeezed",
        "expire": f"nothing is deleted, since {_changed(read.path)} at the latest",
        "seal": "the recorder uses the last right value, or does not start without one",
    }
    choices = {section: read.choose(section) for section in SECTIONS}
    for problem in read.problems:
        what = str(problem)
        effects = [
            stopped[section] for section, choice in choices.items() if what in choice.refusals
        ]
        lines = [line for choice in choices.values() for line in choice.notices]
        effects += [
            line.removeprefix(f"{what}; ") for line in lines if line.startswith(f"{what}; ")
        ]
        fix = f"fix the file, then: {CHECK}" + (
            "" if read.path == DEFAULT_PATH else f" -c {read.path}"
        )
        changes = "nothing: it reports what is still wrong. If nothing is, then: "
        changes += "systemctl reload ctrecord"
        yield Finding("; ".join(dict.fromkeys([what, *effects])), fix, changes)


def look_at_omission(settings: Mapping[str, Value]) -> Iterator[Note]:
    """What is left out on purpose, and which networks decide that."""
    if settings["omit"] is None:
        return
    why = "ctwho answers by address and port alone: it cannot tell anything with --to"
    yield Note("omit = remote: remote ends are not recorded", why)
    if not settings["inside"] and not own_networks(certain=True):
        yield Note(
            "omit = remote, inside is not set, and no network of this router is known as inside",
            "of a customer with a public address nobody is proved: name the networks in inside",
        )


def _changed(path: str) -> str:
    """When a file was changed, in local time."""
    try:
        changed = os.stat(path).st_mtime_ns
        return f"{times.text(changed, utc=False)[:19]} {times.offset(changed, utc=False)}"
    except OSError:
        return "an unknown time"


def look_at_unit(settings: dict[str, Value]) -> Iterator[Finding]:
    """If the recorder and all further recorders (ctrecord@NAME) run, with their capability."""
    if not doctor_tools.systemd_runs():
        if not _someone_listens():
            what = "no recorder runs: no process listens to connection events"
            yield Finding(what, "ctrecord", _STARTS)
        return
    main = doctor_tools.unit_properties(UNIT)
    if main.get("LoadState") != "loaded":
        if not _someone_listens():
            what = f"{UNIT} does not exist, and no process listens to connection events"
            fix = "apt-get --no-remove install ctrecorder"
            yield Finding(what, fix, "the packages: ctrecorder is installed, none is removed")
        return
    listed = doctor_tools.run_tool(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", INSTANCES
    )
    instances = [line.split()[0] for line in (listed or "").splitlines() if line.strip()]
    # With further recorders, the first may be switched off on purpose.
    if not instances or main["ActiveState"] != "inactive" or main["UnitFileState"] != "disabled":
        yield from _look_at_recorder(UNIT, main, settings)
    for unit in instances:
        yield from _look_at_recorder(unit, doctor_tools.unit_properties(unit), settings)


def look_at_namespace_unit(namespace: Namespace, settings: dict[str, Value]) -> Iterator[Finding]:
    """If a recorder runs in the namespace, and starts again if the namespace is created again."""
    listened = _someone_listens()
    if not doctor_tools.systemd_runs() or "/" in namespace.name:
        if not listened:
            what = f"no recorder runs in the network namespace {namespace.name}"
            yield Finding(what, f"ctrecord --netns {namespace.name}", _STARTS)
        return
    starter, unit = NAMESPACE_PATH.format(namespace.name), NAMESPACE_UNIT.format(namespace.name)
    started = doctor_tools.unit_properties(starter)
    shown = doctor_tools.unit_properties(unit)
    if started.get("ActiveState") != "active":
        # A recorder that was started by hand is enough.
        if not listened or shown.get("ActiveState") == "active":
            what = f"{starter} is off: no recorder is started for this network namespace"
            yield Finding(what, f"systemctl enable --now {starter}", _STARTS_FROM_NOW)
        return
    shown["UnitFileState"] = started.get("UnitFileState", "")
    yield from _look_at_recorder(unit, shown, settings, enable=starter)
    pid = shown.get("MainPID", "0")
    if shown.get("ActiveState") == "active" and not listened:
        what = f"the recorder (pid {pid}) does not listen in this network namespace: "
        what += "the namespace may have been created again"
        yield Finding(what, f"systemctl restart {unit}", RESTARTS)


def look_at_timers() -> Iterator[Finding]:
    """If segments are squeezed and deleted regularly."""
    if not doctor_tools.systemd_runs():
        return
    if _is_off(SQUEEZE_TIMER):
        changes = "the log: closed segments are rewritten in less space, each after a comparison"
        fix = f"systemctl enable --now {SQUEEZE_TIMER}"
        yield Finding(f"{SQUEEZE_TIMER} is off: segments stay large", fix, changes)
    if locate.any_key() and _is_off(SEALED_TIMER):
        what = f"{SEALED_TIMER} is off: segments with seals are squeezed late, and proved as late"
        fix = f"systemctl enable --now {SEALED_TIMER}"
        yield Finding(what, fix, "the log: closed segments with seals are squeezed in minutes")
    if _is_off(EXPIRE_TIMER):
        changes = "nothing: it lists what would be deleted. If that should be deleted, "
        changes += f"now and every hour: systemctl enable --now {EXPIRE_TIMER}"
        what = f"{EXPIRE_TIMER} is off: nothing is deleted"
        yield Finding(what, "ctexpire --dry-run", changes)


def _is_off(timer: str) -> bool:
    """If a timer is installed and not active."""
    shown = doctor_tools.unit_properties(timer)
    return shown.get("LoadState") == "loaded" and shown.get("ActiveState") != "active"


def _look_at_recorder(
    unit: str, shown: dict[str, str], settings: dict[str, Value], enable: str = ""
) -> Iterator[Finding]:
    """The findings about one recorder.

    `shown`: the properties of its unit.  `enable`: the unit that starts it, if it is another one.
    """
    enable = enable or unit
    if shown.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        what = f"{enable} is {shown.get('UnitFileState')}: nothing is recorded after the next boot"
        yield Finding(what, f"systemctl enable {enable}", _STARTS_AT_BOOT)
    if shown.get("ActiveState") == "active":
        yield from _look_at_process(unit, shown.get("MainPID", "0"), settings)
        return
    # systemd has no time for a unit that was not active since the boot.
    since = shown.get("ActiveExitTimestamp") or "the boot"
    nothing = f"nothing is recorded since {since}{doctor_tools.last_log_line(unit)}"
    if shown.get("SubState") == "auto-restart" or shown.get("ActiveState") == "activating":
        what = f"{unit} does not start, {shown.get('NRestarts')} attempts: {nothing}"
        yield Finding(what, f"fix the reported error, then: systemctl restart {unit}", _STARTS)
    else:
        what = f"{unit} is {shown.get('ActiveState')}: {nothing}"
        yield Finding(what, f"systemctl restart {unit}", _STARTS)


def _look_at_process(unit: str, pid: str, settings: dict[str, Value]) -> Iterator[Finding]:
    """If the running recorder has CAP_NET_ADMIN, without which it cannot dump the table."""
    try:
        status = privileges.status_of(pid)
    except OSError:
        return  # it ended in this moment: the next run sees it
    if settings["resync"] and not int(status["CapEff"], 16) >> privileges.CAP_NET_ADMIN & 1:
        what = f"the recorder (pid {pid}) lacks CAP_NET_ADMIN: "
        what += "it cannot recover connections that a loss hid"
        changes = "nothing: it shows which file removes it. Correct this file, then: "
        changes += f"systemctl daemon-reload && systemctl restart {unit}"
        yield Finding(what, f"systemctl cat {unit}", changes)


def _someone_listens() -> bool:
    """If a socket of this network namespace has joined the groups of new and ended connections."""
    both = 1 << (uapi.NFNLGRP_CONNTRACK_NEW - 1) | 1 << (uapi.NFNLGRP_CONNTRACK_DESTROY - 1)
    for line in Path("/proc/net/netlink").read_text("ascii").splitlines()[1:]:
        _, protocol, _, groups, *_ = line.split()
        if int(protocol) == uapi.NETLINK_NETFILTER and int(groups, 16) & both == both:
            return True
    return False
