"""A sealed recording on an installed router: the key in the units' StateDirectory, the timer that
squeezes, the sandbox of each user of the key.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.service import messages
from tests.package.test_lifecycle import talk
from tests.support.booted import LOGS, Router

STATE = "/var/lib/ctrecorder/ctrecorder"
TIMER, JOB = "ctsqueeze-sealed.timer", "ctsqueeze-sealed.service"
COPY = "/tmp/copy"
AS_RECORDER = ("setpriv", "--reuid=ctrecorder", "--regid=ctrecorder", "--init-groups", "--")
# What the recorder's user does to a squeezed segment.
ATTACKER = """
import os, sys
from dataclasses import replace
from ctrecorder.archive import chain
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
attack, path = sys.argv[1:]
if attack == "removed":
    os.unlink(path)
elif attack == "cut":
    with Segment(path) as old:
        end = old.footer_at
    os.truncate(path, end)
elif attack == "slipped-in":
    SegmentWriter.create(path + ".slipped", Header(legacy={})).close()
else:
    with Segment(path) as old:
        header = replace(old.header, replaces=chain.successor(old), squeezed={}, seals=None)
        new = SegmentWriter.create(path + ".new", header, old.previous_hash)
    new.close()
    os.rename(new.path, path)
"""
# The exit code of cttest, and what it says, by the attack.
FOUND = {
    "removed": (1, "is not here"),
    "cut": (1, "damaged"),
    "replaced": (1, "its end in epoch "),
    "slipped-in": (2, "imported: proves nothing: 2 files"),
}


@pytest.mark.claim("removed")
@pytest.mark.claim("cut")
@pytest.mark.claim("replaced")
@pytest.mark.claim("slipped-in")
@pytest.mark.claim("hold")
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

    # An intruder with the uid of the recorder, in a copy: what the journal has is out of reach.
    [entry] = bare.journal(*squeezed)
    for attack, (code, told) in FOUND.items():
        bare.sh(f"rm -rf {COPY}; cp -a {LOGS} {COPY}")
        path = entry["CTRECORDER_PATH"].replace(LOGS, COPY)
        bare.run(*AS_RECORDER, "/usr/bin/python3", "-c", ATTACKER, attack, path)
        for anchors in ([], ["--anchors", "journal"]):
            done = bare.run("cttest", "--seals", *anchors, COPY, stdin=key, check=False)
            assert (done.returncode, told in done.stdout) == (code, True), done.stdout

    # An intruder who is root.
    bare.sh(f"sed -i 's/case 17/case 71/' {LOGS}/ctexpire.holds")
    done = bare.run("cttest", "--seals", stdin=key, check=False)
    assert done.returncode == 1
    assert "hold 1 was removed or changed" in done.stdout
