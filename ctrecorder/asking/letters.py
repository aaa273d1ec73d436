"""ctwho --letter: the questions of letters, answered, or shown and not asked."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ctrecorder.asking import pages
from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ctrecorder.cases.letter import LetterAnswered
    from ctrecorder.cases.state import State
    from ctrecorder.inquiry.ask import Asking
    from ctrecorder.inquiry.question import Question
    from ctrecorder.inquiry.verdicts import Judged
    from ctrecorder.letters.sighting import Letter
    from ctrecorder.page.pack import Letter as PackedLetter
    from ctrecorder.service.audit import Audit

# A letter is at most this long: see envelopes.bounds.
_MAX_TABLE_BYTES = 64 << 20


def check_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if not args.letter:
        for name in ("dry_run", "state", "reply"):
            if getattr(args, name):
                raise UsageError(f"--{name.replace('_', '-')} needs --letter")
        return
    if args.words or args.to or args.protocol:
        raise UsageError(
            "--letter: the letter has the questions: no ADDRESS, TIME, --to, --protocol"
        )
    if args.dry_run and (args.state or args.reply or args.evidence_pack or args.hold):
        raise UsageError("--dry-run asks nothing: no --state, --reply, --hold, --evidence-pack")
    if args.dry_run and args.format not in ("text", "json"):
        raise UsageError("--dry-run has --format text or json only")


def dry_run(args: argparse.Namespace) -> int:
    """Print the questions; returns FAILED if one could not be asked."""
    from ctrecorder.cases import screen, twin
    from ctrecorder.cases.letter import questions_of
    from ctrecorder.inquiry.twin import question_json

    texts, code = [], ExitCode.OK
    for letter in letters_of(args, time.time_ns(), None):
        asked = questions_of(letter, args.tolerance)
        if not asked or any(one.why_not for one in asked):
            code = ExitCode.FAILED
        if args.format == "json":
            found = [question_json(one, None if one.why_not else one.query()) for one in asked]
            objects = [{"question": one} for one in found]
            whole = {**twin.letter_head(letter), "questions": objects}
            texts.append(f"{json.dumps(whole)}\n")
        else:
            texts.append(screen.questions(letter, asked, utc=args.utc))
    _write(args, "" if args.format == "json" else "\n", texts)
    return code


def answer(args: argparse.Namespace, asking: Asking, setting: str) -> int:
    """Answer letters, each question with its entry in the journal; returns the exit code.

    `setting`: of the audit.
    """
    from ctrecorder.cases.letter import answer_letters
    from ctrecorder.inquiry.verdicts import code_of_letter

    failed = audit_of(args, setting, [])  # a reason may be required, before anything is read
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(_state(args.state)) if args.state else None
        letters = letters_of(args, asking.now, state)
        found = []
        try:
            answered = answer_letters(letters, asking, args.tolerance, wait=args.wait)
            for one in _one_of(args, answered):
                found.append(one)
                _report(args, one)
        except BaseException:
            failed.record()  # what fails was a question as well
            raise
        if not found:
            common.report("ctwho", f"{args.letter}: no {'new ' if state else ''}letters")
        try:
            _write(args, *_as_text(args, found))
            _write_files(args, found)
            written = True
        except BaseException:
            written = False
            raise
        finally:
            for one in found:
                _audit_all(args, setting, one, written=written)
        for one in found:
            if state is not None and _is_done(one):
                state.add(one.letter, [each.judged.word.value for each in one.answers])
    held = pages.hold(args, [each for one in found for each in one.answers])
    return code_of_letter([*(one.code for one in found), *held])


def _state(path: str) -> State:
    from ctrecorder.cases.state import State

    return State(path)


def letters_of(args: argparse.Namespace, now: int, state: State | None) -> Iterator[Letter]:
    """The letters that were not answered before."""
    from ctrecorder.letters.read import read_path

    zone = "UTC" if args.utc else args.zone or ""
    for letter in read_path(args.letter, now, zone):
        if state is None or not letter.sha256 or not state.has(letter):
            yield letter


def _one_of(
    args: argparse.Namespace, answered: Iterator[LetterAnswered]
) -> Iterator[LetterAnswered]:
    """The letters; of two, if the answer can be of one only, an error."""
    only = "--reply" if args.reply else "--evidence-pack" if args.evidence_pack else ""
    only = only or ("--format html" if args.format == "html" else "")
    for number, one in enumerate(answered):
        if number and only:
            raise UsageError(f"{only}: for one letter only; {args.letter} has more")
        yield one


def _is_done(one: LetterAnswered) -> bool:
    """If the letter need not be answered again: nothing failed or could not be asked, and nothing
    is to come.
    """
    from ctrecorder.inquiry.verdicts import Word

    to_come = any(each.judged.word is Word.NOT_YET for each in one.answers)
    return bool(one.letter.sha256) and one.code is not ExitCode.FAILED and not to_come


def _as_text(
    args: argparse.Namespace, found: Sequence[LetterAnswered]
) -> tuple[str, Sequence[str]]:
    """What separates the letters, and each as text in the format that was chosen."""
    if args.format == "json":
        return "", [f"{json.dumps(pages.letter_twin(args, one))}\n" for one in found]
    if args.format == "html":
        from ctrecorder.page import answer as page

        return "", [
            page.html(pages.with_checks(args, pages.letter_twin(args, one))) for one in found
        ]
    if args.format == "csv":
        from ctrecorder.cases import table

        text = _table_of(found[0].letter) if len(found) == 1 else ""
        if text:
            return "", [table.with_rows_of(found[0], text)]
        return "", [table.head_of_letters(), *map(table.of_letter, found)]
    from ctrecorder.cases import screen

    return "\n", [screen.text(one, utc=args.utc, connections=args.connections) for one in found]


def _table_of(letter: Letter) -> str:
    """The text of a letter that is a table in a file of its own; else ""."""
    from ctrecorder.envelopes.text import decode

    packed = _packed(letter) if letter.form.endswith("CSV") else None
    parts = {sighting.address.place.part for sighting in letter.sightings}
    return decode(packed.data, "")[0] if packed and parts == {""} else ""


def _packed(letter: Letter) -> PackedLetter | None:
    """The letter with its bytes, if it is a file of its own that has not changed."""
    from ctrecorder.page.pack import Letter as Packed

    try:
        with Path(letter.file).open("rb") as file:
            data = file.read(_MAX_TABLE_BYTES)
    except OSError:
        return None
    is_same = sha256(data).hexdigest() == letter.sha256
    return Packed(os.path.basename(letter.file), data) if is_same else None


def _write(args: argparse.Namespace, between: str, texts: Sequence[str]) -> None:
    pages.write(args, between.join(texts))


def _write_files(args: argparse.Namespace, found: Sequence[LetterAnswered]) -> None:
    """The draft of a reply, and the pack of evidence."""
    from ctrecorder.cases import reply
    from ctrecorder.inquiry import output

    for one in found:
        if args.reply:
            output.write_new(args.reply, reply.draft(one))
        if args.evidence_pack:
            whole = pages.letter_twin(args, one)
            pages.write_whole_pack(args, whole, _packed(one.letter))


def _report(args: argparse.Namespace, one: LetterAnswered) -> None:
    if one.letter.problem:
        common.report("ctwho", f"{one.letter.file}: {one.letter.problem}")
    pages.report(args, one.answers)


def _audit_all(
    args: argparse.Namespace, setting: str, one: LetterAnswered, *, written: bool
) -> None:
    """An entry for each question."""
    for answered in one.answers:
        rows, judged = answered.connections, answered.judged
        audit(args, setting, one.letter, answered.question, rows, judged, written=written)


def audit(
    args: argparse.Namespace,
    setting: str,
    letter: Letter,
    question: Question,
    rows: int,
    judged: Judged,
    *,
    written: bool = True,
) -> None:
    """The entry for a question of a letter, and its answer."""
    words = [str(question.target), question.window.text]
    words += ["--to", str(question.remote)] if question.remote else []
    entry = audit_of(args, setting, words)
    entry.letter = letter.sha256
    entry.rows, entry.written = rows, written
    entry.verdict, entry.proved = judged.word.value, judged.proved
    entry.record()


def audit_of(args: argparse.Namespace, setting: str, words: list[str]) -> Audit:
    """The entry for a question of the letter; raises UsageError if a reason is missing."""
    from ctrecorder.service.audit import Audit

    return Audit(setting, ["--letter", args.letter, *words], args.reason, "ctwho", args.case)
