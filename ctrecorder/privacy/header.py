"""What a segment says of itself when its rows were changed: its header, and its notes.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ctrecorder.ctlog.frame import OMIT, Gap, Json, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.privacy.protection import REMOTE, Protection

_NETWORKS = "networks"


def protected_header(header: Header, protection: Protection) -> Header:
    """The header of the segment with changed rows."""
    requires = header.requires or ()
    if protection.omit:
        requires = tuple(dict.fromkeys((*requires, OMIT)))
        header = replace(header, omit=REMOTE, inside=protection.inside.networks)
    if protection.pan is not None and header.squeezed is not None:
        header = replace(header, squeezed={**header.squeezed, "anonymized": True})
    if header.state is not None:
        header = replace(header, state=state_without_networks(header.state))
    return replace(header, requires=requires)


def without_networks(gap: Gap) -> Gap:
    """A GAP without the networks of a rule: it is then of all connections that else fit."""
    if _NETWORKS not in gap.facts:
        return gap
    return replace(gap, facts=_without(gap.facts), detail="")


def mark_without_networks(mark: Mark) -> Mark:
    """A MARK without the networks of rules."""
    return replace(mark, facts=state_without_networks(mark.facts))


def state_without_networks(state: Mapping[str, Any]) -> Json:
    """The member `state` of a HEADER, or the members of a MARK, without the networks of rules."""
    found = dict(state)
    if isinstance(rules := found.get("notrack"), list):
        found["notrack"] = [_without(one) if isinstance(one, dict) else one for one in rules]
    return found


def _without(facts: Mapping[str, Any]) -> Json:
    return {name: value for name, value in facts.items() if name != _NETWORKS}
