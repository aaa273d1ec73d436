"""A sealed recording on an installed router: the key in the units' StateDirectory, the timer that
squeezes, the sandbox of each user of the key.
"""

from __future__ import annotations

import json
from pathlib import Path

from ctrecorder.service import messages
from tests.package.attacker import GOING_ON
from tests.package.machine_attacks import MACHINE_ATTACKS
from tests.package.test_lifecycle import talk
from tests.support.attacks import ATTACKS
from tests.support.booted import LOGS, Router
from tests.support.claims import BY_NAME, LEVELS

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

    attacked(bare)


def attacked(router: Router) -> None:
    """Each attack of the tables, on what the units recorded, squeezed and logged: four squeezed
    segments, one that is not, and the last one.  The recorder is stopped; some attacks start it.
    """
    router.sh(
        f"systemctl stop ctrecord.service {TIMER}; rm -rf {LOGS}/*; journalctl -q --rotate; "
        "sleep 1.2; journalctl -q --vacuum-time=1s; useradd --groups ctrecorder writer; "
        "ctrecord --setup-seal --replace-key >/root/seal.key; systemctl start ctrecord.service"
    )
    for _ in range(3):
        talk(router)
        router.sh("sleep 1.2; systemctl reload ctrecord.service; sleep 0.5")
    for _ in range(2):  # each start begins an epoch
        router.run("systemctl", "start", JOB)
        # Segments of one second are not in the order of their names.
        router.sh("journalctl -q --rotate; sleep 1.1")
        router.restart()
        talk(router)
    router.run("ctexpire", "--hold", "--reason", "case 17")
    router.sh("sleep 1; systemctl stop ctrecord.service; sleep 0.5")
    first, second, third, *_, raw, last = router.sh(f"cd {LOGS}; ls *.ctlog").split()
    done = router.sh(
        "cd /srv/tree; /usr/bin/python3 -B -m tests.package.attacker "
        f"{LOGS} {STATE} /root/seal.key ctrecorder writer {first} {second} {third} {raw} {last}"
    )
    found = [json.loads(line) for line in done.splitlines()]
    names = [one.pop("attack") for one in found]
    assert names == ["", *ATTACKS, *MACHINE_ATTACKS, "", *GOING_ON]
    for name, code in zip(names, found, strict=True):
        more = {"goes_on": True} if code.get("goes_on") else {}
        wanted = {level: BY_NAME[name].verdict(level).code if name else 0 for level in LEVELS}
        assert (name, code) == (name, {**more, **wanted})
