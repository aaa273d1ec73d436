"""From the version before through an upgrade to purge: nothing is lost but at purge, and the
shortest gap is in the log.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from ctrecorder.service import messages
from tests.support.booted import LOGS, SUITES, Builds, Router
from tests.support.router import INSIDE, SERVER

CONF = "/etc/ctrecorder/ctrecorder.conf"
# From the last event that the old recorder can have seen to the first that the new one sees.
MOST_GAP_SECONDS = 3.0


def older(builds: Builds, package: Path) -> Path:
    """The same package as version 0.9-1, with another conffile: what a release before would be."""
    target = builds.folder / "older" / f"{package.parent.name}.deb"
    target.parent.mkdir(exist_ok=True)
    script = """
        rm -rf work; dpkg-deb -R "$1" work
        sed -i 's/^Version: .*/Version: 0.9-1/' work/DEBIAN/control
        echo '# an older release' >>work/etc/ctrecorder/ctrecorder.conf
        sum=$(md5sum <work/etc/ctrecorder/ctrecorder.conf | cut -d' ' -f1)
        conf=etc/ctrecorder/ctrecorder.conf
        sed -i "s,^[0-9a-f]*  $conf,$sum  $conf," work/DEBIAN/md5sums
        dpkg-deb --root-owner-group -b work "$2" >/dev/null; rm -rf work"""
    subprocess.run(
        ["sh", "-eu", "-c", script, "sh", package, target], cwd=target.parent, check=True
    )
    return target


def destroyed(router: Router) -> set[object]:
    """Source ports of the connections that ended."""
    return {
        one["orig_sport"]
        for one in map(json.loads, router.lines("--format", "json", "--event", "destroy"))
    }


def talk(router: Router) -> int:
    """A connection, begun and ended; its source port."""
    port = router.lab.tcp(INSIDE, (SERVER, 25))
    router.lab.flush()
    return port


def test_upgrade_keeps_everything_and_records_its_gap(
    bare: Router, builds: Builds, packages: dict[str, Path]
) -> None:
    # The version before comes from the other release: a router's Debian is upgraded too.
    other = next(suite for suite in SUITES if suite != bare.suite)
    bare.install(older(builds, packages[other]))
    bare.sh(f"sed -i 's/^#rotate = 60/rotate = 30/' {CONF}")
    bare.run(
        "tee",
        "/etc/ctrecorder/udp.conf",
        stdin=f"[record]\ntemplate = {LOGS}/udp-%s.ctlog\nprotocols = udp\n",
    )
    bare.sh("systemctl restart ctrecord.service; systemctl enable --now ctrecord@udp.service 2>&1")
    before = talk(bare)
    bare.wait(lambda: before in destroyed(bare), "the connection before the upgrade")
    first, further = bare.pid(), bare.pid("ctrecord@udp.service")

    asked = bare.run(
        "apt-get", "install", "-y", f"/srv/{bare.suite}/{packages[bare.suite].name}", stdin="N\n"
    )
    assert "Configuration file '/etc/ctrecorder/ctrecorder.conf'" in asked.stdout, (
        "a conffile that both sides changed is asked for"
    )
    assert "rotate = 30" in bare.run("cat", CONF).stdout
    assert first != bare.pid() != "0"
    assert further != bare.pid("ctrecord@udp.service") != "0"

    after = talk(bare)
    bare.wait(lambda: {before, after} <= destroyed(bare), "both connections in the log")
    gaps = bare.run("ctlist", "--format", "csv").stderr
    assert re.search(r"not recording|stopped", gaps), gaps
    starts = bare.journal(f"MESSAGE_ID={messages.STARTED.id}", "_SYSTEMD_UNIT=ctrecord.service")
    stops = bare.journal(f"MESSAGE_ID={messages.STOPPED.id}", "_SYSTEMD_UNIT=ctrecord.service")
    gap = (int(starts[-1]["__REALTIME_TIMESTAMP"]) - int(stops[-1]["__REALTIME_TIMESTAMP"])) / 1e6
    print(f"{bare.suite}: the upgrade's gap is {gap:.2f} s")
    assert 0 < gap < MOST_GAP_SECONDS
    assert bare.run("cttest", LOGS).returncode == 0


def test_remove_keeps_the_segments_and_purge_takes_all(
    bare: Router, packages: dict[str, Path]
) -> None:
    bare.install(packages[bare.suite])
    talk(bare)
    bare.sh("cp /etc/ctrecorder/ctrecorder.conf /etc/ctrecorder/all.conf")
    bare.sh(
        "sed -i 's/^#template = .*/template = \\/var\\/log\\/ctrecorder\\/all-%s.ctlog/' "
        "/etc/ctrecorder/all.conf"
    )
    bare.sh("systemctl enable --now ctrecord@all.service ctrecord-netns@blue.path 2>&1")
    segments = bare.sh(f"ls {LOGS}").split()
    assert len(segments) >= 2

    bare.run("apt-get", "remove", "-y", "ctrecorder")
    assert bare.sh(f"ls {LOGS}").split() == segments
    assert bare.sh("pgrep -c ctrecord", check=False).strip() == "0", (
        "no recorder is left running, the further one neither"
    )
    assert bare.show("ctrecord-netns@blue.path", "ActiveState")["ActiveState"] == "inactive"
    assert bare.sh("ls /etc/ctrecorder").split() == ["all.conf", "ctrecorder.conf"]
    # Installed again, it goes on where it was, in the same chain.
    bare.install(packages[bare.suite])
    assert bare.show("ctrecord.service", "ActiveState")["ActiveState"] == "active"
    assert bare.run("cttest", LOGS).returncode == 0

    bare.run("apt-get", "purge", "-y", "ctrecorder")
    left = (
        "/var/log/ctrecorder /var/lib/ctrecorder /etc/ctrecorder "
        "/usr/lib/python3/dist-packages/ctrecorder "
        "/var/lib/systemd/timers/stamp-ctsqueeze.timer "
        "/var/lib/systemd/timers/stamp-ctship.timer"
    )
    assert bare.sh(f"ls -d {left} 2>/dev/null", check=False) == ""
    assert (
        bare.sh(
            "find /etc/systemd /usr/lib/systemd /var/lib/systemd/deb-systemd-helper-enabled -name "
            "'ct[res][!l]*'"
        )
        == ""
    )
    assert bare.sh("systemctl --failed --no-legend --plain") == ""


def test_a_purge_keeps_what_is_under_a_hold(bare: Router, packages: dict[str, Path]) -> None:
    bare.install(packages[bare.suite])
    # The clock of a container is that of its host, which may not be synchronised.
    bare.sh(f"sed -i 's/^#trust_clock = .*/trust_clock = yes/' {CONF}")
    talk(bare)
    bare.run("ctexpire", "--hold", "--until", "now", "--reason", "case 17")
    bare.sh("sleep 1; systemctl restart ctrecord.service")
    bare.run("ctexpire", "--hold", "--since", "2200-01-01", "--reason", "empty")
    held = bare.run("ctexpire", "--held").stdout.split()
    segments = bare.sh(f"ls -d {LOGS}/*.ctlog").split()
    assert set(held) < set(segments), "the second segment is under no hold"
    said = bare.run("apt-get", "purge", "-y", "ctrecorder")
    assert f"holds of ctexpire(8) keep segments in {LOGS}" in said.stdout + said.stderr
    assert bare.sh(f"ls -d {LOGS}/*.ctlog").split() == held
    assert bare.sh(f"stat -c '%U %G %a' {LOGS}").split() == ["ctrecorder", "ctrecorder", "750"]
    assert bare.sh("ls -d /var/lib/ctrecorder 2>/dev/null", check=False) == ""
    bare.install(packages[bare.suite])
    assert "case 17" in bare.run("ctexpire", "--holds").stdout


def test_a_downgrade_works_and_keeps_the_segments(
    bare: Router, builds: Builds, packages: dict[str, Path]
) -> None:
    bare.install(packages[bare.suite])
    port = talk(bare)
    bare.wait(lambda: port in destroyed(bare), "the connection in the log")
    said = bare.run(
        "apt-get",
        "install",
        "-y",
        "--allow-downgrades",
        f"/srv/older/{older(builds, packages[bare.suite]).name}",
    ).stdout
    assert "dpkg: warning: downgrading ctrecorder" in said or "downgrading" in said
    assert bare.show("ctrecord.service", "ActiveState")["ActiveState"] == "active"
    assert port in destroyed(bare)
