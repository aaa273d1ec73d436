"""A proof of silent loss, and the GAP that states it.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from ctrecorder import labels
from ctrecorder.ctlog.frame import Gap

UNHEARD = "unheard"


class Proof(NamedTuple):
    """At least `at_least` flows of `family` were not reported.

    `since`: begin of the complete dump before them, ns.  `until`: end of the next one; the
    watermark if there is none.  `protocols`: of these flows, sorted.
    """

    since: int
    until: int
    family: int
    protocols: tuple[int, ...]
    at_least: int


def gaps_of(proofs: Iterable[Proof]) -> list[Gap]:
    """One GAP for the proofs of each time, in order.

    The GAP is of all connections: what hid these flows is not known, so it may have hidden others.
    """
    return [
        _gap(since, until, list(found))
        for (since, until), found in groupby(sorted(proofs), lambda one: (one.since, one.until))
    ]


def _gap(since: int, until: int, proofs: list[Proof]) -> Gap:
    found = [
        {"family": one.family, "protocols": list(one.protocols), "flows": one.at_least}
        for one in proofs
    ]
    facts = {"at_least": True, "unheard": found}
    detail = ", ".join(map(_in_words, proofs))
    return Gap(since, until, UNHEARD, sum(one.at_least for one in proofs), detail, facts)


def _in_words(proof: Proof) -> str:
    protocols = ", ".join(map(labels.protocol, proof.protocols))
    return f"{proof.at_least} of {labels.FAMILIES[proof.family]} ({protocols})"
