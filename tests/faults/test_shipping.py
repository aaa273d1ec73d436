"""ctship over a real sshd and a real rsync daemon: each segment arrives exactly once, whatever is
killed, cut, full, damaged or started twice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from tests.support import unpacked
from tests.support.collector import ACCOUNTS, ROUTER, Collector
from tests.support.history import NOON, History, rows

CHAIN = "00c0ffee00c0ffee"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that all users can reach."""
    here = Path(tempfile.mkdtemp(prefix="ctship-test-", dir="/var/tmp"))
    here.chmod(0o755)
    yield here
    shutil.rmtree(here, ignore_errors=True)


@pytest.fixture
def site(place: Path) -> Iterator[Collector]:
    here = Path(tempfile.mkdtemp(dir=place))
    with Collector(here) as built:
        (here / "conf").write_text(f"[ship]\nssh_key = {built.key}\nrouter = edge1\n")
        yield built


def archive(folder: Path, segments: int, count: int = 50) -> list[Path]:
    """A chain of squeezed segments."""
    folder.mkdir()
    previous, paths = bytes(16), []
    for number in range(segments):
        path = folder / f"{number:04}.ctlog"
        header = Header(host="edge1", chain=CHAIN, sequence=number + 1)
        writer = SegmentWriter.create(
            str(path), header, previous, time_ns=NOON + number * count * 10**9
        )
        writer.append(rows(number * count, count))
        previous = writer.close()
        squeeze(str(path), SqueezeOptions())
        paths.append(path)
    return paths


def run(site: Collector, folder: Path, *arguments: object) -> tuple[int, str]:
    return site.ctship("-c", site.here / "conf", *arguments, folder)


def arrived(root: Path) -> list[tuple[str, bytes]]:
    """Name and contents of each segment of all routers below a target."""
    found = [path for path in root.glob("*/*/*") if not path.parent.name.startswith(".")]
    return sorted(
        (str(path.relative_to(root)), path.read_bytes()) for path in found if path.is_file()
    )


def once(paths: list[Path], root: Path) -> bool:
    """Whether exactly these segments are there, each once and with its bytes."""
    return sorted(data for _, data in arrived(root)) == sorted(path.read_bytes() for path in paths)


def test_each_segment_arrives_once_at_each_target(site: Collector) -> None:
    folder = site.here / "log"
    paths = archive(folder, 5)
    both = ("--to", site.ssh, "--to", site.daemon)
    code, said = run(site, folder, *both, "--dry-run")
    assert (code, said.count("would ship")) == (0, 10)
    assert arrived(site.folder) == arrived(site.module / "all") == []
    code, said = run(site, folder, *both)
    assert code == 0, said
    assert said.count("checked there\n") == 10
    assert said.count("copied, not checked there\n") == 5
    assert once(paths, site.folder)
    assert once(paths, site.module / "all")
    names = [name for name, _ in arrived(site.folder)]
    assert [name.partition("-")[0] for name in names] == [
        f"edge1/{CHAIN}/{number:08}" for number in range(1, 6)
    ]
    assert run(site, folder, *both) == (0, "")
    code, said = run(site, folder, *both, "--status")
    assert " bytes: 5 checked there\n" in said
    assert " bytes: 5 copied\n" in said
    assert said.count("waiting: 0 segments") == 2


def test_oldest_first_and_what_is_noted_is_lost_without_harm(site: Collector) -> None:
    folder = site.here / "log"
    paths = archive(folder, 3)
    code, said = run(site, folder, "--to", site.ssh)
    order = [line.split()[2] for line in said.splitlines()]
    assert (code, order) == (0, list(map(str, paths)))
    (folder / "ctship.shipped").unlink()
    before = {path: path.stat().st_ino for path in site.folder.glob("*/*/*.ctlog")}
    code, said = run(site, folder, "--to", site.ssh)
    assert (code, said.count("checked there")) == (0, 3)
    assert {path: path.stat().st_ino for path in site.folder.glob("*/*/*.ctlog")} == before


