"""--netns: ctrecord and cttest --doctor are started outside and work in a named namespace."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.kernel import netns
from ctrecorder.service import privileges
from tests.lab.test_refusals import NOBODY
from tests.support.links import NETNS
from tests.support.listeners import Recorder, listed
from tests.support.router import CHECKOUT, INSIDE, SERVER, Lab, Outside

CTRECORD, CTTEST = CHECKOUT / "bin/ctrecord", CHECKOUT / "bin/cttest"
USER = "nobody"


@pytest.fixture
def outside() -> Iterator[Outside]:
    made = Outside()
    yield made
    made.router.kill_spawned()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of USER's, at a path that is open to it."""
    made = Path(tempfile.mkdtemp(prefix="ctrec-netns-", dir="/var/tmp"))
    made.chmod(0o755)
    log = made / "log"
    log.mkdir()
    shutil.chown(log, USER)
    yield log
    shutil.rmtree(made)


def same_namespace(path: Path, other: Path) -> bool:
    return (path.stat().st_dev, path.stat().st_ino) == (other.stat().st_dev, other.stat().st_ino)


def refused(*command: object, code: int = 2) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("form", ["name", "path"])
def test_it_records_there_and_gives_up_root(
    lab: Lab, outside: Outside, folder: Path, form: str
) -> None:
    path = NETNS / lab.router.name
    recorder = Recorder(
        outside, folder, "--netns", path if form == "path" else lab.router.name, user=USER
    )
    process = Path("/proc", str(recorder.process.pid))
    assert same_namespace(process / "ns/net", path)
    assert not same_namespace(Path("/proc/self/ns/net"), path)
    status = privileges.status_of(recorder.process.pid)
    entry = pwd.getpwnam(USER)
    assert status["Uid"].split() == [str(entry.pw_uid)] * 4
    assert status["Gid"].split() == [str(entry.pw_gid)] * 4
    only = f"{1 << privileges.CAP_NET_ADMIN:016x}"
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == (only, only, "0" * 16)
    assert status["NoNewPrivs"] == "1"
    port = lab.tcp(INSIDE, (SERVER, 25))
    recorder.flush()
    assert "deleted or made anew" not in recorder.stop()
    assert port in {row["orig_sport"] for row in listed(folder)}


def test_commands_in_its_log_are_for_that_namespace(outside: Outside, folder: Path) -> None:
    with Lab(sysctls={"nf_conntrack_events": 2, "nf_conntrack_timestamp": 0}) as lab:
        log = Recorder(outside, folder, "--netns", lab.router.name, user=USER).stop()
        before = Path("/proc/sys/net/netfilter/nf_conntrack_timestamp").read_text()
        fixes = re.findall(r"; (ip netns exec .*)$", log, re.MULTILINE)
        assert len(fixes) == 2
        for fix in fixes:
            subprocess.run(fix, shell=True, check=True, capture_output=True)
        assert lab.router.sysctl_value("nf_conntrack_events") == 1
        assert lab.router.sysctl_value("nf_conntrack_timestamp") == 1
        assert Path("/proc/sys/net/netfilter/nf_conntrack_timestamp").read_text() == before


@pytest.mark.parametrize("anew", [False, True])
def test_it_ends_when_the_name_is_deleted_or_given_to_another(
    lab: Lab, outside: Outside, folder: Path, anew: bool
) -> None:
    recorder = Recorder(outside, folder, "--netns", lab.router.name, user=USER)
    port = lab.tcp(INSIDE, (SERVER, 25))
    recorder.flush()
    subprocess.run(["ip", "netns", "del", lab.router.name], check=True)
    if anew:
        subprocess.run(["ip", "netns", "add", lab.router.name], check=True)
    assert recorder.process.wait(timeout=10) == ExitCode.GONE
    named = f"ctrecord: the network namespace {lab.router.name} was deleted or made anew: ending"
    assert named in recorder.log.splitlines()
    assert re.search(r"^ctrecord: stopped; .* is closed$", recorder.log, re.MULTILINE)
    assert port in {row["orig_sport"] for row in listed(folder)}


def test_a_path_that_its_user_may_not_look_at_is_not_taken_for_gone(
    lab: Lab, outside: Outside, folder: Path
) -> None:
    """/proc/PID/ns/net of root's process: it could be seen only before root was given up."""
    sleeper = lab.router.spawn("sleep", 60)
    path = Path("/proc", str(sleeper.pid), "ns/net")
    while not same_namespace(path, NETNS / lab.router.name):
        pass  # setpriv and nsenter have not come to it yet
    recorder = Recorder(outside, folder, "--netns", path, user=USER)
    sport = lab.udp(INSIDE, (SERVER, 53))
    with pytest.raises(subprocess.TimeoutExpired):
        recorder.process.wait(timeout=2.5)
    recorder.flush()
    recorder.stop()
    assert sport in {row["orig_sport"] for row in listed(folder)}


