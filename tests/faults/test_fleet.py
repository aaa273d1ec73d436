"""A question to many routers over a real sshd, and what the router logs of who asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import asked, unpacked
from tests.support.collector import HOST, ROUTER, Collector
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import SECOND, T


@pytest.fixture
def site() -> Iterator[Collector]:
    """The collector's sshd stands for that of a router; the clerk sits at the other end."""
    here = Path(tempfile.mkdtemp(prefix="ctship-test-", dir="/var/tmp"))
    here.chmod(0o755)
    with Collector(here) as built:
        (built.folder / "log").mkdir()
        for path in asked.record(built.folder / "log"):
            Path(path).chmod(0o644)
        # The name of the key that ssh finds by itself.
        (here / "etc-ssh" / "ssh_config").write_text(f"Host *\n  IdentityFile {built.key}\n")
        yield built
    shutil.rmtree(here)


def run(site: Collector, command: str, *arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        site.command(ROUTER, CHECKOUT / "bin" / command, *arguments),
        capture_output=True,
        text=True,
        timeout=100,
        env=unpacked.environment(),
    )
    return done.returncode, done.stdout, done.stderr


def test_one_question_by_ssh(site: Collector) -> None:
    fleet = site.here / "fleet"
    fleet.write_text(
        f"edge1 ssh://ship@{HOST}:{site.folder}/log\n"
        f"edge2 ssh://ship@192.0.2.77:/var/log\nedge3 ssh://root@{HOST}\n"
    )
    words = [f"{asked.PUBLIC}:40000", f"@{T // SECOND + 70}", "--fleet", fleet]
    code, out, _ = run(site, "ctwho", *words, "--format", "json", "--reason", "case 17; $(id)")
    answer = json.loads(out)
    assert (code, answer["verdict"]) == (3, "ONE KNOWN (not proved)"), answer["routers"]
    assert answer["why"] == "edge2, edge3 did not answer"
    assert [one["address"] for one in answer["persons"]] == ["10.0.0.5"]
    first, second, third = answer["routers"]
    assert first["answer"]["question"]["asked_by"] == "ship"
    assert "asked by root at " in first["answer"]["question"]["reason"]
    assert first["answer"]["question"]["reason"].endswith(": case 17; $(id)")
    assert "192.0.2.77" in second["failed"]
    assert "Permission denied" in third["failed"]
    fleet.write_text(f"edge1 ssh://ship@{HOST}:{site.folder}/log\n")
    code, out, _ = run(site, "ctwho", *words)
    assert code == 0, out
    assert out.startswith("ONE: 10.0.0.5, behind edge1\n")


def test_one_list_by_ssh(site: Collector) -> None:
    fleet = site.here / "fleet"
    mine = site.here / "mine"
    mine.mkdir()
    asked.record(mine, "10.0.0.7")
    fleet.write_text(f"edge1 ssh://ship@{HOST}:{site.folder}/log\nhere {mine}\n")
    code, out, err = run(site, "ctlist", "-s", "--fleet", fleet)
    assert (code, err) == (0, "")
    assert sorted(line.split()[0] for line in out.splitlines()) == ["edge1"] * 3 + ["here"] * 3
    site.cut()
    code, out, err = run(site, "ctlist", "-s", "--fleet", fleet)
    assert code == 2
    assert "edge1: its list is not whole" in err
    assert out.count("here ") == 3
