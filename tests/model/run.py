"""python3 -m tests.model.run [--seed N] ...: a timeline, its questions, and the table; exits with 3
if a promise was broken.

While the faults come and go, one thread asks through a long-lived worker and another by the real
command line.  When the timeline is over, the questions that are left are asked.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.model import adapter, network
from tests.model.clock import Clock
from tests.model.faults import FAULTS
from tests.model.judge import ALIBI, FAILED, WOLF, WRONG, Asked, Judge, Table
from tests.model.oracle import Fault, Oracle
from tests.model.questions import Chooser, Question
from tests.model.rig import Rig
from tests.model.standby import Standby
from tests.model.timeline import Plan, plan
from tests.model.traffic import Generator
from tests.model.truth import SECOND, Truth
from tests.support.router import Lab

RATE = 60.0  # flows a second
# Pause after the last fault, so that its end is part of the run.
REST_SECONDS = 5.0
LEAST_COMPLETE = 0.99
# Of covered time that is over; else "not yet" could be the answer to everything.
MOST_NOT_YET = 0.05
# The exit code if a promise was broken: not that of an exception.
BROKEN = 3


@dataclass
class Result:
    """The result of a run.  `applied`: how often each fault was applied."""

    plan: Plan
    table: Table
    applied: Counter[str]
    faults: list[Fault] = field(default_factory=list)
    flows: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The lines to print."""
        kind = "with a standby" if self.plan.paired else "plain"
        if self.plan.stepped:
            kind = "the clock is set, events are dated when received"
        return [
            f"model: seed {self.plan.seed} ({kind}): {self.flows:,} flows, "
            f"{self.applied.total()} faults: {', '.join(self.applied)}; {self.seconds:.0f} s",
            *self.table.lines(),
        ]

    def broken(self) -> list[str]:
        """The promises that were broken, a line each, and answers that show it."""
        table, found, shown = self.table, [], []
        for name in (ALIBI, WRONG, FAILED):
            if table.total(name):
                found.append(f"{name}: {table.total(name)}")
                shown += table.bad(name, most=5)
        if table.complete_share < LEAST_COMPLETE:
            found.append(f"covered, called complete: {table.complete_share:.2%}")
            shown += table.bad(WOLF, most=5)
        if table.not_yet_share > MOST_NOT_YET:
            found.append(f'covered, called "not yet": {table.not_yet_share:.2%}')
        return [*found, *shown]


