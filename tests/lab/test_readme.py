"""What README.md shows is true: its commands run, its links lead somewhere, its make targets exist;
and so does `make demo`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.links import NETNS
from tests.support.listeners import Recorder, ctlist
from tests.support.router import (
    CHECKOUT,
    INSIDE,
    INSIDE6,
    NAME,
    SERVER,
    SERVER6,
    Lab,
    wait_until,
)

README = (CHECKOUT / "README.md").read_text()
# Lines set off as code, without their comments.
CODE = [line.split("  #")[0].strip() for line in README.splitlines() if line.startswith("    ")]


def commands(name: str) -> list[str]:
    found = [line for line in CODE if line.split()[0] == name]
    assert found, f"README shows no {name}"
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small archive, with something for each question."""
    folder = tmp_path_factory.mktemp("readme")
    with Lab() as lab:
        recorder = Recorder(lab, folder / "log")
        lab.tcp(INSIDE, (SERVER, 443))
        lab.tcp(INSIDE6, (SERVER6, 443))
        lab.flush()
        recorder.flush()
        recorder.stop()
    return folder / "log"


@pytest.mark.parametrize("line", [*commands("ctlist"), *commands("ctwho"), *commands("cttest")])
def test_commands_run(log: Path, line: str) -> None:
    """On an archive instead of /var/log/ctrecorder; what one line writes, another one reads.

    The date in the README is long past: nobody is proved then, which is 3.
    """
    name, *arguments = shlex.split(line)
    checks = "--verify" in arguments
    asks = name == "ctwho" and not checks
    where = [] if checks else ["-d", str(log)] if asks else [str(log)]
    command = [str(CHECKOUT / "bin" / name), *arguments, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=log.parent)
    assert done.returncode == (3 if asks else 0), done.stderr


@pytest.mark.parametrize("line", commands("ctrecord"))
def test_recording_by_hand(lab: Lab, tmp_path: Path, line: str) -> None:
    """As shown, but into a folder of the test's own."""
    arguments = [word.replace("/tmp/", f"{tmp_path}/") for word in shlex.split(line)[1:]]
    stderr = tmp_path / "stderr"
    recorder = lab.router.spawn(CHECKOUT / "bin/ctrecord", *arguments, stderr=stderr)
    wait_until(lambda: "recording to" in stderr.read_text(), "ctrecord recording")
    recorder.terminate()
    assert recorder.wait(timeout=20) == 0


def test_the_line_that_is_explained(log: Path) -> None:
    """It has the form of those that ctlist prints."""
    (example,) = [line for line in CODE if " src=" in line]
    shape = re.compile(
        r"[\d.]+ [\d:.]+ [SE][+ ] \w+ +src=\S+:\d+ dst=\S+:\d+ src=\S+:\d+ dst=\S+:\d+"
    )
    assert shape.fullmatch(example)
    lines = ctlist(log).stdout.splitlines()
    assert len(lines) == 4
    assert all(shape.fullmatch(line) for line in lines)


# The question, the verdict, and the person.
ANSWER_LINES = 5


def without_numbers(line: str) -> str:
    """A command or an answer, with its times and its ephemeral port blanked."""
    line = re.sub(r"\d{4}[-.]\d\d[-.]\d\d \d\d:\d\d:\d\d(\.\d{6})?", "TIME", line)
    return re.sub(r"(?<=198\.51\.100\.1:|.inside port )\d+", "PORT", line)


def the_answer() -> list[str]:
    """The question and the answer at the top of README.md, as `make demo` prints them, without
    numbers.
    """
    at = next(number for number, line in enumerate(CODE) if line.startswith("$ ctwho"))
    return [without_numbers(line) for line in CODE[at : at + ANSWER_LINES]]


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (CHECKOUT / target).is_file(), target


def test_make_targets() -> None:
    for line in [*commands("make"), *re.findall(r"`(make[^`]*)`", README)]:
        done = subprocess.run(
            shlex.split(line.replace("make", "make -n", 1)),
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_make_demo() -> None:
    """The newcomer's first command: it ends well, shows every kind of connection, and leaves the
    log and nothing else.
    """
    before = set(NETNS.iterdir())
    done = subprocess.run(
        ["make", "demo"], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )
    folder = re.search(r"/\S+/ctrecorder-demo-[^/\s]+", done.stdout)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        left = [NAME.fullmatch(path.name) for path in set(NETNS.iterdir()) - before]
        # Others may run labs of their own meanwhile: the demo's has the pid of a process that is
        # gone.
        assert [name[0] for name in left if name and not Path(f"/proc/{name[1]}").exists()] == []
        text = ctlist("-s", f"{folder[0]}/log" if folder else "").stdout
        assert (
            sum(line in done.stdout for line in (f"   {each}" for each in text.splitlines())) == 8
        )
        sixth = done.stdout.partition("\n6. ")[2].partition("\n7. ")[0]
        lines = [line.strip() for line in sixth.splitlines() if line.strip()]
        answer = [without_numbers(line) for line in lines[1 : ANSWER_LINES + 1]]
        log = f" --trust-clock -d {folder[0]}/log" if folder else ""
        assert [line.replace("# bin/", "$ ").replace(log, "") for line in answer] == the_answer()
        for part in (
            " tcp ",
            " udp ",
            " icmp ",
            " icmpv6 ",
            "dst=198.51.100.1:8080 src=192.168.1.80:80",
            INSIDE,
        ):
            assert part in done.stdout
    finally:
        if folder:
            shutil.rmtree(folder[0])
