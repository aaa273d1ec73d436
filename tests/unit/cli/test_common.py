"""The manners that all commands share: each error ends in one line and its code, and nothing else
reaches the terminal.
"""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import IO

import pytest

from ctrecorder import __version__
from ctrecorder.cli import common
from ctrecorder.errors import ArchiveError, CtrecorderError, FormatError, UsageError
from ctrecorder.terminal import count, printable

ROOT = Path(common.__file__).parents[2]


def parser() -> common.Parser:
    made = common.Parser(
        "ctdemo", "Shows what is shown.", [("ctdemo --since -2h", "an example")], 1
    )
    made.add_argument("--since", metavar="TIME")
    made.add_argument("-n", type=int)
    made.add_argument("paths", nargs="*")
    return made


ERRORS = [
    (CtrecorderError("no room"), 2, "no room"),
    (ArchiveError("a\x1b[31mb\nc\u202e: bad"), 2, "a\\x1b[31mb\\nc\\u202e: bad"),
    (FormatError("no header", path="x", offset=7), 2, "x: at byte 7: no header"),
    (
        PermissionError(errno.EACCES, "Permission denied", "/root/x"),
        2,
        "/root/x: Permission denied",
    ),
    (
        OSError(errno.ENOSPC, "No space left on device"),
        2,
        "reading or writing: No space left on device",
    ),
    (MemoryError(), 2, "out of memory"),
]


@pytest.mark.parametrize(
    ("error", "code", "line"), ERRORS, ids=[type(error).__name__ for error, _, _ in ERRORS]
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    line: str,
) -> None:
    monkeypatch.setattr(common, "_discard_stdout", lambda: None)  # pytest's own

    def body(args: argparse.Namespace) -> int:
        raise error

    assert common.run(parser(), body, []) == code
    assert capsys.readouterr() == ("", f"ctdemo: {line}\n")


IMPORT_ERRORS = [
    ("No module named 'numpy'", "a library cannot be loaded: No module named 'numpy'; "),
    (
        "\n\nIMPORTANT: PLEASE READ THIS\n\nOriginal error was: libblas.so.3: "
        "failed to map segment from shared object\n",
        "out of memory: libblas.so.3: failed to map segment from shared object (see ulimit -v)\n",
    ),
    ("", "a library cannot be loaded: unknown reason; "),
]


@pytest.mark.parametrize(("text", "line"), IMPORT_ERRORS)
def test_a_library_that_cannot_be_loaded(
    capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    def body(args: argparse.Namespace) -> int:
        raise ImportError(text)

    assert common.run(parser(), body, []) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"ctdemo: {line}")


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("kilobytes", range(20_000, 110_000, 10_000))
def test_too_little_memory_is_one_line_and_no_spin(kilobytes: int) -> None:
    """Wherever the limit is met: in numpy, in its BLAS, or in the command."""
    script = f"ulimit -v {kilobytes}; exec bin/cttest tests/data/golden/v1-closed.ctlog"
    done = subprocess.run(
        ["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)
    if done.returncode:
        assert "memory" in done.stderr.splitlines()[-1]


def test_numpy_starts_no_threads_for_its_blas() -> None:
    """In every command, before numpy is imported."""
    code = """
import os, sys
from ctrecorder.cli import common
def body(args):
    assert "numpy" not in sys.modules
    import numpy
    print(os.environ["OPENBLAS_NUM_THREADS"], len(os.listdir("/proc/self/task")))
    return 0
sys.exit(common.run(common.Parser("ctdemo", "Shows.", [], 1), body, []))
"""
    for given, wanted in ({}, "1 1\n"), ({"OPENBLAS_NUM_THREADS": "2"}, "2 "):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(wanted)


def test_a_command_looks_for_no_cycles_among_its_modules() -> None:
    """Neither while they are imported nor when the interpreter ends: a tenth of a short command."""
    code = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 1000, flush=True))  # runs last
from ctrecorder.cli import common
def body(args):
    import numpy
    print(gc.get_stats()[0]["collections"] - before, flush=True)
    return 0
gc.collect()
before = gc.get_stats()[0]["collections"]
sys.exit(common.run(common.Parser("ctdemo", "Shows.", [], 1), body, []))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    collections, frozen = done.stdout.split()
    assert int(collections) <= 3
    assert frozen == "True"


