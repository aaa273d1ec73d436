"""A stranger's first minute: the README's commands on a bare Debian, with apt, make and this clone.

Every other test machine has all packages: a package that a list of the Makefile lacks shows here
only.  The roots use this machine's network for apt.  Without it the tests fail.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.booted import BOOT, CHECKOUT, SUITES, boot_sh
from tests.support.router import wait_until

# What `make deb` may not bring: peers that only the tests and the benchmarks run.
PEERS = {
    "ulogd2",
    "conntrackd",
    "nfdump",
    "conntrack",
    "nftables",
    "mmdebstrap",
    "lintian",
    "python3-numpy",
    "python3-pytest",
}
KINDS = ("package", "requested", "enabled", "left")
# Prints the packages that are installed, those that were asked for, and what is enabled.
STATE = """
state() {
    echo "== $1"
    dpkg-query -W -f 'package ${Package}\n'
    apt-mark showmanual | sed 's/^/requested /'
    find /etc/systemd/system -type l -printf 'enabled %f\\n'
    find /etc/rc[2345].d -name 'S*' -printf 'enabled %f\\n' 2>/dev/null || true
    find /usr/sbin/policy-rc.d -printf 'left %p\\n' 2>/dev/null || true
}
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with tree/, which holds the files that git tracks, as they are now."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True
    ).stdout
    assert names, "git tracks nothing here: the tests need a clone"
    tree = tmp_path / "tree"
    tree.mkdir()
    packed = subprocess.run(
        ["tar", "--null", "-T", "-", "-c"],
        cwd=CHECKOUT,
        input=names,
        capture_output=True,
        check=True,
    ).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=packed, check=True)
    return tmp_path


def commands() -> list[str]:
    """The commands that README.md tells a stranger to run, in order."""
    text = (CHECKOUT / "README.md").read_text().partition("\n## See it\n")[2]
    return [
        line.split("  #")[0].strip() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    ]


def test_a_bare_root_that_is_killed_leaves_nothing(clone: Path) -> None:
    command = [BOOT, "bare", SUITES[0], "echo begun; sleep 1000"]
    environment = {**os.environ, "BIND": str(clone)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 1
        process.kill()
    wait_until(lambda: not Path(f"/proc/{children[0]}").exists(), "the end of all that ran there")
    assert str(clone) not in Path("/proc/self/mountinfo").read_text()


def facts(printed: str) -> dict[str, dict[str, set[str]]]:
    """What `state` printed: by the name of the state, then by kind of fact."""
    states: dict[str, dict[str, set[str]]] = {}
    for part in printed.split("== ")[1:]:
        name, *lines = part.splitlines()
        states[name] = {
            kind: {line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")}
            for kind in KINDS
        }
    return states


@pytest.mark.parametrize("suite", SUITES)
def test_the_first_command_of_the_readme(suite: str, clone: Path) -> None:
    """It ends with 0, lists eight connections, answers who it was, and finds the log whole."""
    first = commands()[0]
    assert first == "make demo"
    shown = boot_sh("bare", suite, f"cd /srv/tree && {first}", settings={"BIND": clone}).stdout
    assert re.findall(r"^(\d)\. ", shown, re.MULTILINE) == list("1234567")
    fifth = shown.partition("\n5. ")[2].partition("\n6. ")[0]
    assert (
        len(
            re.findall(
                r"^   [\d.]+ [\d:.]+ [\d.]+ [\d:.]+ kk\+ (?:tcp|udp|icmp|icmpv6) src=",
                fifth,
                re.MULTILINE,
            )
        )
        == 8
    )
    assert "dst=198.51.100.1:8080 src=192.168.1.80:80" in fifth
    assert re.search(r"^   ONE: 192\.168\.1\.100$", shown, re.MULTILINE)
    assert re.search(
        r"^   question +198\.51\.100\.1, port \d+, any protocol, any remote end$",
        shown,
        re.MULTILINE,
    )
    assert re.search(r"^   log .*: complete for that time$", shown, re.MULTILINE)
    assert "\n   1 segment checked: 1 whole, 0 damaged\n" in shown


@pytest.mark.parametrize(("suite", "manager"), [("bookworm", ""), ("trixie", "systemd")])
def test_make_deb_and_the_peers(suite: str, manager: str, clone: Path) -> None:
    """`make deb` brings what builds, no peer.  No installation enables a daemon.

    Packages enable their units by deb-systemd-helper, with systemctl where it is: `manager` brings
    it.  A root for each way takes half the time of both ways in both roots.
    """
    assert "make deb" in commands()
    script = f"""
        cd /srv/tree; state base; make deb; state deb
        tests/install-packages.sh {manager}; state ready
        tests/install-packages.sh ulogd2 conntrackd nfdump; state peers
        ls build"""
    shown = boot_sh("bare", suite, STATE + script, settings={"BIND": clone}).stdout
    states = facts(shown)
    control = (CHECKOUT / "debian" / "control").read_text()
    depends = control.partition("\nBuild-Depends:")[2].partition("\nStandards")[0]
    build = re.findall(r"^ ([a-z0-9.+-]+)", depends, re.MULTILINE)
    # A virtual package is marked by the name of the one that provides it.
    assert len(states["deb"]["requested"] - states["base"]["requested"]) <= len(build)
    assert not states["deb"]["package"] & PEERS
    assert re.search(r"^ctrecorder_\S+_all\.deb$", shown, re.MULTILINE)
    assert states["peers"]["package"] >= {"ulogd2", "conntrackd", "nfdump"}
    for earlier, later in (("base", "deb"), ("ready", "peers")):
        assert states[later]["enabled"] == states[earlier]["enabled"]
    assert not any(state["left"] for state in states.values()), "policy-rc.d stays on the machine"
