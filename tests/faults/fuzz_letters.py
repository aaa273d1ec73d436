"""What a stranger's letter may do to the reader: nothing but be read, or said to be of no use.

    python3 -m tests.faults.fuzz_letters COUNT [SEED]

reads COUNT letters, each with one change: no crash, no hang, no question that the letter does not
ask.  1,000,000 take some hours.  What fails is written to the file `letter-SEED-NUMBER`.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.support.letter_mutations import MOST_SECONDS, Original, check, mutated
from tests.support.letters import FORMS, PORT, PROTOCOL, REMOTE, UNTIL, Form, Question, Style

TWINS = Path(__file__).resolve().parents[1] / "data" / "letters"


def question(form: Form, source: random.Random) -> Question:
    """A question that the form can ask."""
    number = source.randrange(12_000, 51_000) if PORT in form.says else None
    address = source.choice(
        [f"198.51.100.{source.randrange(1, 255)}", f"2001:db8::{source.randrange(1, 9999)}:77"]
    )
    second = source.randrange(1_764_547_200, 1_795_564_800) // 60 * 60
    return Question(
        address,
        number,
        form.role if number else "none",
        second,
        second + 60 if UNTIL in form.says else None,
        "192.0.2.80" if REMOTE in form.says else None,
        443 if REMOTE in form.says else None,
        "tcp" if PROTOCOL in form.says else None,
    )


def originals(source: random.Random) -> list[Original]:
    """A letter of each form, and the invented ones."""
    made = []
    for form in FORMS.values():
        count = 1 if form.one or form.same else source.randrange(1, 4)
        questions = [question(form, source) for _ in range(count)]
        for shuffle in (False, True):
            style = Style(fold=shuffle, shuffle=shuffle, order=source)
            made.append(form.make(questions, style))
    made += [path.read_bytes() for path in sorted(TWINS.iterdir())]
    return [Original.of(data) for data in made]


def run(count: int, seed: int) -> None:
    """Read `count` letters with one change each.  Raises what is wrong with one."""
    source = random.Random(seed)
    letters: list[Original] = []
    for number in range(count):
        if number % 5_000 == 0:
            letters = originals(source)
        original = letters[number % len(letters)]
        data, start, end = mutated(original.data, source)
        since = time.process_time()
        try:
            check(original, data, start, end)
            if time.process_time() - since > MOST_SECONDS:
                raise AssertionError(f"took {time.process_time() - since:.0f} s of CPU")
        except Exception:
            Path(f"letter-{seed}-{number}").write_bytes(data)
            raise
        if number % 50_000 == 0:
            print(f"{number:,}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 1)
