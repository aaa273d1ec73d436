"""What the commands share: the parser's manners, and one handler for every error.

No numpy here: a command's parser must be built, and completion answer, within 0.15 s.  A command is

    def main(argv: list[str] | None = None) -> int:
        return common.run(build_parser(), list_connections, argv)

where `list_connections(args)` imports what it needs, does the job and returns the exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from ctrecorder import __version__
from ctrecorder.errors import CtrecorderError, UsageError, why
from ctrecorder.terminal import printable

OK, NO, FAILED = 0, 1, 2
# ctrecord --netns: the namespace was deleted.  A status of its own: systemd must not try again
# before the name exists.
GONE = 4
INTERRUPTED = 130  # 128 + SIGINT, as shells say it

# A page is 80 columns; a wider terminal does not make an option's text easier to read.
HELP_COLUMNS = 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits 80 columns, or a narrower terminal; the epilog's examples keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(
            prog,
            max_help_position=26,
            width=min(shutil.get_terminal_size().columns, HELP_COLUMNS) - 1,
        )


class Parser(argparse.ArgumentParser):
    """A command's parser.  `summary` is one line, `examples` pairs of a command line and what it is
    for, `section` the manual's.

    A bad argument raises UsageError, so that it ends as one line like any other error.  Options
    have no abbreviations: a script that uses one would break with the next option.
    """

    def __init__(
        self, name: str, summary: str, examples: Sequence[tuple[str, str]], section: int
    ) -> None:
        lines = ["examples:"]
        for command, purpose in examples:
            lines += [f"  {command}", f"      {purpose}"]
        lines += ["", f"manual: man {section} {name}"]
        super().__init__(
            prog=name,
            description=_wrapped(summary),
            epilog="\n".join(lines),
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.general = self.add_argument_group("general")
        self.general.add_argument("-h", "--help", action="help", help="show this help and exit")
        version = f"{name} (ctrecorder) {__version__}"
        self.general.add_argument(
            "--version", action="version", version=version, help="show the version and exit"
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError: the one line that a bad argument ends in."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def run(
    parser: Parser, body: Callable[[argparse.Namespace], int], argv: Sequence[str] | None = None
) -> int:
    """Parse `argv` (default: the command line), call `body`, return the exit code; every error ends
    here, in one line on stderr.

    A closed pipe is no error: whoever reads has had enough.
    """
    try:
        try:
            if "_ARGCOMPLETE" in os.environ:
                _complete(parser)
            return body(parser.parse_args(_join_values(sys.argv[1:] if argv is None else argv)))
        except SystemExit as stop:  # argparse, after --help and --version
            return stop.code if isinstance(stop.code, int) else OK
        finally:
            if sys.stdout is not None:  # None: closed by the caller
                sys.stdout.flush()
    except CtrecorderError as error:
        report(parser.prog, str(error))
        return error.code
    except BrokenPipeError:
        _discard_stdout()
        return OK
    except KeyboardInterrupt:
        _discard_stdout()
        return INTERRUPTED
    except OSError as error:
        _discard_stdout()
        report(parser.prog, describe(error))
        return FAILED
    except MemoryError:
        report(parser.prog, "out of memory")
        return FAILED


def report(name: str, line: str) -> None:
    """Write "name: line" on stderr, as one line without a control character."""
    try:
        print(f"{name}: {printable(line)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # stderr is full or closed: there is no one left to tell.  What waits to be written would
        # make Python 3.13 end with code 120.
        with contextlib.suppress(OSError):
            sys.stderr.close()


def describe(error: OSError) -> str:
    """The line for an operating system's error: on what, and why."""
    on_what = (
        error.filename
        if isinstance(error.filename, str)
        else os.fsdecode(error.filename or "reading or writing")
    )
    return f"{on_what}: {why(error)}"


def write_out(data: bytes | bytearray) -> None:
    """Write all of `data` to stdout, past Python's buffer, which would copy it.  Raises OSError."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError as error:
        error.filename = "standard output"
        raise


def _wrapped(text: str) -> str:
    """Each line of `text` as lines that fit."""
    return "\n".join(textwrap.fill(line, HELP_COLUMNS - 1) for line in text.splitlines())


def _join_values(words: Sequence[str]) -> list[str]:
    """Take `--since -2h` as `--since=-2h`, which argparse holds for an option: none of ours begins
    with a digit.
    """
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        if re.match(r"-\d", word) and last.startswith("--") and len(last) > 2 and "=" not in last:
            joined[-1] = f"{last}={word}"
        else:
            joined.append(word)
    return joined


def _complete(parser: Parser) -> None:
    """Answer the shell's completion and exit (argcomplete does)."""
    import argcomplete

    from ctrecorder.cli import completers

    completers.attach(parser)
    argcomplete.autocomplete(parser)


def _discard_stdout() -> None:
    """Let nothing more be written to a stdout that failed: Python would complain at exit when it
    flushes.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        pass
