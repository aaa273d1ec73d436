"""A sealed recording on an installed router: the key in the units' StateDirectory, the timer that
squeezes, the sandbox of each user of the key.
"""

from __future__ import annotations

from pathlib import Path

from ctrecorder.service import messages
from tests.package.test_lifecycle import talk
from tests.support.booted import LOGS, Router

STATE = "/var/lib/ctrecorder/ctrecorder"
TIMER, JOB = "ctsqueeze-sealed.timer", "ctsqueeze-sealed.service"


def test_a_router_is_sealed(bare: Router, packages: dict[str, Path]) -> None:
    bare.install(packages[bare.suite])
    shown = bare.show(TIMER, "ActiveState", "UnitFileState")
    assert shown == {"ActiveState": "inactive", "UnitFileState": "enabled"}, "there is no key"
    talk(bare)

    key = bare.run("ctrecord", "--setup-seal").stdout
    bare.sh(f"systemctl restart ctrecord.service; systemctl start {TIMER}")
    assert bare.show(TIMER, "ActiveState")["ActiveState"] == "active"
    owners = bare.sh(f"stat -c '%U %a' {STATE} {STATE}/key {LOGS}/seal-*.ledger").splitlines()
    assert owners == ["ctrecorder 700", "ctrecorder 600", "ctrecorder 640"]

    talk(bare)
    bare.sh("sleep 1.2; systemctl reload ctrecord.service; sleep 1")  # another name of a segment
    bare.run("systemctl", "start", JOB)
    squeezed = (f"MESSAGE_ID={messages.SQUEEZED.id}", f"_SYSTEMD_UNIT={JOB}")
    bare.wait(lambda: len(bare.journal(*squeezed)) == 1, "a segment squeezed by the sealed job")
    bare.run("ctexpire", "--hold", "--reason", "case 17")
    bare.run("systemctl", "start", "ctexpire.service", "ctsqueeze.service")
    assert bare.journal(f"MESSAGE_ID={messages.SEAL_FAILED.id}") == []

    done = bare.run("cttest", "--seals", stdin=key, check=False)
    said = done.stdout + done.stderr
    # What was recorded before the key was made is not sealed, and nothing else is missing.
    assert done.returncode == 2, said
    assert "imported: proves nothing: 1 file" in said
    assert "seals: " not in said
    assert "sealed late" not in said
    assert "check on another one" in said

    # An intruder who is root.
    bare.sh(f"sed -i 's/case 17/case 71/' {LOGS}/ctexpire.holds")
    done = bare.run("cttest", "--seals", stdin=key, check=False)
    assert done.returncode == 1
    assert "hold 1 was removed or changed" in done.stdout
