"""Asks the questions of a run: some while the faults come and go, the others when they are over.

During the timeline, one thread asks through a long-lived worker and another by the real command
line.  Afterwards nothing changes any more.  Then each CPU has a process that chooses questions,
asks many of them together, and judges the answers; some of them it asks by the command line.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from tests.model import adapter, network
from tests.model.judge import Asked, Judge, Table
from tests.model.questions import Chooser, Question
from tests.model.rig import Rig
from tests.model.truth import Truth

# Questions that are asked together.  More: the last questions of a run wait for them.
TOGETHER = 250
# Of so many questions one is asked by the real command line too: it costs as much as a hundred.
BY_COMMAND = 100


class Askers:
    """Threads that ask during the timeline; `answers`: all so far, at most `most`."""

    def __init__(self, rig: Rig, truth: Truth, most: int) -> None:
        self._rig, self._truth, self._most = rig, truth, most
        self.answers: list[Asked] = []
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self._environment = _environment(rig)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """All ask until the end of the block."""
        threads = [
            threading.Thread(target=self._guarded, args=(ask,))
            for ask in (self._by_command_line, self._by_worker)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    def _guarded(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001 - the run looks at it
            self.failure = error

    def _by_worker(self) -> None:
        chooser = _chooser(self._rig, self._truth, 0)
        with adapter.Worker(self._environment) as worker:
            while not self._stopping.is_set() and len(self.answers) < self._most:
                self._one(chooser, worker.ask, "worker")

    def _by_command_line(self) -> None:
        chooser = _chooser(self._rig, self._truth, 1)
        while not self._stopping.wait(0.5):
            self._one(
                chooser, lambda words: adapter.command_line(words, self._environment), "ctlist"
            )

    def _one(self, chooser: Chooser, ask: Callable[[list[str]], adapter.Answer], by: str) -> None:
        question = chooser.choose(live=True)
        if question is None:
            time.sleep(0.02)
            return
        before = time.time_ns()
        answer = ask(_words(self._rig, question))
        self.answers.append(Asked(question, before, time.time_ns(), answer, by))


def ask_the_rest(rig: Rig, truth: Truth, most: int, until: float) -> Table:
    """The results of up to `most` more questions, asked until `until` (monotonic).

    The timeline is over and the traffic has ended: the answers can be judged at once.  Raises
    AssertionError if a process fails.
    """
    table, cpus = Table(), os.cpu_count() or 1
    share = -(-max(most, 0) // cpus)
    pipes = [_fork(rig, truth, share, until, number) for number in range(2, 2 + cpus)]
    failures = []
    for pid, pipe in pipes:
        with os.fdopen(pipe, "rb") as file:
            reply = file.read()
        os.waitpid(pid, 0)
        found = pickle.loads(reply) if reply else "a process that asked was killed"
        if isinstance(found, Table):
            table.add(found)
        else:
            failures.append(found)
    if failures:
        raise AssertionError("\n".join(failures))
    return table


def _fork(rig: Rig, truth: Truth, share: int, until: float, number: int) -> tuple[int, int]:
    """A process that asks; its id, and a pipe from which its results come: a Table or an error."""
    receiver, sender = os.pipe()
    parent, pid = os.getpid(), os.fork()
    if pid:
        os.close(sender)
        return pid, receiver
    os.close(receiver)
    try:
        found: Table | str = _asked(rig, truth, share, until, number, parent)
    except BaseException:  # noqa: BLE001 - the parent raises it
        found = traceback.format_exc()
    with os.fdopen(sender, "wb") as reply:
        reply.write(pickle.dumps(found))
    os._exit(0)


def _asked(rig: Rig, truth: Truth, share: int, until: float, number: int, parent: int) -> Table:
    """The results of up to `share` questions."""
    table, environment = Table(), _environment(rig)
    chooser, judge = _chooser(rig, truth, number), Judge(truth, rig.oracle, rig.clock)
    with adapter.Worker(environment) as worker:
        # The parent can have been killed.
        while table.questions < share and time.monotonic() < until and os.getppid() == parent:
            wanted = min(TOGETHER, share - table.questions)
            questions = [one for one in (chooser.choose(live=False) for _ in range(wanted)) if one]
            if not questions:
                raise AssertionError("there is nothing to ask")
            answers = _together(rig, worker, questions)
            for question in questions[::BY_COMMAND]:
                before = time.time_ns()
                answer = adapter.command_line(_words(rig, question), environment)
                answers.append(Asked(question, before, time.time_ns(), answer, "ctlist"))
            table.add(judge.table(answers))
    return table


def _together(rig: Rig, worker: adapter.Worker, questions: list[Question]) -> list[Asked]:
    before = time.time_ns()
    answers = worker.ask_many([_words(rig, question) for question in questions])
    after = time.time_ns()
    return [
        Asked(question, before, after, answer, "worker")
        for question, answer in zip(questions, answers, strict=True)
    ]


def _chooser(rig: Rig, truth: Truth, number: int) -> Chooser:
    return Chooser(truth, rig.oracle, rig.clock, rig.seed * 100 + number)


def _environment(rig: Rig) -> dict[str, str]:
    """Of processes that ask: by the router's clock."""
    faked = {name: str(value) for name, value in rig.clock.environment.items()}
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", **faked}


def _words(rig: Rig, question: Question) -> list[str]:
    return adapter.arguments(
        rig.folders,
        question.public,
        question.at,
        question.tolerance,
        question.to,
        network.PROTOCOLS[question.protocol] if question.protocol else None,
    )
