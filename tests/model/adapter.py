"""The only module that knows how to ask the product and how to read its answer.

A question is put as a command line of ctwho, and answered in JSON.  `command_line` runs bin/ctwho.
`Worker` is one long-lived process that runs that command in itself, again and again; of many
questions at once it asks the function that many questions are asked by.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
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
        # Whoever is known only if a receipt was late, or was not, is not proved.
        late = "a time of receipt can be" in found.get("why", "")
        words = ["NOBODY", "ONE KNOWN (not proved)" if late else "ONE", "SEVERAL"]
        code_of = 3 if late else int(not persons)
        return COMPLETE if (verdict, code) == (words[min(persons, 2)], code_of) else FAILED
    # Code 2 if a file could not be read; the holes tell why it is not complete.
    fit = [("ONE KNOWN (not proved)",), ("SEVERAL",)][min(persons, 2) - 1] if persons else NOBODY
    if complete is not False or verdict not in fit or code not in (2, 3) or not found["holes"]:
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
        """The answer of the command."""
        (answer,) = self._replies([words])
        return answer

    def ask_many(self, questions: list[list[str]]) -> list[Answer]:
        """The answers to questions that are asked together."""
        return self._replies(questions)

    def _replies(self, questions: list[list[str]]) -> list[Answer]:
        """Raises AssertionError if the process has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps(questions), file=stdin, flush=True)
        line = stdout.readline()
        if not line:
            raise AssertionError(f"the worker ended with {self._process.wait()}")
        return [read(*reply) for reply in json.loads(line)]


Reply = tuple[int, str, str]  # exit code, stdout, stderr


def serve() -> None:
    """The worker's loop: a line of JSON with questions in, a line with their replies out."""
    sys.path.insert(0, str(CHECKOUT))
    # The command writes to descriptor 1 itself.
    replies = os.fdopen(os.dup(1), "w")
    output = os.memfd_create("answers")
    os.dup2(output, 1)
    for line in sys.stdin:
        questions = json.loads(line)
        try:
            found = _together(questions) if len(questions) > 1 else [_alone(questions[0], output)]
        except Exception:  # noqa: BLE001 - a traceback is an answer that the run looks at
            found = [(99, "", traceback.format_exc())] * len(questions)
        print(json.dumps(found), file=replies, flush=True)


def _alone(words: list[str], output: int) -> Reply:
    """The command itself, in this process.  `output`: descriptor 1."""
    from ctrecorder.asking import ctwho

    os.ftruncate(output, 0)
    os.lseek(output, 0, os.SEEK_SET)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = ctwho.main(words)
    return code, os.pread(output, os.fstat(output).st_size, 0).decode(), errors.getvalue()


def _together(questions: list[list[str]]) -> list[Reply]:
    """Many questions to the same folders, as one run asks them; what the command would print."""
    from ctrecorder.asking import ctwho
    from ctrecorder.inquiry.ask import Asking, answer_all
    from ctrecorder.inquiry.twin import twin

    now, parser = time.time_ns(), ctwho.build_parser()
    asked = [parser.parse_args(words) for words in questions]
    asking = Asking(tuple(asked[0].archive), now, "model", trust_clock=True)
    found = answer_all([one for args in asked for one in ctwho.questions(args, now)], asking)
    return [(int(one.code), json.dumps(twin(one, connections=True)), "") for one in found]


if __name__ == "__main__":
    serve()
