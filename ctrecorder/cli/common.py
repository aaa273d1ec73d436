"""The parts that all commands share: the parser, and one handler for every error.

No numpy here: a command's parser must be built, and completion answer, within 0.15 s.  A command is

    def main(argv: list[str] | None = None) -> int:
        return common.run(build_parser(), list_connections, argv)

where `list_connections(args)` imports what it needs, does the job and returns the exit code.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from ctrecorder import __version__
from ctrecorder.errors import CtrecorderError, ExitCode, UsageError, why
from ctrecorder.terminal import printable

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
# New objects after which Python looks for unused cycles (its default: 700).  With fewer, it looks
# dozens of times while modules are imported; with more, unused cycles take megabytes.
_OBJECTS_PER_COLLECTION = 30_000

# Longer lines do not make an option's text easier to read on a wider terminal.
HELP_COLUMNS = 80


# What argparse says in the words of Python.
_PLAIN = (
    (re.compile(r"argument (\S+): invalid float value: (.*)", re.DOTALL), r"\1: no number: \2"),
    (re.compile(r"argument (\S+): invalid int value: (.*)", re.DOTALL), r"\1: no number: \2"),
    (
        re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)", re.DOTALL),
        r"\1: no \2 here: choose from \3",
    ),
)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits 80 columns, or a narrower terminal; the epilog's examples keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(
            prog,
            max_help_position=26,
            width=min(shutil.get_terminal_size().columns, HELP_COLUMNS) - 1,
        )


class Parser(argparse.ArgumentParser):
    """A command's parser.

    `summary`: one or two lines.  `examples`: pairs of a command line and its purpose.  `section`:
    that of the manual page.  A bad argument raises UsageError, so that it ends as one line like any
    other error.  `abbreviated`: the beginning of a long option is enough, as for journalctl.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        examples: Sequence[tuple[str, str]],
        section: int,
        *,
        abbreviated: bool = False,
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
            allow_abbrev=abbreviated,
            add_help=False,
        )
        self.general = self.add_argument_group("general")
        self.general.add_argument("-h", "--help", action="help", help="show this help and exit")
        version = f"{name} (ctrecorder) {__version__}"
        self.general.add_argument(
            "--version", action="version", version=version, help="show the version and exit"
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        for pattern, plain in _PLAIN:
            message = pattern.sub(plain, message)
        unknown = re.fullmatch(r"unrecognized arguments: (-\S+).*", message, re.DOTALL)
        if unknown:
            message = f"no option {unknown[1]}{self._meant(unknown[1])}"
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _meant(self, option: str) -> str:
        """What may have been meant by an option that does not exist: ": did you mean ...?"."""
        import difflib

        name = option.partition("=")[0]
        known = [each for action in self._actions for each in action.option_strings]
        near = difflib.get_close_matches(name, known, 2, 0.6)
        for action in self._actions:
            if name.removeprefix("--") in vars(action).get("words", action.choices or ()):
                near = [f"{action.option_strings[-1]} {name.removeprefix('--')}"]
        return f": did you mean {' or '.join(near)}?" if near else ""


def run(
    parser: Parser,
    body: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
    *,
    intermixed: bool = False,
) -> int:
    """Parse `argv` (default: the command line), call `body`, return the exit code.

    `intermixed`: options can be between the arguments.

    Every error ends here, as one line on stderr, or as an error in the journal of a unit.  A closed
    pipe is no error: the reader may stop when it has read enough.
    """
    # Before numpy is imported.  No command multiplies matrices: the threads that OpenBLAS starts
    # cost 100 ms of CPU, and where memory is too short for them it spins for ever.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nearly all objects of a command are its modules.  Looking for cycles among them while they are
    # made, and again when the interpreter ends, takes a tenth of the CPU of a short command.
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    atexit.register(gc.freeze)
    try:
        try:
            if "_ARGCOMPLETE" in os.environ:
                _complete(parser)
            parse = parser.parse_intermixed_args if intermixed else parser.parse_args
            return body(parse(_join_values(sys.argv[1:] if argv is None else argv)))
        except SystemExit as stop:  # argparse, after --help and --version
            return stop.code if isinstance(stop.code, int) else ExitCode.OK
        finally:
            if sys.stdout is not None:  # None: closed by the caller
                sys.stdout.flush()
    except CtrecorderError as error:
        for line in getattr(error, "context", ()):
            report(parser.prog, line)
        fail(parser.prog, str(error))
        return error.code
    except BrokenPipeError:
        _discard_stdout()
        return ExitCode.OK
    except KeyboardInterrupt:
        _discard_stdout()
        return INTERRUPTED
    except OSError as error:
        _discard_stdout()
        fail(parser.prog, describe(error))
        return ExitCode.FAILED
    except MemoryError:
        fail(parser.prog, "out of memory")
        return ExitCode.FAILED
    except SystemError as error:  # some extensions lose the MemoryError that they were given
        fail(parser.prog, f"Python failed, as it does when memory is short: {error}")
        return ExitCode.FAILED
    except ImportError as error:
        fail(parser.prog, _describe_import(error))
        return ExitCode.FAILED


def archive(name: str, config: str | None = None) -> list[str]:
    """The folder of segments, for a question of the command `name` that names none.

    It does not depend on other settings.  If the setting of it is wrong, a line says what is read.
    """
    from ctrecorder.service.config import read

    folder, wrong = read(config).folder()
    if wrong:
        report(name, wrong)
    return [folder]


def jobs(chosen: int | None) -> int:
    """How many processes read: as many as were chosen, else 2 at a terminal with 2 CPUs, and 1 in a
    unit or a script.  Raises UsageError.
    """
    if chosen is not None and chosen < 1:
        raise UsageError("-j: must be at least 1")
    if chosen is not None:
        return chosen
    is_at_terminal = any(os.isatty(descriptor) for descriptor in range(3))
    return min(2, len(os.sched_getaffinity(0))) if is_at_terminal else 1


def check_local_time(*, utc: bool) -> None:
    """Raise UsageError if local time is used, and the variable TZ names a zone that is unknown.

    The C library would take it for UTC in silence.
    """
    if not utc and os.environ.get("TZ"):
        from ctrecorder.moments.zones import check_tz

        check_tz(os.environ["TZ"])


def fail(name: str, line: str) -> None:
    """Report why a command ends: on stderr, or if that is the journal, there as an error."""
    if "JOURNAL_STREAM" in os.environ:
        from ctrecorder.service.log import Log
        from ctrecorder.service.messages import FAILED

        with Log(name) as log:
            if log.target == "journal":
                log.send(FAILED, line, error=line)
                return
    report(name, line)


def report(name: str, line: str) -> None:
    """Write "name: line" on stderr, as one line without a control character."""
    try:
        print(f"{name}: {printable(line)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # stderr is full or closed, so nothing can be reported.  Buffered text would make Python
        # 3.13 end with code 120.
        with contextlib.suppress(OSError):
            sys.stderr.close()


def describe(error: OSError) -> str:
    """The line for an error of the operating system: file and reason."""
    on_what = (
        error.filename
        if isinstance(error.filename, str)
        else os.fsdecode(error.filename or "reading or writing")
    )
    return f"{on_what}: {why(error)}"


def _describe_import(error: ImportError) -> str:
    """The line for a library that is missing or does not fit in memory."""
    # numpy's text has twenty lines of advice; the last one has the reason.
    line = (str(error).strip().splitlines() or ["unknown reason"])[-1]
    line = line.removeprefix("Original error was: ")
    if "failed to map" in line or "cannot allocate" in line:
        return f"out of memory: {line} (see ulimit -v)"
    return f"a library cannot be loaded: {line}; is a package missing?"


def write_out(data: bytes | bytearray) -> None:
    """Write all of `data` to stdout, without the copy in Python's buffer.  Raises OSError."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError as error:
        error.filename = "standard output"
        raise


def _wrapped(text: str) -> str:
    """`text` with each line wrapped at HELP_COLUMNS."""
    return "\n".join(textwrap.fill(line, HELP_COLUMNS - 1) for line in text.splitlines())


def _join_values(words: Sequence[str]) -> list[str]:
    """`argv` with `--since -2h` as `--since=-2h`.

    argparse takes -2h for an option; no option of ours begins with a digit.
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

    finder = argcomplete.CompletionFinder()
    quote = finder.quote_completions

    def with_meanings(completions: list[str], *rest: object) -> list[str]:
        """Quoted completions; zsh and fish show what they mean."""
        plain = list(completions)
        quoted: list[str] = quote(completions, *rest)
        for one, shown in zip(plain, quoted, strict=False):
            if meaning := completers.MEANINGS.get(one):
                # The keys are tuples in argcomplete 2, and texts in argcomplete 3.
                key = shown if hasattr(argcomplete, "finders") else (shown,)
                finder._display_completions[key] = meaning
        return quoted

    finder.quote_completions = with_meanings
    completers.attach(parser)
    finder(parser)


def _discard_stdout() -> None:
    """Redirect a stdout that failed to /dev/null: Python flushes at exit, and reports an error."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        pass
