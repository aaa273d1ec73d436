"""The truth of the model test: the traffic generator's own list of its flows.

Nothing here comes from the product, from conntrack or from the log.  The public end of a flow is
what the far side saw.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

SECOND = 1_000_000_000
# Packets at most this far apart prove that the flow held its port between them.  It is less than
# the shortest timeout of an entry (2 s), so the entry lives from packet to packet.
JOIN = 3 * SECOND // 2

End = tuple[str, int]


@dataclass
class Holding:
    """A flow held a public end: seen from outside, so it is certain.

    `spans`: [first, last] arrival in ns of the real clock; between them the entry lived.
    """

    flow: Flow
    public: End
    spans: list[list[int]] = field(default_factory=list)

    @property
    def translated(self) -> bool:
        return self.public != self.flow.inside

    def seen(self, now: int) -> None:
        """A packet arrived at `now`."""
        if self.spans and now - self.spans[-1][1] <= JOIN:
            self.spans[-1][1] = now
        else:
            self.spans.append([now, now])


@dataclass
class Flow:
    """A socket's flow, from one inside end to one remote end.

    `sent`: before its first packet, and after its last, ns of the real clock.  `holdings`: by
    public end; more than one if translation changed on the way, none if nothing arrived.
    """

    number: int
    protocol: int
    inside: End
    remote: End
    called: End | None  # the public end, where the flow came from outside (DNAT)
    sent: list[int]
    holdings: dict[End, Holding] = field(default_factory=dict)

    @property
    def life(self) -> tuple[int, int]:
        """Before its first packet, after its last."""
        return self.sent[0], self.sent[1]

    @property
    def family(self) -> str:
        return "ipv6" if ":" in self.inside[0] else "ipv4"


class Truth:
    """All flows, by number, by public end, and by their two ends."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.flows: list[Flow] = []
        self.by_public: defaultdict[End, list[Holding]] = defaultdict(list)
        self.by_ends: defaultdict[tuple[int, End, End], list[Flow]] = defaultdict(list)
        self.long: list[Flow] = []  # candidates to live over an edge
        # A reply was sent so late, on a busy machine, that the entry may have timed out.
        self.late_reply = False

    def begin(
        self, protocol: int, inside: End, remote: End, called: End | None, now: int, long: bool
    ) -> Flow:
        """A flow whose first packet is about to be sent."""
        with self.lock:
            flow = Flow(len(self.flows), protocol, inside, remote, called, [now, now])
            self.flows.append(flow)
            self.by_ends[protocol, inside, remote].append(flow)
            if long:
                self.long.append(flow)
        return flow

    def arrived(self, number: int, peer: End, now: int) -> None:
        """A packet of flow `number` arrived from `peer`, as the far side sees it."""
        flow = self.flows[number]
        public = flow.called or peer
        holding = flow.holdings.get(public)
        if holding is None:
            with self.lock:
                holding = flow.holdings[public] = Holding(flow, public)
                holding.seen(now)
                self.by_public[public].append(holding)
            return
        holding.seen(now)

    def publics(self) -> list[End]:
        """Every public end that was held."""
        with self.lock:
            return list(self.by_public)
