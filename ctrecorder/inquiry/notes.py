"""What an answer hints at: an address that is mistyped or of the inside, a port that nobody outside
saw.

Pure.
"""

from __future__ import annotations

from dataclasses import replace

from ctrecorder.ends import is_inside
from ctrecorder.holders import who
from ctrecorder.inquiry.question import Question

_OMITTED = "remote ends were not recorded (omit): this rests on address and port alone"
_MAY_LISTEN = (
    "port {port} is from a copyright notice: if it is one on which a program listens inside, "
    "nobody had it outside"
)


def of_address(asked: who.WhoQuery, address: str) -> who.WhoQuery:
    """The question if `address` occurs as a public address at all in the span of `asked`."""
    public = who.parse_end(address)
    return replace(asked, public=public, to=None, protocols=frozenset(), only_whether=True)


def of_nowhere(address: str) -> tuple[str, ...]:
    """What is noted of an address that occurs nowhere as a public one."""
    nowhere = f"{address} occurs nowhere as a public address in what was searched"
    if is_inside(address):
        return (f"{nowhere}: it is one of the inside; ask for the one that the outside saw",)
    return (f"{nowhere}: is it mistyped?",)


def of_omitted(answer: who.Answer | None) -> tuple[str, ...]:
    """What is noted of a log without remote ends."""
    omits = answer is not None and any(segment.omits for segment in answer.segments)
    return (_OMITTED,) if omits else ()


def of_listening(question: Question) -> tuple[str, ...]:
    """What is noted of a port that can be one that nobody had outside."""
    return (_MAY_LISTEN.format(port=question.target.port),) if question.may_listen else ()
