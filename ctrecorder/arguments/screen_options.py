"""The options of ctlist for the screen: columns, order, colour, pager.  No numpy."""

from __future__ import annotations

import argparse

from ctrecorder.errors import UsageError

COLUMNS = (
    *("time", "ev", "proto", "inside", "public", "remote", "server", "duration"),
    *("bytes", "packets"),
)
FORMATS = ("text", "screen", "classic", "conntrack", "json", "csv")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    screen = parser.add_argument_group("columns, order, and the screen")
    screen.add_argument(
        "-F", "--follow", action="store_true", help="print events as they are recorded"
    )
    screen.add_argument(
        "--columns",
        metavar="COLUMN,...",
        help="time, ev, proto, inside, public, remote, server, duration, bytes, packets, or a key "
        "of --format json",
    )
    screen.add_argument(
        "--sort",
        metavar="COLUMN,...",
        help="in order of these columns; -COLUMN: the greatest first",
    )
    screen.add_argument(
        "--times",
        choices=("kernel", "heard"),
        default="kernel",
        metavar="WHICH",
        help="ends are dated by the kernel, as with -s (default), or when they were heard of",
    )
    screen.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        metavar="WHEN",
        help="auto (on a terminal, without NO_COLOR), always or never",
    )
    screen.add_argument("--no-pager", action="store_true", help="use no pager on a terminal")
    completers = {"--columns": columns, "--sort": columns, "--format": formats}
    for action in parser._actions:
        for name in action.option_strings:
            if name in completers:
                vars(action)["completer"] = completers[name]
                if name == "--format":
                    vars(action)["words"] = FORMATS  # for who writes --json


def columns(prefix: str, **_: object) -> list[str]:
    """Columns for the shell's completion, as a list with commas."""
    before, comma, _last = prefix.rpartition(",")
    return [f"{before}{comma}{name}" for name in COLUMNS if name not in before.split(",")]


def formats(prefix: str, **_: object) -> list[str]:
    """Formats for the shell's completion."""
    return list(FORMATS)


def form(text: str) -> str:
    """A value of --format: a name, or a template with a brace."""
    if text in FORMATS or "{" in text:
        return text
    raise argparse.ArgumentTypeError(
        f"no '{text}' here: choose from {', '.join(FORMATS)}, or write a template such as "
        "'{time} {inside} {remote}'"
    )


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for what does not go together."""
    if args.columns is not None and args.format in ("classic", "conntrack"):
        raise UsageError(f"--columns: the columns of --format {args.format} are fixed")
    if args.columns is not None and "{" in args.format:
        raise UsageError("--columns: the columns of a template are those in its braces")
    if args.headers and (args.columns is not None or args.sort):
        raise UsageError("--columns and --sort are about rows: not with -H")
