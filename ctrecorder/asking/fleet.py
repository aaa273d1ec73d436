"""ctwho --fleet: one question to many routers."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ctrecorder.asking import pages

if TYPE_CHECKING:
    from ctrecorder.inquiry.ask import Asking
    from ctrecorder.inquiry.question import Question
    from ctrecorder.service.audit import Audit


def answer(
    args: argparse.Namespace,
    questions: Sequence[Question],
    asking_of: Callable[[argparse.Namespace, int], Asking],
    audit: Audit,
) -> int:
    """Ask the routers of the list, print one answer for each question; returns the exit code."""
    from ctrecorder.fleet import asking as fleet
    from ctrecorder.fleet import routers, shown
    from ctrecorder.fleet.verdict import judged
    from ctrecorder.inquiry.verdicts import code_of_letter

    listed = routers.read(args.fleet)
    asking = asking_of(args, time.time_ns())
    answers = [judged(one, fleet.ask(listed, one, asking)) for one in questions]
    audit.verdict = ", ".join(dict.fromkeys(one.judged.word.value for one in answers))
    audit.proved = all(one.judged.proved for one in answers)
    audit.rows = sum(len(one.persons) for one in answers)
    if args.format == "json":
        text = "".join(f"{json.dumps(shown.twin(one, asking))}\n" for one in answers)
    elif args.format == "csv":
        text = shown.csv(answers)
    else:
        text = "\n".join(shown.text(one, asking, utc=args.utc) for one in answers)
    pages.write(args, text)
    return code_of_letter([one.code for one in answers])
