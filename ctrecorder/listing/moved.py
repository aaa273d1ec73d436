"""ctlist --who: it is the command ctwho now; this prints the command that asks the same."""

from __future__ import annotations

import argparse
import shlex

from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError


def show(args: argparse.Namespace) -> int:
    """Print the ctwho command that asks the same, on stdout.  Returns FAILED.

    Raises UsageError if nothing was asked.
    """
    if not args.who or not args.at:
        raise UsageError("ask with ctwho ADDRESS:PORT TIME: see ctwho(1)")
    common.report("ctlist", "--who is a command of its own now; this asks the same:")
    common.write_out(f"{shlex.join(command(args))}\n".encode("utf-8", "surrogateescape"))
    return ExitCode.FAILED


def command(args: argparse.Namespace) -> list[str]:
    """The words of the ctwho command."""
    words = ["ctwho", _bracketed(args.who), args.at]
    if args.to:
        words += ["--to", _bracketed(args.to)]
    for protocol in args.protocol:
        words += ["--protocol", protocol]
    if args.tolerance is not None:
        words += ["--tolerance", f"{args.tolerance:g}"]
    words += ["--format", args.format] if args.format != "text" else []
    words += ["--utc"] if args.utc else []
    words += ["--wait"] if args.wait else []
    words += ["--reason", args.reason] if args.reason else []
    words += ["-v"] if args.verbose else []
    for path in [*args.paths, *args.files]:
        words += ["-d", path]
    return words


def _bracketed(end: str) -> str:
    """An address as ctwho reads it: --who took `2001:db8::1:443` for an address."""
    return f"[{end}]" if end.count(":") > 1 and not end.startswith("[") else end
