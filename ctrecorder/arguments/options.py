"""The options of ctlist, and which arguments are paths and which are the expression.  No numpy."""

from __future__ import annotations

import argparse
import os

from ctrecorder.arguments import screen_options, top_options
from ctrecorder.cli import common, privacy_options
from ctrecorder.errors import UsageError
from ctrecorder.filters.words import begins_expression

SUMMARY = """\
List or search recorded connections, in order of time over all log files (segments).
An EXPRESSION says which: see ctfilter(7). The options below are short forms of it."""
EXAMPLES = (
    (
        "ctlist -s 'src 192.0.2.7 and tcp dst port 25' --since yesterday",
        "the mail connections of a host, since yesterday 0:00",
    ),
    (
        "ctlist -i 192.0.2.7 -p 25 --since yesterday",
        "events with the address 192.0.2.7 and port 25, since yesterday 0:00",
    ),
    ("ctlist -s -o json /var/log/ctrecorder | jq .", "connections, one JSON object per line"),
)
STDIN = "-"


def build_parser() -> common.Parser:
    """The parser; `listing` interprets the values, with numpy."""
    parser = common.Parser("ctlist", SUMMARY, EXAMPLES, 1, abbreviated=True)
    _add_input(parser)
    _add_filters(parser)
    _add_who(parser)
    _add_coverage(parser)
    _add_output(parser)
    screen_options.add(parser)
    top_options.add(parser)
    privacy_options.add(parser)
    return parser


def _add_input(parser: common.Parser) -> None:
    where = parser.add_argument_group("what to read")
    where.add_argument(
        "words",
        nargs="*",
        metavar="PATH|EXPRESSION",
        help="segment, or folder of segments (default: the one in the configuration), or -: "
        "standard input; everything else is the expression",
    )
    where.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        default=[],
        metavar="PATH",
        help="the same as PATH",
    )
    where.add_argument(
        "--fleet", metavar="LIST", help="each router of a list, by folder or ssh; times are UTC"
    )
    where.add_argument(
        "--disk-usage", action="store_true", help="show the space that the segments take, and exit"
    )


def _add_filters(parser: common.Parser) -> None:
    what = parser.add_argument_group(
        "what to list (repeat one, or separate values by commas: one match is enough)"
    )

    def add(*names: str, metavar: str, text: str, dest: str | None = None) -> None:
        name = dest or names[-2 if len(names) > 1 and names[0].startswith("--") else -1]
        what.add_argument(
            *names,
            action="append",
            default=[],
            metavar=metavar,
            help=text,
            dest=name.lstrip("-"),
        )

    add(
        "-e",
        "--expression",
        dest="expressions",
        metavar="EXPRESSION",
        text="an expression; several must all match",
    )
    add(
        "-E",
        "--expression-file",
        dest="expression_files",
        metavar="TEXTFILE",
        text="a file with an expression",
    )
    add("-i", "--ip", metavar="IP/MASK", text="address or network, at any of the four endpoints")
    add("-p", "--port", metavar="PORT", text="port, name or range, at any of the four endpoints")
    for name, end in (("src", "source"), ("dst", "destination")):
        add(f"--{name}", metavar="IP/MASK", text=f"{end} of the original direction")
    for name, end in (("sport", "source"), ("dport", "destination")):
        add(f"--{name}", metavar="PORT", text=f"{end} port of the original direction")
    add(
        "--protocol",
        "--proto",
        metavar="PROTOCOL,...",
        text="tcp, udp, icmp, ..., or a number",
    )
    add("--nat", metavar="NAT,...", text="snat, dnat, or any")
    add("--zone", metavar="ZONE,...", text="conntrack zone")
    add("--mark", metavar="MARK,...", text="conntrack mark, or VALUE/MASK")
    add(
        "--event",
        metavar="EVENT,...",
        text="new, update, destroy, existing (default: the first three)",
    )
    what.add_argument(
        "--since",
        metavar="TIME",
        help="from TIME: 2026-11-23, '2026-11-23 18:17', 18:17, -2h, yesterday",
    )
    what.add_argument(
        "--until", metavar="TIME", help="up to the end of TIME: 2026-11-23 is the whole day"
    )


