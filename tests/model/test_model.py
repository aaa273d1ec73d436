"""Two minutes of faults over real traffic, and thousands of questions: no false alibi, no wrong
person, and what was covered is called complete.

The seed is printed; MODEL_SEED=N repeats its faults.  `python3 -m tests.model.run --seed N` alone
shows more.
"""

from __future__ import annotations

from tests.model.judge import ALIBI, FAILED, WOLF, WRONG
from tests.model.run import new_seed, run

# Faults are begun, and questions asked, for so many seconds.
TIMELINE, SECONDS = 82, 120
LEAST_QUESTIONS = 500  # on a machine that is busy with other things
LEAST_COMPLETE = 0.99
# Of covered time that is over; else "not yet" could be the answer to everything.
MOST_NOT_YET = 0.05
LEAST_SHARES = {"covered": 0.3, "hole": 0.3, "edge": 0.2}


def test_never_a_false_alibi(report: list[str]) -> None:
    """The product's answers, against the truth of the traffic and the timeline of the faults."""
    seed = new_seed()
    report.append(f"MODEL_SEED={seed}")
    result = run(seed, TIMELINE, SECONDS)
    table = result.table
    report += [*result.lines(), *table.bad(ALIBI, WRONG, FAILED, most=5)]
    if table.complete_share < LEAST_COMPLETE:
        report += table.bad(WOLF, most=5)
    bad = {name: table.total(name) for name in (ALIBI, WRONG, FAILED)}
    assert not any(bad.values()), f"seed {seed}: {bad}"
    assert table.complete_share >= LEAST_COMPLETE, f"seed {seed}: it cries wolf"
    assert table.not_yet_share <= MOST_NOT_YET, f"seed {seed}: it puts off"
    # The test itself: it asked enough, and of every kind.
    assert table.questions >= LEAST_QUESTIONS
    shares = {name: table.share(name) for name in LEAST_SHARES}
    assert all(shares[name] >= least for name, least in LEAST_SHARES.items()), shares
