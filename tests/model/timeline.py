"""Which faults, in which order: from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.model.faults import CLOCK, FAULTS

# A router whose clock is set has no times of the kernel (libfaketime steps the recorder's alone).
STEPPED = 0.35
# A router whose clock is set sees that among the first faults: not all faults fit into a run.
EARLY = 5


@dataclass(frozen=True)
class Plan:
    """`pauses`: quiet seconds before each fault."""

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
