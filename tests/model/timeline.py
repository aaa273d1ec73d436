"""The faults of a seed, in random order."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.model.faults import CLOCK, FAILOVER, FAULTS

# Share of seeds whose clock is set.  They run without times of the kernel: libfaketime steps the
# clock of the recorder, not of the kernel.
STEPPED = 0.35
# Share of the other seeds that have a standby.
PAIRED = 0.5
# Share of the seeds whose clock is not set, and that run without times of the kernel all the same.
UNDATED = 0.3
# The step, or the failover, is among the first faults: a run has no time for all faults.
EARLY = 5


@dataclass(frozen=True)
class Plan:
    """A timeline.

    `stepped`: the router's clock is set.  `dated`: the kernel dates its events.  `paired`: it has a
    standby.  `pauses`: quiet seconds before each fault.
    """

    seed: int
    stepped: bool
    dated: bool
    paired: bool
    kinds: tuple[str, ...]
    pauses: tuple[float, ...]


def plan(seed: int) -> Plan:
    """Every fault once, in random order; a run of limited time applies the first of them."""
    dice = random.Random(seed)
    stepped = dice.random() < STEPPED
    paired = not stepped and random.Random(f"paired {seed}").random() < PAIRED
    dated = not stepped and random.Random(f"dated {seed}").random() >= UNDATED
    kinds = [kind for kind in FAULTS if kind not in (CLOCK, FAILOVER)]
    dice.shuffle(kinds)
    if stepped or paired:
        kinds.insert(dice.randrange(EARLY), CLOCK if stepped else FAILOVER)
    pauses = tuple(dice.uniform(4.5, 7.5) for _ in kinds)
    return Plan(seed, stepped, dated, paired, tuple(kinds), pauses)