@pytest.mark.parametrize("target", ["ssh", "daemon"])
def test_a_poisoned_segment_blocks_nothing(site: Collector, target: str) -> None:
    folder = site.here / "log"
    paths = archive(folder, 6)
    whole = [bytearray(path.read_bytes()) for path in paths]
    whole[1][len(whole[1]) // 2] ^= 1
    paths[1].write_bytes(whole[1])
    paths[3].write_bytes(b"\xc7CTB" + os.urandom(500))
    root = site.folder if target == "ssh" else site.module / "all"
    to = getattr(site, target)
    for _ in range(2):
        code, said = run(site, folder, "--to", to)
        assert code == 2, said
        assert f"{paths[1]}: not shipped to {to}: damaged here" in said
        assert str(paths[3]) in said
        assert once([paths[number] for number in (0, 2, 4, 5)], root)
    code, said = run(site, folder, "--to", to, "--status")
    assert "waiting: 1 segment" in said
    assert f"refused: {paths[1]}: damaged here" in said


def test_a_target_that_finds_damage_refuses_that_segment_alone(site: Collector) -> None:
    """cttest there decides: here it says no to one of them."""
    folder, bin_there = site.here / "log", site.here / "bin"
    paths = archive(folder, 4)
    bin_there.mkdir()
    (bin_there / "cttest").write_text(
        '#!/bin/sh\ncase "$*" in *00000002-*) echo "is rotten\033[2J"; exit 1;; esac\n'
    )
    (bin_there / "cttest").chmod(0o755)
    line = (site.here / "key.pub").read_text()
    site.allow("ship", f'command="PATH={bin_there}:$PATH; eval \\"$SSH_ORIGINAL_COMMAND\\"" {line}')
    code, said = run(site, folder, "--to", site.ssh)
    assert code == 1
    assert f"{paths[1]}: not shipped to {site.ssh}: cttest there: is rotten" in said
    assert "\033" not in said
    assert once([paths[0], *paths[2:]], site.folder)
    assert list((site.folder / "edge1" / ".ctship").rglob("*.ctlog")) == []


@pytest.mark.beside
def test_kill_9_at_random_points(site: Collector) -> None:
    """The run is killed after random times until one ends by itself; then all is there once."""
    folder = site.here / "log"
    paths = archive(folder, 40, 2000)
    chance, kills = random.Random(15), 0
    both = ("--to", site.ssh, "--to", site.daemon)
    while kills < 12:
        running = site.start_ctship("-c", site.here / "conf", *both, folder)
        time.sleep(chance.uniform(0.4, 3.0))
        if running.poll() is not None:
            running.communicate()
            (folder / "ctship.shipped").unlink()  # all over again
        else:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
            kills += 1
        for root in (site.folder, site.module / "all"):
            contents = {path.read_bytes() for path in paths}
            assert all(data in contents for name, data in arrived(root) if "/." not in name)
    for _ in range(2):
        code, said = run(site, folder, *both)
        assert code == 0, said
    assert once(paths, site.folder)
    assert [one for one in arrived(site.module / "all") if "/." not in one[0]] == arrived(
        site.folder
    )
    assert noted(folder) == {(to, path.name) for to in (site.ssh, site.daemon) for path in paths}


def noted(folder: Path) -> set[tuple[str, str]]:
    """Target and segment of all that was acknowledged."""
    file = folder / "ctship.shipped"
    lines = file.read_text().splitlines() if file.exists() else []
    return {(one["to"], one["path"]) for one in map(json.loads, filter(None, lines)) if one["how"]}


def test_started_twice_each_segment_is_sent_once(site: Collector) -> None:
    folder = site.here / "log"
    paths = archive(folder, 20, 1000)
    running = [
        site.start_ctship("-c", site.here / "conf", "--to", site.ssh, folder) for _ in range(3)
    ]
    said = [each.communicate(timeout=120)[1] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0]
    assert sum(one.count("shipped ") for one in said) == 20
    assert sum("another ctship sends these segments" in one for one in said) == 2
    assert once(paths, site.folder)


@pytest.mark.beside
def test_the_line_is_cut_and_mended(site: Collector) -> None:
    """A run whose line is cut does not end as if it had shipped; the next one goes on."""
    folder = site.here / "log"
    paths = archive(folder, 10, 20_000)
    running = site.start_ctship(
        "-c", site.here / "conf", "--to", site.ssh, "--bandwidth", "200K", folder
    )
    time.sleep(3)
    site.cut()
    out, err = running.communicate(timeout=200)
    assert running.returncode == 2, out + err
    assert "the rest waits" in err
    assert arrived(site.folder) == []
    site.mend()
    code, said = run(site, folder, "--to", site.ssh)
    assert code == 0, said
    assert once(paths, site.folder)


def test_a_target_that_is_away_keeps_nothing_from_the_other(site: Collector) -> None:
    folder = site.here / "log"
    paths = archive(folder, 2)
    away = f"ssh://ship@192.0.2.77:{site.folder}"
    code, said = run(site, folder, "--to", away, "--to", site.daemon)
    assert code == 2
    assert away in said
    assert "the rest waits" in said
    assert once(paths, site.module / "all")


def test_the_disk_of_the_target_is_full(place: Path) -> None:
    here = Path(tempfile.mkdtemp(dir=place))
    folder, central = here / "log", here / "central"
    paths = archive(folder, 6, 30_000)
    size = sum(path.stat().st_size for path in paths)
    central.mkdir()
    options = f"size={size // 2}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", central], check=True)
    try:
        with Collector(here) as site:
            fill(site, folder, paths, size)
    finally:
        subprocess.run(["umount", "-l", central], check=True)


