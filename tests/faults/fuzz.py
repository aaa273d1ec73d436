"""What a stranger's segment may do to the reader and the commands: nothing but be refused.

    PYTHONPATH=.:.venv/atheris-3.0.0 python3 tests/faults/fuzz.py FOLDER -max_total_time=3600

lets atheris look for one that does more.  FOLDER keeps what it found interesting, FOLDER.scratch
the last one; what did more is a file `crash-*` here, and goes to tests/data/fuzz.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path


def exercise(path: Path) -> None:
    """Read all of a file, list it in every way, check it, squeeze it.

    Raises whatever is not a refusal in order.
    """
    from ctrecorder.cli import ctsqueeze, cttest
    from ctrecorder.listing import ctlist

    read_all(path)
    squeezed = path.with_name("squeezed")
    commands = [
        (cttest.main, [str(path)]),
        (ctlist.main, [str(path), "--event", "new,destroy,existing"]),
        (
            ctlist.main,
            [str(path), "-s", "--format", "json", "-i", "10.0.0.0/8", "-i", "fd00::/8", "-p", "7"],
        ),
        (ctlist.main, [str(path), "-H"]),
        (ctsqueeze.main, ["-f", str(path), "-o", str(squeezed)]),
    ]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), as_in_a_process():
        codes = [command(arguments) for command, arguments in commands]
        if codes[-1] == 0:
            codes.append(cttest.main([str(squeezed)]))
            if codes[-1]:
                raise AssertionError(f"what ctsqueeze made is not whole: {said.getvalue()}")
            squeezed.unlink()
    text = said.getvalue()
    if "Traceback" in text or "out of memory" in text:
        raise AssertionError(text)
    if squeezed.exists():
        raise AssertionError("ctsqueeze failed, and left a file")
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text):
        raise AssertionError(f"a control character reaches the terminal: {text!r}")


@contextlib.contextmanager
def as_in_a_process() -> Iterator[None]:
    """Close what a command leaves open, as the end of its process does."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    for fd in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):
            os.close(int(fd))


def read_all(path: Path) -> None:
    """Every block, by the reader alone."""
    from ctrecorder.archive.open import open_segment
    from ctrecorder.ctlog.frame import TABLES
    from ctrecorder.errors import CtrecorderError

    try:
        segment = open_segment(str(path))
    except CtrecorderError:
        return
    with segment:
        for block in segment.blocks_of(*TABLES):
            with contextlib.suppress(CtrecorderError):
                segment.read(block)
        assert segment.gaps is not None
        assert segment.marks is not None


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["ctrecorder"]):
        import ctrecorder.archive.open
        import ctrecorder.check.verify
        import ctrecorder.cli.ctsqueeze
        import ctrecorder.cli.cttest
        import ctrecorder.listing.ctlist
        import ctrecorder.maintain.squeeze_all
        import ctrecorder.query.connections
        import ctrecorder.query.events
        import ctrecorder.render.renderer  # noqa: F401
    from tests.support.forge import kept, reseal, seeds

    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*seeds(), *(path.read_bytes() for path in kept())]):
        (corpus / f"seed-{number}").write_bytes(data)
    path = corpus.with_name(f"{corpus.name}.scratch")
    path.mkdir(exist_ok=True)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)

    def one(data: bytes) -> None:
        # The first byte says whether a stranger made the hashes right, or a disk changed bytes.
        (path / "segment").write_bytes(reseal(data[1:]) if data[:1] < b"\xc0" else data[1:])
        exercise(path / "segment")

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], *sys.argv[1:], "-max_len=20000"], one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
