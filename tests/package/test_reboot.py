"""A router that is switched off and on: the recorder is there before the network, and the hole
between is in the log.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.service import messages
from tests.support.booted import LOGS, SUITES, Builds, Router
from tests.support.router import INSIDE, SERVER, Lab

ENTERED = "ActiveEnterTimestampMonotonic"
# What brings the network up, and is waited for by the whole boot, as cloud-init has it: whoever
# makes the recorder wait for the boot's usual targets makes a circle of it.
NETWORK = """[Unit]
DefaultDependencies=no
After=network-pre.target
Wants=network.target
Before=network.target sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true

[Install]
WantedBy=sysinit.target
"""


@pytest.fixture(params=SUITES)
def machine(
    request: pytest.FixtureRequest, builds: Builds, packages: dict[str, Path], tmp_path: Path
) -> Iterator[Router]:
    """A router with a disk, and the package on it."""
    try:
        with (
            Lab() as lab,
            Router(lab, request.param, builds.folder, ROOT=tmp_path / "root") as router,
        ):
            router.install(packages[router.suite])
            yield router
    finally:
        shutil.rmtree(tmp_path / "root", ignore_errors=True)


def test_a_reboot_closes_in_order_and_records_before_the_network_is_up(machine: Router) -> None:
    port = machine.lab.tcp(INSIDE, (SERVER, 25))
    machine.wait(lambda: machine.lines("-p", port), "the connection in the log")
    machine.run("tee", "/etc/systemd/system/net.service", stdin=NETWORK)
    machine.sh("systemctl enable net.service 2>&1")
    machine.switch_off()
    machine.switch_on()

    assert machine.sh("systemctl --failed --no-legend --plain") == ""
    assert "ordering cycle" not in machine.sh("journalctl --quiet --boot --output=cat _PID=1")
    entered = {
        unit: int(machine.show(unit, ENTERED)[ENTERED])
        for unit in ("ctrecord.service", "net.service", "sysinit.target")
    }
    assert 0 < entered["ctrecord.service"] < entered["net.service"] < entered["sysinit.target"]
    (started,) = machine.journal(f"MESSAGE_ID={messages.STARTED.id}", "--boot")
    assert started["_SYSTEMD_UNIT"] == "ctrecord.service"

    after = machine.lab.tcp(INSIDE, (SERVER, 25))
    machine.wait(lambda: machine.lines("-p", after), "a connection after the boot")
    gaps = machine.run("ctlist", "--format", "csv").stderr
    assert "stopped" in gaps, "closed in order, not crashed"
    assert machine.run("cttest", LOGS).returncode == 0
