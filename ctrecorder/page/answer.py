"""The page of an answer: HTML in one file, without script, for a screen and for A4.

It is made from the JSON twin alone and has the twin in it: `verify` makes the page again and
compares, so that no word of it can be changed unseen.  A page of other words, for the same twin, is
another FORM.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from ctrecorder.page import mail_text, sections, twin, words
from ctrecorder.page.markup import (
    Content,
    Markup,
    content,
    facts,
    name_of,
    quoted,
    table,
    tag,
)
from ctrecorder.page.shape import Json
from ctrecorder.page.style import policy, style

FORM = 1
GENERATOR = "ctwho, form "
TWIN_BEGINS, TWIN_ENDS = '\n<pre id="twin">', "</pre>"
_RECEIPT_TIMES = ("since", "until", "deleted")
_DOCTYPE = "<!DOCTYPE html>"


def html(whole: Json) -> str:
    """The page of a twin.  Raises TwinError."""
    answers = twin.known(whole)
    spelled = twin.spelling(whole)
    digest = twin.digest(spelled)
    sheet = style(digest)
    title = _title(answers)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(sheet)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="robots", content="noindex"),
        tag("meta", name="generator", content=f"{GENERATOR}{FORM}"),
        tag("title", title),
        tag("style", Markup(sheet)),
    )
    body = tag("body", tag("main", _main(answers, title, digest, spelled)))
    return f"{_DOCTYPE}{tag('html', head, body, lang='en')}\n"


def _title(answers: Json) -> str:
    asked = [one["question"] for one in answers["questions"]]
    if len(asked) == 1:
        return f"Who had {words.ends(asked[0])}?"
    if not asked:
        return "A letter from which no question could be read"
    return f"Answers to {len(asked)} questions" + (" of a letter" if "letter" in answers else "")


def _main(answers: Json, title: str, digest: str, spelled: str) -> Iterator[Content]:
    each = answers["questions"]
    yield tag("h1", title)
    yield _copy(answers)
    yield sections.common(answers)
    if len(each) == 1:
        yield sections.verdict(each[0])
        yield from _one(each[0], "h2", "")
    elif each:
        yield sections.overview(each)
        for number, answer in enumerate(each, 1):
            yield tag("h2", f"Question {number} of {len(each)}: {words.ends(answer['question'])}")
            yield sections.verdict(answer)
            yield from _one(answer, "h3", f" of question {number}")
    yield tag("h2", "Evidence")
    yield _evidence(answers)
    yield tag("h2", "Check this page")
    yield _check(answers, digest)
    yield tag("h2", "For a mail, and for programs", class_="screen")
    yield tag(
        "details",
        tag("summary", "The answer as plain text, to paste into a mail"),
        tag("pre", Markup("\n".join(map(content, mail_text.lines(answers, digest))))),
        class_="screen",
    )
    about = tag("summary", "The JSON twin, from which this page is made")
    spelled_out = Markup(f"{TWIN_BEGINS}{spelled}{TWIN_ENDS}")
    yield tag("details", about, spelled_out, class_="screen")


def _copy(answers: Json) -> Iterator[Content]:
    lacking = words.lacking_zones(answers)
    if answers.get("redacted"):
        yield tag("p", "This is a copy from which the remote ends are left out.", class_="note")
    if lacking:
        named = f"Not known here, so that only UTC is shown: {', '.join(lacking)}."
        yield tag("p", named, class_="note")


def _one(answer: Json, level: str, of: str) -> Iterator[Content]:
    """The sections about one question; `of` goes behind the names of its sections."""
    yield tag(level, f"Question{of}, as it was understood" if not of else "As it was understood")
    yield sections.question(answer)
    yield tag(level, f"Inside hosts{of}")
    yield sections.persons(answer)
    yield tag(level, f"Coverage of the log{of}")
    yield sections.coverage(answer)
    yield tag(level, f"Clock{of}")
    yield sections.clock(answer)


def _evidence(answers: Json) -> Iterator[Content]:
    each = answers["questions"]
    letter = words.letter(answers)
    versions = {one.get("evidence", {}).get("version", "") for one in each}
    yield facts([("Answered by", ", ".join(sorted(filter(None, versions))))])
    if letter:
        yield _letter(letter)
        about = "Addresses and times that were seen in the letter, and are not asked"
        yield sections.read_from(letter.get("seen", []), about)
    read: dict[str, tuple[Json, list[int]]] = {}
    for number, one in enumerate(each, 1):
        for segment in one.get("evidence", {}).get("segments", []):
            read.setdefault(repr(segment), (segment, []))[1].append(number)
    receipts = {repr(each): each for one in each for each in _receipts(one)}
    if receipts:
        yield table(
            ("Segment", "From", "Until", "Last hash, and of those before", "Deleted", "Reason"),
            map(_receipt, receipts.values()),
            "Segments that were deleted, by their receipts",
        )
    if not read:
        yield tag("p", "No segment of the log was read.")
        return
    several = len(each) > 1
    rows = (
        [*_segment(segment), *([_numbers(numbers)] if several else [])]
        for segment, numbers in read.values()
    )
    heads = ("Segment", "Host", "Chain", "No.", "Last hash", "Sealed", "Origin", "cttest(1)")
    yield table([*heads, *(["Questions"] if several else [])], rows, "Segments that were read")


def _receipts(one: Json) -> list[Json]:
    found: list[Json] = one.get("evidence", {}).get("receipts", [])
    return found


def _receipt(one: Json) -> list[Content]:
    times = [sections.moment(one[name], None) if name in one else "" for name in _RECEIPT_TIMES]
    hashes = [tag("p", tag("span", each, class_="hash")) for each in one.get("hashes", [])]
    return [name_of(one["file"]), *times[:2], hashes, times[2], tag("p", one.get("reason", ""))]


def _letter(letter: Json) -> Markup:
    return facts(
        [
            ("Letter", quoted(letter["file"]) if letter.get("file") else ""),
            ("SHA-256 of the letter", tag("span", letter["sha256"], class_="hash")),
            ("Message-ID", quoted(letter["message_id"]) if letter.get("message_id") else ""),
            ("Sender", name_of(letter["sender"]) if letter.get("sender") else ""),
            ("Their reference", name_of(letter["reference"]) if letter.get("reference") else ""),
            ("Form", letter.get("form", "")),
            ("Why nothing is asked", letter.get("problem", "")),
        ]
    )


def _segment(one: Json) -> list[Content]:
    sealed = {True: "yes", False: "no"}
    return [
        name_of(one["file"]),
        name_of(one["host"]) if one.get("host") else "",
        tag("span", one.get("chain", ""), class_="hash"),
        str(one.get("sequence", "")),
        tag("span", one.get("hash", ""), class_="hash"),
        sealed[one["sealed"]] if "sealed" in one else "",
        "imported" if one.get("imported") else "recorded",
        one.get("cttest", "not asked"),
    ]


def _numbers(numbers: list[int]) -> str:
    """ "1-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def check_command(answers: Json) -> str:
    """The command that checks a page, and the answer with it."""
    named: Iterable[str] = dict.fromkeys(
        path for one in answers["questions"] for path in one["question"].get("archive", [])
    )
    return " ".join(["ctwho --verify FILE.html", *map(shlex.quote, named)])


def _check(answers: Json, digest: str) -> Iterator[Content]:
    yield facts([("SHA-256 of the twin", tag("span", digest, class_="hash"))])
    yield tag("p", "Save this page as FILE.html. Where the log is, and without a network:")
    yield tag("pre", check_command(answers))
    yield tag(
        "p",
        "The command compares each byte of the page with its JSON twin, and asks the log the same "
        "question again. Without the archive it tells if the page was changed, but not who made "
        "it: whoever has ctwho can make a page. Segments that were deleted since can no longer be "
        "checked; that does not make the answer false.",
    )