def fill(site: Collector, folder: Path, paths: list[Path], size: int) -> None:
    (site.here / "conf").write_text(f"[ship]\nssh_key = {site.key}\nrouter = edge1\n")
    code, said = run(site, folder, "--to", site.ssh)
    assert code == 2
    # rsync's own message is lost with the connection now and then.
    assert "No space left on device" in said or "is the disk full?" in said
    contents = {path.read_bytes() for path in paths}
    assert all(data in contents for _, data in arrived(site.folder))
    assert len(noted(folder)) == len(arrived(site.folder)) < 6
    subprocess.run(["mount", "-o", f"remount,size={size * 4}", site.folder], check=True)
    code, said = run(site, folder, "--to", site.ssh)
    assert code == 0, said
    assert once(paths, site.folder)


def test_a_segment_that_is_squeezed_meanwhile(site: Collector) -> None:
    """With ship_raw: first as it was recorded, then in its place the squeezed one."""
    history = History(site.here / "log")
    folder, raw = history.folder, [path.read_bytes() for path in history.paths]
    assert run(site, folder, "--to", site.ssh) == (0, "")
    code, said = run(site, folder, "--to", site.ssh, "--ship-raw")
    assert (code, said.count("checked there")) == (0, 5)
    assert sorted(data for _, data in arrived(site.folder)) == sorted(raw)
    history.run("ctsqueeze", folder)
    code, said = run(site, folder, "--to", site.ssh, "--ship-raw")
    assert (code, said.count("checked there")) == (0, 5)
    assert once(history.paths, site.folder)


def test_what_a_router_with_rrsync_may_do(site: Collector) -> None:
    """It adds files; it cannot read, replace or delete what it or another router shipped."""
    folder, inbox = site.here / "log", site.here / "inbox"
    paths = archive(folder, 3)
    for name, key in (("edge1", "key1"), ("edge2", "key2")):
        (inbox / name).mkdir(parents=True)
        os.chown(inbox / name, ACCOUNTS[name], ACCOUNTS[name])
        (inbox / name).chmod(0o700)
        public = (site.here / f"{key}.pub").read_text()
        rrsync = f"umask 007; rrsync -wo -no-del -no-overwrite {inbox / name}"
        forced = f'restrict,command="{rrsync}"'
        site.allow(name, f"{forced} {public}")
    (site.here / "conf").write_text(f"[ship]\nssh_key = {site.here}/key1\nrouter = edge1\n")
    to = "rsync+ssh://edge1@192.0.2.2:."
    code, said = run(site, folder, "--to", to)
    assert (code, said.count("copied, not checked there")) == (0, 3), said
    assert once(paths, inbox / "edge1")
    modes = [path.stat().st_mode & 0o777 for path in (inbox / "edge1" / "edge1").rglob("")]
    assert modes == [0o770, 0o770]  # the group may clear it
    before = arrived(inbox / "edge1")
    name = before[0][0].removeprefix("edge1/")
    evil = site.here / "evil"
    (evil / CHAIN).mkdir(parents=True)
    (evil / name).write_bytes(b"nothing happened")
    shell = f"ssh -o BatchMode=yes -i {site.here}/key1"
    for words in (
        ["rsync", "-rt", "-e", shell, f"{evil}/", "edge1@192.0.2.2:edge1/"],
        ["rsync", "-rt", "--delete", "-e", shell, f"{evil}/", "edge1@192.0.2.2:edge1/"],
        ["rsync", "-rt", "--inplace", "-e", shell, f"{evil}/", "edge1@192.0.2.2:edge1/"],
        ["rsync", "-rt", "-e", shell, f"{evil}/", f"edge1@192.0.2.2:{inbox}/edge2/"],
        ["rsync", "-rt", "-e", shell, "edge1@192.0.2.2:edge1/", f"{site.here}/stolen/"],
        [*shell.split(), "edge1@192.0.2.2", f"rm -r {inbox}/edge1"],
    ):
        subprocess.run(
            site.command(ROUTER, *words),
            env=unpacked.environment(),
            capture_output=True,
            timeout=60,
        )
    assert arrived(inbox / "edge1") == before
    assert not (site.here / "stolen").exists()
    assert list((inbox / "edge2").rglob("*.ctlog")) == []


def test_a_target_without_ctrecorder_or_with_another_host_key(site: Collector) -> None:
    folder = site.here / "log"
    archive(folder, 1)
    line = (site.here / "key.pub").read_text()
    site.allow("ship", f'command="PATH=/usr/bin:/bin; exec sh -s" {line}')
    code, said = run(site, folder, "--to", site.ssh)
    assert code == 2
    assert "cttest is not installed there: the rest waits" in said
    (site.here / "etc-ssh" / "ssh_known_hosts").write_text("")
    code, said = run(site, folder, "--to", site.ssh)
    assert code == 2
    assert "Host key verification failed" in said
