"""Many questions to an archive at once: the cost grows with what is asked, not with the archive.

Each answer is that of `who.answer`.  The folders are read once.  The questions are asked in order
of time, so those about the same hours find the segments open and the blocks decoded.  Few questions
need more than the segments around their window: these are asked again, when all others are
answered, and again share what they read.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Self

from ctrecorder.forked import Worker
from ctrecorder.holders.source import Source
from ctrecorder.holders.who import Answer, Asked, Reach, WhoQuery

# With fewer questions for a process, to fork costs more than it saves.
_LEAST_QUESTIONS = 8
# Questions that a source gets ready for at once.  Fewer: a database is asked more often; more: it
# reads the same hours for questions that have nothing in common.
_AT_ONCE = 64


def answer_many(
    paths: list[str] | Source,
    questions: Sequence[WhoQuery],
    now: int,
    live_folder: str | None = None,
    jobs: int = 1,
) -> list[Answer]:
    """The answer to each of `questions`.  Arguments and errors as of `answer_each`."""
    found = dict(answer_each(paths, questions, now, live_folder, jobs))
    return [found[number] for number in range(len(questions))]


class Engine:
    """An archive that is asked more than once: here, its folders are read once for all of that."""

    def __init__(self, paths: list[str] | Source, now: int, jobs: int = 1) -> None:
        """Arguments as of `answer_each`."""
        self._paths, self._now, self._jobs = paths, now, jobs
        self._asked: Asked | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._asked is not None:
            self._asked.__exit__(*exception)

    def answers(self, questions: Sequence[WhoQuery]) -> list[Answer]:
        """The answer to each of `questions`.  Errors as of `answer_each`."""
        if _processes(questions, self._jobs) > 1:
            return answer_many(self._paths, questions, self._now, jobs=self._jobs)
        if self._asked is None and questions:
            self._asked = Asked(self._paths, self._now)
        found = {} if self._asked is None else dict(_answers_of(self._asked, questions))
        return [found[number] for number in range(len(questions))]


def _processes(questions: Sequence[WhoQuery], jobs: int) -> int:
    """How many processes share the questions: 1, or up to `jobs`."""
    return max(1, min(jobs, len(questions) // _LEAST_QUESTIONS))


def answer_each(
    paths: list[str] | Source,
    questions: Sequence[WhoQuery],
    now: int,
    live_folder: str | None = None,
    jobs: int = 1,
) -> Iterator[tuple[int, Answer]]:
    """The number of each of `questions`, from 0, and its answer, in an order that reads least.

    A caller that does not keep the answers needs memory for one at a time.

    `jobs`: the processes that share the questions.  Each takes those of a part of the time, and has
    its share of the memory.  Other arguments as of `who.answer`.  Raises ArchiveError if one was
    killed.
    """
    jobs = _processes(questions, jobs)
    asked = partial(Asked, paths, now, live_folder, jobs)
    if jobs == 1:
        yield from _answer_here(asked, questions)
        return
    order = sorted(range(len(questions)), key=lambda number: questions[number].since)
    shares = [order[len(order) * n // jobs : len(order) * (n + 1) // jobs] for n in range(jobs)]
    workers: list[Worker] = []
    try:
        with selectors.DefaultSelector() as ready:
            for share, numbers in enumerate(shares):
                mine = [questions[number] for number in numbers]
                workers.append(Worker(partial(_answer_here, asked, mine)))
                ready.register(workers[-1], selectors.EVENT_READ, share)
            waiting = list(map(len, shares))
            while any(waiting):
                for key, _ in ready.select():
                    number, answer = workers[key.data].receive()
                    yield shares[key.data][number], answer
                    waiting[key.data] -= 1
                    if not waiting[key.data]:
                        ready.unregister(key.fileobj)
    finally:
        for worker in workers:
            worker.close()


def _answer_here(
    archive: Callable[[], Asked], questions: Sequence[WhoQuery]
) -> Iterator[tuple[int, Answer]]:
    """`answer_each` in one process, which opens `archive` itself."""
    with archive() as asked:
        yield from _answers_of(asked, questions)


def _answers_of(asked: Asked, questions: Sequence[WhoQuery]) -> Iterator[tuple[int, Answer]]:
    """The number of each question, and its answer; those that must read more come last."""
    waiting = [(number, Reach()) for number in range(len(questions))]
    while waiting:
        waiting.sort(key=lambda one: (one[1][:2], questions[one[0]].since, one[0]))
        again: list[tuple[int, Reach]] = []
        for place, (number, reach) in enumerate(waiting):
            if place % _AT_ONCE == 0:
                batch = waiting[place : place + _AT_ONCE]
                asked.prepare((questions[each], its_reach) for each, its_reach in batch)
            found = asked.attempt(questions[number], reach)
            if isinstance(found, Reach):
                again.append((number, found))
            else:
                yield number, found
        waiting = again