class Askers:
    """Threads that ask; `answers`: all so far, at most `most`."""

    def __init__(self, rig: Rig, truth: Truth, most: int) -> None:
        self._rig, self._truth, self._most = rig, truth, most
        self._numbers = itertools.count()
        self.answers: list[Asked] = []
        self.failure: BaseException | None = None
        self._stopping, self._over = threading.Event(), threading.Event()
        self._environment = {
            **os.environ,
            **{name: str(value) for name, value in rig.clock.environment.items()},
        }

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """All ask until the end of the block."""
        threads = [
            threading.Thread(target=self._guarded, args=(self._by_command_line,)),
            threading.Thread(target=self._guarded, args=(self._by_worker,)),
            *(
                threading.Thread(target=self._guarded, args=(self._by_late_worker,))
                for _ in range(1, os.cpu_count() or 1)
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._over.set()
            for thread in threads:
                thread.join()

    def finish(self, until: float) -> None:
        """The timeline is over: every CPU asks, until enough were asked or `until` (monotonic)."""
        self._over.set()
        while not self._enough() and time.monotonic() < until and not self.failure:
            time.sleep(0.1)

    def _enough(self) -> bool:
        return len(self.answers) >= self._most

    def _guarded(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001 - the run looks at it
            self.failure = error

    def _by_late_worker(self) -> None:
        self._over.wait()
        self._by_worker()

    def _by_worker(self) -> None:
        chooser = self._chooser()
        with adapter.Worker(self._environment) as worker:
            while not self._stopping.is_set() and not self._enough():
                self._one(chooser, worker.ask, "worker")

    def _by_command_line(self) -> None:
        chooser = self._chooser()
        while not self._stopping.wait(0.5):
            self._one(
                chooser, lambda words: adapter.command_line(words, self._environment), "ctlist"
            )

    def _chooser(self) -> Chooser:
        rig, number = self._rig, next(self._numbers)
        return Chooser(self._truth, rig.oracle, rig.clock, rig.seed * 100 + number)

    def _one(self, chooser: Chooser, ask: Callable[[list[str]], adapter.Answer], by: str) -> None:
        question: Question | None = chooser.choose(live=not self._over.is_set())
        if question is None:
            time.sleep(0.02)
            return
        words = adapter.arguments(
            self._rig.folders,
            question.public,
            question.at,
            question.tolerance,
            question.to,
            network.PROTOCOLS[question.protocol] if question.protocol else None,
        )
        before = time.time_ns()
        answer = ask(words)
        self.answers.append(Asked(question, before, time.time_ns(), answer, by))


def run(seed: int, timeline: float, seconds: float, most: int = 1 << 30) -> Result:
    """Apply the faults of `seed` for `timeline` seconds, then ask until there are `most` answers or
    `seconds` are over.
    """
    chosen, began = plan(seed), time.monotonic()
    sysctls = {
        "nf_conntrack_events": 1,
        "nf_conntrack_acct": 1,
        "nf_conntrack_timestamp": int(not chosen.stepped),
    }
    applied: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="ctrecorder-model-") as work,
        Lab(asleep=True, sysctls=sysctls) as lab,
        contextlib.ExitStack() as stack,
    ):
        network.prepare(lab)
        clock = Clock(Path(work), stepped=chosen.stepped)
        truth, oracle = Truth(), Oracle(clock, paired=chosen.paired)
        standby = stack.enter_context(Standby(lab, Path(work))) if chosen.paired else None
        rig = Rig(lab, Path(work), clock, oracle, seed, standby)
        with (
            rig.running(),
            Generator(lab, truth, seed, RATE) as traffic,
        ):
            askers = Askers(rig, truth, most)
            with askers.asking():
                rig.drops()
                for kind, pause in zip(chosen.kinds, chosen.pauses, strict=True):
                    if time.monotonic() - began > timeline:
                        break
                    rig.pause(pause)
                    FAULTS[kind](rig)
                    applied[kind] += 1
                    _look(traffic.failure, askers.failure)
                rig.pause(REST_SECONDS)
                askers.finish(began + seconds)
            _look(traffic.failure, askers.failure)
        oracle.strays |= truth.late_reply
        table = Judge(truth, oracle, clock).table(askers.answers)
        return Result(
            chosen,
            table,
            applied,
            oracle.faults,
            len(truth.flows),
            time.monotonic() - began,
        )


def _look(*failures: BaseException | None) -> None:
    """Raises the exception that ended a thread."""
    for failure in failures:
        if failure is not None:
            raise failure


def new_seed() -> int:
    """$MODEL_SEED, or a seed from the time."""
    return int(os.environ.get("MODEL_SEED", "0")) or time.time_ns() // SECOND % 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=new_seed())
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--timeline", type=float, help="seconds in which faults are begun")
    parser.add_argument("--questions", type=int, default=1 << 30)
    arguments = parser.parse_args()
    print(f"model: seed {arguments.seed}", flush=True)
    seconds = arguments.seconds
    timeline = arguments.timeline if arguments.timeline is not None else seconds * 0.7
    result = run(arguments.seed, timeline, seconds, arguments.questions)
    for fault in result.faults:
        print(f"  {fault}")
    broken = result.broken()
    for line in [*result.lines(), *(f"BROKEN {line}" for line in broken)]:
        print(line)
    return BROKEN if broken else 0


if __name__ == "__main__":
    sys.exit(main())
