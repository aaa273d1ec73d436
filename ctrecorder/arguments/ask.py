"""The query that ctlist's options and expressions make."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ctrecorder import labels, times
from ctrecorder.arguments.options import SHORT_FORMS
from ctrecorder.ctlog.predicate import Condition, Query, Term
from ctrecorder.ends import Inside
from ctrecorder.errors import UsageError, why
from ctrecorder.filters.compile import compile_filter, merged
from ctrecorder.filters.tree import Context
from ctrecorder.filters.values import parse_network, parse_ports
from ctrecorder.moments.typed import parse_span
from ctrecorder.service import inside
from ctrecorder.service.config import read

# A file with more is no expression, and no list of addresses.
_MOST_BYTES = 64 << 20


def ask(args: argparse.Namespace, now: int, *, read_files: bool = True) -> Query:
    """The query of the arguments; `now`: ns.  Raises UsageError.

    `read_files`: expressions may name lists of addresses.
    """
    terms: list[Condition] = []
    if args.ip:
        terms.append(Term(networks=tuple(parse_network(word) for word in _words(args.ip))))
    if args.port:
        ports = tuple(parse_ports(word, service_port) for word in _words(args.port))
        terms.append(Term(ports=ports))
    if args.event and args.connections:
        raise UsageError("--event selects events, -s lists connections: use one of them")
    context = context_of(args, now)
    if not read_files:
        context = replace(context, read_file=_refuse)
    compiled = [compile_filter(text, context) for text in texts_of(args)]
    events = frozenset(labels.parse_event(word) for word in _words(args.event))
    found = merged(
        compiled,
        parse_span(args.since, now, utc=args.utc)[0] if args.since else times.BEGIN,
        parse_span(args.until, now, utc=args.utc)[1] if args.until else times.END,
        frozenset(labels.parse_protocol(word) for word in _words(args.protocol)),
        events,
    )
    return Query(**{**vars(found), "terms": (*terms, *found.terms)})


def context_of(args: argparse.Namespace, now: int) -> Context:
    """What an expression of the arguments is about; `now`: ns."""
    counts = args.tops or args.histogram is not None or args.plot  # connections
    return Context(
        bool(args.connections or counts), now, args.utc, inside_addresses(), service_port, read_text
    )


def inside_addresses() -> Inside:
    """The addresses that are inside, as the configuration has it."""
    return Inside(inside.networks(read(None)))


def service_port(name: str) -> int | None:
    """The port of a name, as services(5) has it for TCP or UDP."""
    try:
        return socket.getservbyname(name)
    except (OSError, UnicodeError):
        return None


def read_text(path: str) -> str:
    """The text of a file.  Raises UsageError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{path}: more than {_MOST_BYTES >> 20} MiB are no list")
        return data.decode()
    except OSError as error:
        raise UsageError(f"{path}: {why(error)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this is no text") from None


def texts_of(args: argparse.Namespace) -> list[str]:
    """The expressions, and those that options stand for.  Raises UsageError."""
    texts = [*args.expressions, *map(read_text, args.expression_files)]
    return [*_short_forms(args), *([args.text] if args.text else []), *texts]


def _refuse(path: str) -> str:
    raise UsageError(f"in {path}: a list is a file here, and not on the routers: write in [ ... ]")


def _short_forms(args: argparse.Namespace) -> list[str]:
    """The expressions that options stand for; -i, -p and --protocol are read by themselves."""
    texts = []
    for name, words in SHORT_FORMS.items():
        values = _words(getattr(args, name))
        if name == "nat":
            for value in values:
                if value not in ("snat", "dnat", "any"):
                    raise UsageError(f"no such NAT '{value}': use snat, dnat or any")
            if values:
                texts.append(" or ".join("nat" if value == "any" else value for value in values))
        elif values and name not in ("ip", "port", "protocol"):
            texts.append(f"{words} {','.join(values)}")
    return texts


def _words(options: Iterable[str]) -> list[str]:
    """The items of all lists with commas."""
    return [word.strip() for option in options for word in option.split(",")]
