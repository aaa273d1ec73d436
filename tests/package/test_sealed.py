"""A sealed recording on an installed router: the key in the units' StateDirectory, the timer that
squeezes, the sandbox of each user of the key.
"""

from __future__ import annotations

import json
from pathlib import Path

from ctrecorder.service import messages
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
    """Each attack that a process alone can make, on what the units recorded, squeezed and logged:
    four squeezed segments, one that is not, and the last one.  The recorder is stopped.
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
        router.sh("sleep 1.1")  # segments of one second are not in the order of their names
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
    assert [one.pop("attack") for one in found] == ["", *ATTACKS]
    whole, *codes = found
    assert set(whole.values()) == {0}
    for name, code in zip(ATTACKS, codes, strict=True):
        wanted = {level: BY_NAME[name].verdict(level).code for level in LEVELS}
        assert (name, code) == (name, wanted)
