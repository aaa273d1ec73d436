"""--reply: a draft of the mail that answers a letter.  It names no inside host, and is not sent.

Whoever wrote the letter learns which of its sightings could be assigned, and what is missing where
one could not.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr

from ctrecorder.cases.letter import LetterAnswered
from ctrecorder.inquiry.ask import Answered
from ctrecorder.inquiry.question import protocols_text
from ctrecorder.inquiry.shown import stamp, zone_of
from ctrecorder.inquiry.verdicts import Word
from ctrecorder.terminal import count, printable

_COLUMNS = 72
_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w.-]{1,255}", re.ASCII)
_PORT = (
    "Several hosts of our network shared this address at that time (NAT), so we cannot tell whose "
    "connection it was. Please send us the source port of the connection, its time to the second "
    "with its time zone, and the address and port of the server that was reached. RFC 6302 "
    "recommends that servers log the source port and the time."
)
_LISTENING = (
    "The port in your letter is one on which a program listens inside our network. "
    "It is not the port that our network showed to the outside."
)
_WORDS = {
    Word.ONE: "We could assign this to one host of our network.",
    Word.ONE_KNOWN: "We could not assign this with certainty.",
    Word.SEVERAL: "Several are possible in our network: we cannot tell which of them it was.",
    Word.NOBODY: "Nobody in our network used this address in that way at that time.",
    Word.NOBODY_KNOWN: (
        "We know of nobody in our network who used this address in that way at that time, but we "
        "cannot rule it out."
    ),
    Word.NOT_RECORDED: "We have no records of that time.",
    Word.NOT_YET: "Our records of that time are not complete yet.",
    Word.NO_LONGER_KEPT: "We no longer keep records of that time.",
}


def draft(one: LetterAnswered) -> bytes:
    """The mail, as bytes of a file .eml."""
    letter, mail = one.letter, EmailMessage(policy=SMTP)
    # One address of the sender's: a stranger's header can name more.
    address = parseaddr(letter.sender)[1]
    if _ADDRESS.fullmatch(address):
        mail["To"] = address
    about = f"your number {letter.reference}" if letter.reference else "your letter"
    mail["Subject"] = _header(f"Re: {about}")
    if letter.message_id:
        name = _header(letter.message_id).strip("<>")
        mail["In-Reply-To"] = mail["References"] = f"<{name}>"
    mail["X-Unsent"] = "1"
    mail.set_content("\n".join(_lines(one)) + "\n")
    return mail.as_bytes()


def _header(text: str) -> str:
    """`text` on one line, of at most a header's length."""
    return printable(text)[:300]


def _lines(one: LetterAnswered) -> Iterator[str]:
    yield from _wrapped(f"Your letter has {count(len(one.answers), 'question')} for us.")
    for number, answer in enumerate(one.answers, 1):
        yield ""
        yield from _wrapped(f"{number}. {_asked(answer)}")
        for part in _said(answer):
            yield from _wrapped(part)
    if not one.answers:
        yield ""
        yield from _wrapped(
            "We could not read an address, a port and a time in it. Please send them as text, one "
            "line each, with the time zone."
        )


def _asked(answer: Answered) -> str:
    question = answer.question
    target, remote = question.target, question.remote
    port = "" if target.port is None else f" port {target.port}"
    to = f", with {remote}" if remote else ""
    protocol = protocols_text(question.protocols)
    at = f", {question.window.text}" if question.window.text else ""
    if answer.asked is not None:
        zone = zone_of(question.window.zone or "UTC")
        at += f" (read as {stamp(question.window.begin, zone)})"
    who = target.address or "a line in which we could not read an address"
    return f"{who}{port}{f', {protocol}' if protocol else ''}{to}{at}"


def _said(answer: Answered) -> Iterator[str]:
    """What the sender is told of one question."""
    question = answer.question
    if question.role == "listening" and answer.shares_address:
        yield _LISTENING
    if answer.judged.word is Word.CANNOT_BE_ASKED:
        yield f"We could not look this up: {question.why_not.partition(': give it')[0]}."
    elif answer.shares_address and len(answer.persons) > 1 and question.has_ports:
        yield _PORT
    else:
        yield _WORDS[answer.judged.word]
    if question.window.readings > 1:
        yield (
            f"The time can be read in {question.window.readings} ways: please send it with its "
            "offset from UTC."
        )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _COLUMNS, break_long_words=False)
