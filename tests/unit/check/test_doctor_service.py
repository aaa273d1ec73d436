"""The doctor's look at services, on this machine's kernel and on replies of systemctl."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ctrecorder import uapi
from ctrecorder.check import doctor_service, doctor_tools
from ctrecorder.sealing import locate
from ctrecorder.service import privileges, settings

RECORD = {one.name: one.parse(one.default) for one in settings.SECTIONS["record"].settings}


def test_a_process_that_listens_is_seen_in_the_kernels_list() -> None:
    assert not doctor_service._someone_listens()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER) as listener:
        listener.bind((0, 0))
        new, destroy = uapi.NFNLGRP_CONNTRACK_NEW, uapi.NFNLGRP_CONNTRACK_DESTROY
        listener.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, new)
        assert not doctor_service._someone_listens(), "new ones alone are half a record"
        listener.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, destroy)
        assert doctor_service._someone_listens()


def test_a_recorder_without_its_capability_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    look = doctor_service._look_at_process
    assert list(look("ctrecord.service", str(os.getpid()), RECORD)) == []
    monkeypatch.setattr(privileges, "status_of", lambda pid: {"CapEff": "0" * 16})
    (finding,) = look("ctrecord@x.service", "4711", RECORD)
    assert finding.what.startswith("the recorder (pid 4711) lacks CAP_NET_ADMIN")
    assert finding.fix == "systemctl cat ctrecord@x.service", "an operator's drop-in stays"
    without = {**RECORD, "resync": False}
    assert list(look("ctrecord@x.service", "4711", without)) == [], "without resync it needs none"


def test_the_timer_that_deletes_is_not_simply_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be off on purpose, and would delete at once."""
    states = {"ctsqueeze.timer": "inactive", "ctexpire.timer": "inactive"}
    monkeypatch.setattr(doctor_tools, "systemd_runs", lambda: True)
    monkeypatch.setattr(
        doctor_tools,
        "unit_properties",
        lambda unit: {"LoadState": "loaded", "ActiveState": states[unit]},
    )
    squeeze, expire = doctor_service.look_at_timers()
    assert squeeze.fix == "systemctl enable --now ctsqueeze.timer"
    assert expire.what == "ctexpire.timer is off: nothing is deleted"
    assert expire.fix == "ctexpire --dry-run"
    assert "systemctl enable --now ctexpire.timer" in expire.changes
    states.update(dict.fromkeys(states, "active"))
    assert list(doctor_service.look_at_timers()) == []


def test_a_sealed_recording_is_squeezed_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    states = {"ctsqueeze-sealed.timer": "inactive"}
    monkeypatch.setattr(doctor_tools, "systemd_runs", lambda: True)
    monkeypatch.setattr(
        doctor_tools,
        "unit_properties",
        lambda unit: {"LoadState": "loaded", "ActiveState": states.get(unit, "active")},
    )
    monkeypatch.setattr(locate, "DEFAULT_ROOT", str(tmp_path))
    assert list(doctor_service.look_at_timers()) == []
    (tmp_path / "ctrecorder").mkdir()
    assert list(doctor_service.look_at_timers()) == []
    (tmp_path / "ctrecorder" / "key").touch()
    (finding,) = doctor_service.look_at_timers()
    assert finding.fix == "systemctl enable --now ctsqueeze-sealed.timer"
    states["ctsqueeze-sealed.timer"] = "active"
    assert list(doctor_service.look_at_timers()) == []


@pytest.mark.parametrize(
    ("omit", "inside", "own", "said"),
    [
        (None, (), [], []),
        ("remote", ("192.0.2.0/24",), [], ["remote ends are not recorded"]),
        ("remote", (), ["192.0.2.0/24"], ["remote ends are not recorded"]),
        ("remote", (), [], ["remote ends are not recorded", "inside is not set"]),
    ],
)
def test_what_is_left_out_on_purpose_is_noted(
    monkeypatch: pytest.MonkeyPatch,
    omit: str | None,
    inside: tuple[str, ...],
    own: list[str],
    said: list[str],
) -> None:
    monkeypatch.setattr(doctor_service, "own_networks", lambda certain: own)
    found = list(doctor_service.look_at_omission({"omit": omit, "inside": inside}))
    assert len(found) == len(said)
    assert all(text in note.what for text, note in zip(said, found, strict=True))