def test_two_processes_at_a_terminal_and_one_in_a_unit() -> None:
    code = "from ctrecorder.cli.common import jobs; print(jobs(None), jobs(3))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 3\n"
    controller, terminal = os.openpty()
    done = subprocess.run(
        command, cwd=ROOT, stdin=terminal, capture_output=True, text=True, check=True
    )
    os.close(controller)
    os.close(terminal)
    assert done.stdout == f"{min(2, len(os.sched_getaffinity(0)))} 3\n"
    with pytest.raises(UsageError, match="-j: must be at least 1"):
        common.jobs(0)


def returning(code: int, args: argparse.Namespace) -> int:
    return code


def test_what_a_body_returns_and_what_its_bugs_raise() -> None:
    for code in (0, 1, 2):
        assert common.run(parser(), partial(returning, code), []) == code
    with pytest.raises(ZeroDivisionError):  # a bug is not an operator's error
        common.run(parser(), lambda args: 1 // 0, [])


def test_bad_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--sin", "x"], ["-n", "x"], ["--since"]):  # no abbreviations
        assert common.run(parser(), lambda args: 0, words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "(see ctdemo --help)" in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.run(parser(), lambda args: 1, ["--version"]) == 0
    assert capsys.readouterr().out == f"ctdemo (ctrecorder) {__version__}\n"
    assert common.run(parser(), lambda args: 1, ["-h"]) == 0
    assert "  ctdemo --since -2h\n      an example\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "since", "paths"),
    [
        (["--since", "-2h", "x"], "-2h", ["x"]),
        (["--since=-2h"], "-2h", []),
        (["--since", "2h ago"], "2h ago", []),
        (["x", "--", "-2h"], None, ["x", "-2h"]),
    ],
)
def test_times_that_begin_with_a_dash(
    words: list[str], since: str | None, paths: list[str]
) -> None:
    seen: list[argparse.Namespace] = []

    def keep(args: argparse.Namespace) -> int:
        seen.append(args)
        return 0

    assert common.run(parser(), keep, words) == 0
    assert (seen[0].since, seen[0].paths) == (since, paths)


# What subprocess.run takes as one of its streams.
Stream = int | IO[str] | None


def outcome(
    body: str, *, stdin: Stream = None, stdout: Stream = PIPE, stderr: Stream = PIPE
) -> subprocess.CompletedProcess[str]:
    """Runs `body`, a statement, as a command of its own."""
    lines = [
        "import os, signal, sys",
        "from ctrecorder.cli import common",
        # A shell ignores it in what it starts with &, also for what that starts.
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        "def body(args):",
        f"    {body}",
        "    return 0",
    ]
    lines += ["sys.exit(common.run(common.Parser('ctdemo', '', [], 1), body, []))"]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


@pytest.mark.parametrize(
    "body",
    [
        "print('x')",
        "[print('x' * 100) for _ in range(10_000)]",
        "common.write_out(b'x' * 10_000_000)",
    ],
)
def test_a_closed_pipe_is_no_error(body: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = outcome(body, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "body", ["print('x')", "[print('x' * 100) for _ in range(10_000)]", "common.write_out(b'x')"]
)
def test_a_full_disk_is_one_line(body: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = outcome(body, stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr


def test_an_interrupt_is_silent_and_told_by_the_code() -> None:
    done = outcome("print('x'); os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stderr) == (130, "")


def test_nobody_to_tell_is_no_error() -> None:
    with Path("/dev/full").open("w") as full:
        assert outcome("raise common.UsageError('x')", stderr=full).returncode == 2


def test_words_for_a_terminal() -> None:
    assert printable("héllo wörld") == "héllo wörld"
    assert printable("\x00\x1b\x7f\x9b\u200b\udc80\n") == "\\x00\\x1b\\x7f\\x9b\\u200b\\udc80\\n"
    assert [count(number, "event") for number in (0, 1, 1234)] == [
        "0 events",
        "1 event",
        "1,234 events",
    ]


@pytest.mark.parametrize("command", [["ctlist"], ["ctexpire", "--holds"]])
def test_an_unknown_zone_of_tz_stops_what_uses_local_time(command: list[str]) -> None:
    settings = {**os.environ, "TZ": "Europe/Berlni"}
    run = partial(subprocess.run, env=settings, capture_output=True, text=True, check=False)
    done = run(command)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{command[0]}: the variable TZ: unknown time zone 'Europe/Ber")
    assert len(done.stderr.splitlines()) == 1
    assert "TZ" not in run([*command, "--utc"]).stderr
