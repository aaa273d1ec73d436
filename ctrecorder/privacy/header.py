"""What a segment says of itself when its rows were changed: its header, and its GAPs.  Pure."""

from __future__ import annotations

from dataclasses import replace

from ctrecorder.ctlog.frame import OMIT, Gap
from ctrecorder.ctlog.header import Header
from ctrecorder.privacy.protection import REMOTE, Protection


def protected_header(header: Header, protection: Protection) -> Header:
    """The header of the segment with changed rows."""
    requires = header.requires or ()
    if protection.omit:
        requires = tuple(dict.fromkeys((*requires, OMIT)))
        header = replace(header, omit=REMOTE)
    if protection.pan is not None and header.squeezed is not None:
        header = replace(header, squeezed={**header.squeezed, "anonymized": True})
    return replace(header, requires=requires)


def without_networks(gap: Gap) -> Gap:
    """A GAP without the networks of a rule: it is then of all connections that else fit."""
    if "networks" not in gap.facts:
        return gap
    facts = {name: value for name, value in gap.facts.items() if name != "networks"}
    return replace(gap, facts=facts, detail="")