def test_what_cannot_be_entered_is_one_line(lab: Lab, tmp_path: Path) -> None:
    template = tmp_path / "%s.ctlog"
    start = (CTRECORD, "-F", "-f", template, "--netns")
    line = refused(*start, "no-such-namespace")
    assert line.startswith("ctrecord: there is no network namespace no-such-namespace; there are: ")
    assert lab.router.name in line
    line = refused(*start, tmp_path / "none")
    assert line == f"ctrecord: there is no network namespace {tmp_path}/none"
    assert refused(*start, "/etc/passwd") == "ctrecord: /etc/passwd is not a network namespace"
    assert refused(*start, "/proc/self/ns/uts").endswith("/ns/uts is not a network namespace")
    os.mkfifo(tmp_path / "fifo")
    assert refused(*start, tmp_path / "fifo").endswith("fifo is not a network namespace")
    line = refused(*NOBODY, *start, lab.router.name)
    assert line == (
        f"ctrecord: cannot enter the network namespace /run/netns/{lab.router.name}: "
        "needs CAP_SYS_ADMIN; run as root"
    )
    assert refused(CTTEST, "--doctor", "--netns", "no-such-namespace").startswith(
        "cttest: there is no network namespace no-such-namespace; there are: "
    )
    line = refused(CTTEST, "--netns", lab.router.name)
    assert line == "cttest: --netns is for --doctor: segments are files"
    assert list(tmp_path.glob("*.ctlog")) == []


def test_without_any_namespace_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "FOLDER", "/no/such/folder")
    with pytest.raises(
        UsageError, match=r"^there is no network namespace x; /no/such/folder has none$"
    ):
        netns.enter("x")


def test_who_is_there_already_needs_no_right(lab: Lab) -> None:
    """As under systemd, which enters it before ctrecord starts."""
    code = (
        f"from ctrecorder.kernel import netns; print(netns.enter('{lab.router.name}').is_current())"
    )
    done = lab.router.run(
        "env", f"PYTHONPATH={CHECKOUT}", *NOBODY, "/usr/bin/python3", "-B", "-c", code
    )
    assert done.stdout == "True\n"


def test_the_doctor_looks_there_and_its_commands_fix_there(tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text(f"[record]\ntemplate = {tmp_path}/%s.ctlog\n")
    with Lab(asleep=True, sysctls={"nf_conntrack_events": 0}) as lab:
        base = "table ip q { chain p { type filter hook prerouting priority raw;"
        lab.router.run("nft", "-f", "-", stdin=f"{base} udp dport 53 notrack; }}; }}")

        def findings() -> dict[str, str]:
            command = [str(CTTEST), "--doctor", "--netns", lab.router.name, "-c", str(conf)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = re.findall(r"^(\S.*)\n    fix: (.*)$", done.stdout, re.MULTILINE)
            assert (done.returncode, done.stderr) == (1 if found else 0, "")
            return dict(found)

        inside = f"ip netns exec {lab.router.name} "
        before = findings()
        fixes = [fix for fix in before.values() if fix.startswith(inside)]
        assert [fix.split()[4] for fix in fixes] == ["sysctl", "sysctl", "nft"]
        assert len([what for what in before if "tracking is off" in what]) == 2
        nobody = f"no recorder runs in the network namespace {lab.router.name}"
        assert before[nobody] == f"ctrecord --netns {lab.router.name}"
        for fix in fixes:
            subprocess.run(fix, shell=True, check=True, capture_output=True)
        lab.router.run(
            "nft",
            "-f",
            "-",
            stdin=base.replace("table ip q", "table inet w") + " ct state new; }; }",
        )
        recorder = Recorder(lab, tmp_path / "log")
        after = findings()
        recorder.stop()
        assert not [what for what in before if what in after and "nf_" in what]
        # An operator's rule is shown, and stays.
        assert [what for what in before if what in after and "NOTRACK" in what]
        assert not [what for what in after if "tracking is off" in what or what == nobody]


def test_the_names_are_completed(lab: Lab) -> None:
    for line in (
        f"ctrecord --netns {lab.router.name[:-3]}",
        f"cttest --netns {lab.router.name[:-3]}",
    ):
        query = {
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "PATH": f"{CHECKOUT}/bin:{os.environ['PATH']}",
        }
        command = ["sh", "-c", f"exec {line.split()[0]} 8>&1 9>&2 >/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True, env=query, check=False)
        assert done.stdout.split() == [lab.router.name]