def _add_who(parser: common.Parser) -> None:
    who = parser.add_argument_group("who had an address: a command of its own, ctwho(1)")
    who.add_argument(
        "--who", metavar="ADDRESS:PORT", help="print the ctwho command that asks the same"
    )
    for name in ("--at", "--to"):
        who.add_argument(name, metavar="VALUE", help=argparse.SUPPRESS)
    who.add_argument("--tolerance", metavar="VALUE", type=float, help=argparse.SUPPRESS)
    who.add_argument("--wait", action="store_true", help=argparse.SUPPRESS)


def _add_coverage(parser: common.Parser) -> None:
    covered = parser.add_argument_group("what the log covers")
    covered.add_argument(
        "--coverage",
        action="store_true",
        help="show which times the log covers, and what is missing",
    )
    covered.add_argument(
        "--strict",
        action="store_true",
        help="exit with 3 if the list may be incomplete",
    )


def _add_output(parser: common.Parser) -> None:
    how = parser.add_argument_group("how to list")
    how.add_argument(
        "-s",
        "--connections",
        "--squeeze",
        action="store_true",
        help="one line for each connection instead of each event",
    )
    how.add_argument(
        "-n",
        "--lines",
        type=_count,
        metavar="N",
        help="only the last N lines; with --top, the first N",
    )
    how.add_argument("-r", "--reverse", action="store_true", help="the newest line first")
    how.add_argument("-c", "--count", action="store_true", help="only the number of lines")
    how.add_argument(
        "-H", "--headers", action="store_true", help="show only the headers of the segments"
    )
    how.add_argument(
        "-o",
        "--format",
        type=screen_options.form,
        default="text",
        metavar="FORMAT|TEMPLATE",
        help=f"{', '.join(screen_options.FORMATS)}, or a template such as '{{time}} {{remote}}' "
        "(default: %(default)s; on a terminal that is screen)",
    )
    how.add_argument(
        "--utc",
        action="store_true",
        help="read and print times in UTC instead of local time",
    )
    how.add_argument(
        "--reason", metavar="TEXT", help="reason for the query, for its entry in the journal"
    )
    how.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=int,
        help="processes that read for -s and --top (default: at a terminal 2, else 1)",
    )
    how.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="report on stderr what was read and what was skipped",
    )


def _count(text: str) -> int:
    """A number of lines.  Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        hint = "; addresses are never looked up" if text == "n" else ""  # tcpdump -nn
        raise argparse.ArgumentTypeError(f"no number of lines: '{text}'{hint}")
    return int(text)


def sort_words(args: argparse.Namespace) -> None:
    """Set `args.paths` and `args.text`: which of the arguments are paths, and the expression that
    the others make.

    A path exists, or has a slash and is no expression.  Raises UsageError for what could be both.
    """
    args.paths, words = [], []
    for word in args.words:
        exists = os.path.lexists(word)
        expression = begins_expression(word)
        if word == STDIN:
            args.paths.append(word)
        elif exists and expression:
            raise UsageError(
                f"'{word}' is a file here, and a word of an expression: write "
                f"{_as_path(word)} or -e '{word}'"
            )
        elif exists or ("/" in word and not expression):
            args.paths.append(word)
        else:
            words.append(word)
    args.text = " ".join(words)


def _as_path(word: str) -> str:
    """The word as it can only be a path."""
    return word if word.startswith(("/", "./", "../")) else f"./{word}"


def asks(args: argparse.Namespace) -> bool:
    """Whether anything was asked: then no row is the answer "no"."""
    return bool(
        args.text
        or args.expressions
        or args.expression_files
        or args.since
        or args.until
        or args.event
        or any(getattr(args, name) for name in SHORT_FORMS)
    )


# The options that are short forms of expressions, and the words for them.
SHORT_FORMS = {
    "ip": "host",
    "port": "port",
    "src": "src host",
    "dst": "dst host",
    "sport": "src port",
    "dport": "dst port",
    "protocol": "proto",
    "nat": "",
    "zone": "zone",
    "mark": "mark",
}
