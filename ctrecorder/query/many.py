"""Many questions to an archive at once: the cost grows with what is asked, not with the archive.

Each answer is that of `who.answer`.  The folders are read once.  The questions are asked in order
of time, so those about the same hours find the segments open and the blocks decoded.  Few questions
need more than the segments around their window: these are asked again, when all others are
answered, and again share what they read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctrecorder.query.who import Answer, Asked, Reach, WhoQuery


def answer_many(
    paths: list[str], questions: Sequence[WhoQuery], now: int, live_folder: str | None = None
) -> list[Answer]:
    """The answer to each of `questions`.  Arguments and errors as of `who.answer`."""
    found = dict(answer_each(paths, questions, now, live_folder))
    return [found[number] for number in range(len(questions))]


def answer_each(
    paths: list[str], questions: Sequence[WhoQuery], now: int, live_folder: str | None = None
) -> Iterator[tuple[int, Answer]]:
    """The number of each of `questions`, from 0, and its answer, in an order that reads least.

    A caller that does not keep the answers needs memory for one at a time.
    """
    with Asked(paths, now, live_folder) as asked:
        waiting = [(number, Reach()) for number in range(len(questions))]
        while waiting:
            waiting.sort(key=lambda one: (one[1], questions[one[0]].since, one[0]))
            again: list[tuple[int, Reach]] = []
            for number, reach in waiting:
                found = asked.attempt(questions[number], reach)
                if isinstance(found, Reach):
                    again.append((number, found))
                else:
                    yield number, found
            waiting = again
