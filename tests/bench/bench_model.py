"""Questions to the model of tests/model: seed after seed, until they are asked.

MODEL_QUESTIONS: how many; 1,000,000 take some hours.  MODEL_SEED: the first seed.
"""

from __future__ import annotations

import os
import time
from collections import Counter

from tests.bench.report import Report
from tests.model import run as model
from tests.model.faults import FAULTS
from tests.model.judge import ALIBI, FAILED, UNPROVED, WRONG, Table
from tests.model.run import new_seed

QUESTIONS = 30_000
# Of each seed: seconds in which faults are begun; then it is asked until so many were, or so long.
TIMELINE, SECONDS, EACH = 90, 600, 10_000
LEAST_SEEDS = 20  # of 100 have each fault; it is judged where there are so many
SHARES = {"covered": 30, "hole": 30, "edge": 20}


def run_seeds(report: Report, questions: int, first: int) -> None:
    """All seeds from `first` on, until `questions` were asked."""
    table, applied, bad = Table(), Counter[str](), Counter[str]()
    seeds = flows = 0
    begin = time.monotonic()
    while table.questions < questions:
        seed = first + seeds
        result = model.run(seed, TIMELINE, SECONDS, min(EACH, questions - table.questions))
        seeds += 1
        flows += result.flows
        applied.update(set(result.applied))
        found = {name: result.table.total(name) for name in (ALIBI, WRONG, FAILED)}
        if any(found.values()):
            bad[f"seed {seed}: {found}"] += 1
        table.add(result.table)
        report.note(
            f"seed {seed}: {result.table.questions:,} questions, {result.seconds:.0f} s, "
            f"{result.applied.total()} faults, {found}, "
            f"{result.table.complete_share:.2%} of what was covered called complete"
        )
    for line in [*table.lines(), *bad, *table.bad(most=20)]:
        report.note(line)
    report.figure("questions", table.questions, least=questions)
    seconds = time.monotonic() - begin
    report.figure("questions a second, with the timelines", table.questions / seconds)
    report.figure("seeds", seeds)
    report.figure("flows", flows)
    for name in (ALIBI, WRONG, FAILED):
        report.figure(f"answers: {name}", table.total(name), most=0)
    report.figure("covered, called complete", table.complete_share * 100, "%", least=99)
    report.figure('covered, called "not yet"', table.not_yet_share * 100, "%", most=5)
    report.figure("called complete in a hole, by luck", table.total(UNPROVED), most=0)
    for name, share in SHARES.items():
        report.figure(f"questions of kind {name}", table.share(name) * 100, "%", least=share)
    least = LEAST_SEEDS if seeds >= LEAST_SEEDS else None
    for kind in FAULTS:
        report.figure(f"{kind}: in seeds", applied[kind] / seeds * 100, "of 100", least=least)


def run(report: Report) -> None:
    """With what the environment asks for."""
    report.heading("The model: never a false alibi")
    run_seeds(report, int(os.environ.get("MODEL_QUESTIONS", QUESTIONS)), new_seed())
