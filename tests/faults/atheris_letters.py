"""Atheris looks for a letter that the reader does not survive, or reads what does not stand there.

    PYTHONPATH=.:.venv/atheris-3.0.0 python3 tests/faults/atheris_letters.py FOLDER \\
        -max_total_time=3600

FOLDER keeps what it found interesting; what did more is a file `crash-*` here.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["ctrecorder.letters", "ctrecorder.envelopes"]):
        import ctrecorder.letters.read  # noqa: F401
    from tests.faults.fuzz_letters import originals
    from tests.support.letter_mutations import Original, check

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, original in enumerate(originals(random.Random(1))):
        (folder / f"seed-{number}").write_bytes(original.data)
    everywhere = ((0, 2**60),)

    def one(data: bytes) -> None:
        check(Original(data, (), everywhere), data, 0, 1)

    atheris.Setup([sys.argv[0], *sys.argv[1:], "-max_len=20000"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
