"""A minute of faults over real traffic, and thousands of questions: no false alibi, no wrong
person, and what was covered is called complete.

The seed is printed; MODEL_SEED=N takes another.  `python3 -m tests.model.run --seed N` alone shows
more.  Without it, one of SEEDS is taken at random: each found nothing on a busy machine.  New seeds
are those of `make bench`: of 27 in November 2026 none found anything in the product as it is, but
seed 1002 cried wolf in one of 15 runs, and nobody found out why.
"""

from __future__ import annotations

import os
import random

from tests.model.run import run

# Of each kind: a clock that is right; a standby; a clock that is set.
SEEDS = (141421, 577215, 662607, 271828, 334192, 577742, 847493, 161803, 734956)
# Faults are begun, and questions asked, for so many seconds.
TIMELINE, SECONDS = 60, 88
LEAST_QUESTIONS = 500  # on a machine that is busy with other things; else some 3,000
LEAST_SHARES = {"covered": 0.3, "hole": 0.3, "edge": 0.2}


def test_never_a_false_alibi(report: list[str]) -> None:
    """The product's answers, against the truth of the traffic and the timeline of the faults."""
    seed = int(os.environ.get("MODEL_SEED", random.choice(SEEDS)))
    report.append(f"MODEL_SEED={seed}")
    result = run(seed, TIMELINE, SECONDS)
    table, broken = result.table, result.broken()
    report += [*result.lines(), *broken]
    assert not broken, f"seed {seed}: {broken[0]}"
    # The test itself: it asked enough, and of every kind.
    assert table.questions >= LEAST_QUESTIONS
    shares = {name: table.share(name) for name in LEAST_SHARES}
    assert all(shares[name] >= least for name, least in LEAST_SHARES.items()), shares
