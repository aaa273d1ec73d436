"""A question put to many routers: to those on this machine here, to the others by ssh, all at once.

By ssh the question goes to the data, and ctwho there answers it.  That answer is a stranger's: of
bounded size and time, of the same version, about the question that was asked; else it is none.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ctrecorder import __version__, labels, times
from ctrecorder.errors import CtrecorderError, ExitCode, NoSegmentsError
from ctrecorder.fleet.routers import Router
from ctrecorder.inquiry.ask import Asking, answer_all
from ctrecorder.inquiry.question import MAX_TOLERANCE_SECONDS, Question
from ctrecorder.inquiry.twin import twin
from ctrecorder.page import twin as twins
from ctrecorder.page.shape import nanoseconds
from ctrecorder.shipping import program
from ctrecorder.terminal import printable

Json = dict[str, Any]

# Of one router.  Shorter, one that has to read weeks does not answer in time; longer, one that
# hangs keeps the answer of all others.
ANSWER_SECONDS = 60
# An answer has some kB; 100 kB if all hosts of an address are listed.
_MAX_ANSWER = 8 << 20
# More at once: the machine that asks is busy with ssh; with fewer, those that are away add up.
_AT_ONCE = 16
# What a conversion to seconds and back can change of a time.
_ROUNDED_NS = 2 * times.MICROSECOND


@dataclass(frozen=True)
class RouterAnswer:
    """What a router answered.

    `twin`: the answer, of the shape of a twin; None: it did not answer, and `failed` says why.
    `code`: the exit code of its answer.
    """

    router: Router
    twin: Json | None = None
    failed: str = ""
    code: int = ExitCode.OK
    persons: list[Json] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """If it says that its log has every connection of that time."""
        return self.twin is not None and self.twin.get("complete") is True

    @property
    def why(self) -> str:
        """Why its answer is not proved; "" if it is."""
        if self.twin is None:
            return f"did not answer: {self.failed}"
        said = str(self.twin.get("why", ""))
        if self.code == ExitCode.FAILED and not said:
            return "could not read all of its log"
        return said or ("" if self.complete else "its log is not complete")


def ask(routers: Sequence[Router], question: Question, asking: Asking) -> list[RouterAnswer]:
    """The answers of all routers, in their order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        remote = {
            router: pool.submit(_guarded, router, question, asking)
            for router in routers
            if router.host
        }
        here = _ask_all_here([each for each in routers if not each.host], question, asking)
        found = {**here, **{router: future.result() for router, future in remote.items()}}
    return [found[router] for router in routers]


def _ask_all_here(
    routers: Sequence[Router], question: Question, asking: Asking
) -> dict[Router, RouterAnswer]:
    """The answers of routers whose archives are asked from this machine.

    A database that hangs is not waited for again for each of its routers.
    """
    found: dict[Router, RouterAnswer] = {}
    silent: dict[str, str] = {}
    for router in routers:
        if router.where in silent:
            found[router] = RouterAnswer(router, failed=silent[router.where])
            continue
        try:
            found[router] = _ask_here(router, question, asking)
        except (CtrecorderError, OSError) as error:
            found[router] = _failed(router, error)
            if router.folder != router.where and not isinstance(error, NoSegmentsError):
                silent[router.where] = found[router].failed
    return found


def _guarded(router: Router, question: Question, asking: Asking) -> RouterAnswer:
    """The answer of a router by ssh; whatever fails is about that router alone."""
    try:
        return _ask_there(router, question, asking)
    except (CtrecorderError, OSError) as error:
        return _failed(router, error)


def _failed(router: Router, error: Exception) -> RouterAnswer:
    return RouterAnswer(router, failed=printable(str(error))[: program.MAX_WHY])


def _ask_here(router: Router, question: Question, asking: Asking) -> RouterAnswer:
    (answered,) = answer_all([question], replace(asking, archive=(router.folder,)))
    return _checked(router, twin(answered), answered.code, question)


def _ask_there(router: Router, question: Question, asking: Asking) -> RouterAnswer:
    words = shlex.join(_words(router, question, asking))
    command = [*program.ssh(), program.bare(router.host), words]
    ran = program.run(command, seconds=ANSWER_SECONDS, most_bytes=_MAX_ANSWER)
    if ran.is_cut:
        return RouterAnswer(router, failed=f"its answer has more than {_MAX_ANSWER:,} bytes")
    try:
        found = json.loads(ran.out)
    except (ValueError, RecursionError):
        failed = ran.why or f"what it said is no answer (exit code {ran.code})"
        return RouterAnswer(router, failed=failed)
    return _checked(router, found, ran.code, question)


def _words(router: Router, question: Question, asking: Asking) -> list[str]:
    """The command there: the time is one instant in UTC, and the tolerance half of the window, so
    that it is read in one way everywhere.
    """
    begin, end = question.window.begin, max(question.window.end, question.window.begin + 1)
    middle = (begin + end) // 2
    tolerance = (end - begin) / 2 / times.SECOND + question.tolerance
    second, rest = divmod(middle, times.SECOND)
    words = ["ctwho", str(question.target), f"@{second}.{rest:09}", "--format", "json"]
    words += ["--tolerance", f"{min(tolerance, MAX_TOLERANCE_SECONDS):.9f}"]
    words += ["--to", str(question.remote)] if question.remote else []
    for number in sorted(question.protocols):
        words += ["--protocol", labels.protocol(number)]
    words += ["-d", router.folder] if router.folder else []
    words += ["--trust-clock"] if asking.trust_clock else []
    words += ["--case", asking.case] if asking.case else []
    by = f"asked by {asking.login} at {asking.here[0]}"
    return [*words, "--reason", f"{by}: {asking.reason}" if asking.reason else by]


def _checked(router: Router, found: object, code: int, question: Question) -> RouterAnswer:
    """The answer `found`, if it is one to `question`.  Raises TwinError."""
    (known,) = twins.known(found)["questions"]
    version = known.get("evidence", {}).get("version", "no version")
    if version != f"ctrecorder {__version__}":
        return RouterAnswer(router, failed=f"has {version}, here is ctrecorder {__version__}")
    asked = known["question"]
    if known["verdict"] != "CANNOT BE ASKED" and not _is_asked(asked, question):
        return RouterAnswer(router, failed="answered another question")
    window = question.window
    persons = [
        {**one, "only_by_tolerance": _is_outside(one, window.begin, window.end)}
        for one in known.get("persons", [])
    ]
    return RouterAnswer(router, known, code=code, persons=persons)


def _is_asked(asked: Json, question: Question) -> bool:
    """If a router searched all of the time, for the address and port that were asked."""
    spread = int(question.tolerance * times.SECOND) - _ROUNDED_NS
    port = asked.get("id" if question.asks_icmp else "port")
    return (
        (asked.get("address"), port) == tuple(question.target)
        and "since" in asked
        and "until" in asked
        and nanoseconds(asked["since"]) <= question.window.begin - spread
        and nanoseconds(asked["until"]) >= question.window.end + spread
    )


def _is_outside(person: Json, begin: int, end: int) -> bool:
    """If all connections had ended before the very time, or began after it."""
    ended = "end" in person and nanoseconds(person["end"]) < begin
    begun = "start" in person and nanoseconds(person["start"]) >= max(end, begin + 1)
    return ended or begun
