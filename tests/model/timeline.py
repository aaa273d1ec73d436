"""The faults of a seed, in random order."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.model.faults import CLOCK, FAULTS

# Share of seeds whose clock is set.  They run without times of the kernel: libfaketime steps the
# clock of the recorder, not of the kernel.
STEPPED = 0.35
# There the step is among the first faults: a run has no time for all faults.
EARLY = 5


@dataclass(frozen=True)
class Plan:
    """A timeline.  `pauses`: quiet seconds before each fault."""

    seed: int
    stepped: bool
    kinds: tuple[str, ...]
    pauses: tuple[float, ...]


def plan(seed: int) -> Plan:
    """Every fault once, in random order; a run of limited time applies the first of them."""
    dice = random.Random(seed)
    stepped = dice.random() < STEPPED
    kinds = [kind for kind in FAULTS if kind != CLOCK]
    dice.shuffle(kinds)
    if stepped:
        kinds.insert(dice.randrange(EARLY), CLOCK)
    return Plan(seed, stepped, tuple(kinds), tuple(dice.uniform(4.5, 7.5) for _ in kinds))
