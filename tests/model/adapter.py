"""The only module that knows how to ask the product and how to read its answer.

A question is put as a command line of ctwho, and answered in JSON.  `Worker` is one long-lived
process that runs that command again and again in itself; `command_line` runs bin/ctwho.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
PROTOCOLS = {"tcp": 6, "udp": 17}

End = tuple[str, int]

COMPLETE, NOT_COMPLETE, NOT_YET = "complete", "not complete", "not yet"
VERSION_1, FAILED = "version 1.0", "failed"
# Verdicts where nobody is known, and it is not proved that there is nobody.
NOBODY = ("NOBODY KNOWN (not proved)", "NOT RECORDED", "NOT YET", "NO LONGER KEPT")
# Sources of exact times.  A time from any other source is a bound, or unknown.
EXACT = ("kernel", "receipt", "received")


@dataclass(frozen=True)
class Candidate:
    """A connection that the answer names.  `start`, `end`: ns; None if not recorded exactly."""

    protocol: int
    inside: End
    public: End
    remote: End
    start: int | None
    end: int | None


@dataclass
class Answer:
    """An answer.  `state`: one of the five above.  `text`: everything that was printed."""

    state: str
    candidates: list[Candidate] = field(default_factory=list)
    holes: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    text: str = ""


def arguments(
    folders: Iterable[Path],
    public: End,
    at: int,
    tolerance: int,
    to: End | None = None,
    protocol: str | None = None,
) -> list[str]:
    """The arguments for ctwho.  `at`: ns, the beginning of the microsecond that is asked about.
    `tolerance`: ns, before and after.
    """
    moment = datetime.fromtimestamp(at // SECOND, UTC)
    # The clock of this machine may be nobody's: the truth of the model is from the same clock.
    words = [
        _end(public),
        f"{moment:%Y-%m-%dT%H:%M:%S}.{at % SECOND // 1000:06}Z",
        "--tolerance",
        f"{tolerance / SECOND:.6f}",
        "--format",
        "json",
        "--connections",
        "--trust-clock",
    ]
    if to is not None:
        words += ["--to", _end(to)]
    if protocol is not None:
        words += ["--proto", protocol]
    return [*words, *(word for folder in folders for word in ("-d", str(folder)))]


def _end(end: End) -> str:
    return f"[{end[0]}]:{end[1]}" if ":" in end[0] else f"{end[0]}:{end[1]}"


def read(code: int, out: str, err: str) -> Answer:
    """The answer that ctwho printed."""
    text = f"{out}{err}(exit {code})"
    try:
        found = json.loads(out)
    except ValueError:
        return Answer(FAILED, code=code, text=text)
    flows = [flow for person in found["persons"] for flow in person["flows"]]
    candidates = [_candidate(flow) for flow in flows if flow["protocol"] in PROTOCOLS]
    return Answer(_state(found, code), candidates, found["holes"], code, text)


def _state(found: dict[str, Any], code: int) -> str:
    """How complete the answer is; FAILED if its parts or the exit code contradict each other."""
    complete, verdict, persons = found["complete"], found["verdict"], len(found["persons"])
    if complete == "version 1.0":
        return VERSION_1
    if complete is True:
        agrees = verdict == ("NOBODY", "ONE", "SEVERAL")[min(persons, 2)] and code == (not persons)
        return COMPLETE if agrees else FAILED
    # Code 2 if a file could not be read; the holes tell why it is not complete.
    words = [("ONE KNOWN (not proved)",), ("SEVERAL",)][min(persons, 2) - 1] if persons else NOBODY
    if complete is not False or verdict not in words or code not in (2, 3) or not found["holes"]:
        return FAILED
    return NOT_YET if "complete_until" in found else NOT_COMPLETE


def _candidate(line: dict[str, Any]) -> Candidate:
    inside, public, remote = (
        (str(line[name]["address"]), int(line[name].get("port", 0)))
        for name in ("inside", "public", "remote")
    )
    start, end = _moment(line, "start"), _moment(line, "end")
    return Candidate(PROTOCOLS[line["protocol"]], inside, public, remote, start, end)


def _moment(line: dict[str, Any], name: str) -> int | None:
    text, source = line.get(name), str(line.get(f"{name}_source", "kernel"))
    if text is None or not source.startswith(EXACT):
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return int(seconds) * SECOND + int(fraction.ljust(9, "0") or "0")


def command_line(words: list[str], environment: dict[str, str]) -> Answer:
    """bin/ctwho as an operator runs it."""
    done = subprocess.run(
        [str(CHECKOUT / "bin/ctwho"), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    return read(done.returncode, done.stdout, done.stderr)


class Worker:
    """A process that answers one question after the other; a context manager."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-B", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.__exit__(None, None, None)

    def ask(self, words: list[str]) -> Answer:
        """Raises AssertionError if the process has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps(words), file=stdin, flush=True)
        line = stdout.readline()
        if not line:
            raise AssertionError(f"the worker ended with {self._process.wait()}")
        return read(*json.loads(line))


def serve() -> None:
    """The worker's loop: a line of JSON with arguments in, a line with code, stdout, stderr out."""
    sys.path.insert(0, str(CHECKOUT))
    from ctrecorder.cli import ctwho

    # The command writes to descriptor 1 itself.
    replies = os.fdopen(os.dup(1), "w")
    output = os.memfd_create("answers")
    os.dup2(output, 1)
    for line in sys.stdin:
        os.ftruncate(output, 0)
        os.lseek(output, 0, os.SEEK_SET)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            try:
                code = ctwho.main(json.loads(line))
            except Exception:  # noqa: BLE001 - a traceback is an answer that the run looks at
                code = 99
                traceback.print_exc()
        out = os.pread(output, os.fstat(output).st_size, 0).decode()
        print(json.dumps([code, out, errors.getvalue()]), file=replies, flush=True)


if __name__ == "__main__":
    serve()
