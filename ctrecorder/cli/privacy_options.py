"""The options of commands that leave out or replace addresses, and what they mean.  No numpy."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from ctrecorder.errors import UsageError

if TYPE_CHECKING:
    from ctrecorder.privacy.protection import Protection

GENERATE = "(umask 077; openssl rand -hex 32 > KEYFILE)"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("what others may know")
    group.add_argument(
        "--anonymize",
        metavar="KEYFILE",
        help="replace addresses by a key; equal prefixes stay equal (Crypto-PAn)",
    )
    group.add_argument(
        "--omit", choices=("remote",), metavar="END", help="remote: leave the remote ends out"
    )


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for what does not go together, in ctlist."""
    if not args.anonymize and not args.omit:
        return
    if args.follow or args.fleet:
        raise UsageError("--anonymize and --omit: not with --follow or --fleet")
    if args.columns is not None or args.format == "screen" or "{" in args.format:
        raise UsageError(
            "--anonymize and --omit have plain lines: not with --columns, a template or a screen"
        )
    if args.color == "always":
        raise UsageError("--anonymize and --omit have plain lines: not with --color always")
    if args.headers or args.coverage:
        raise UsageError("--anonymize and --omit are for rows: not with -H or --coverage")
    if args.omit and args.verbose:
        raise UsageError("-v tells how many rows matched a filter: not with --omit")


def protection(args: argparse.Namespace) -> Protection | None:
    """What is done to rows; None: nothing.  Raises UsageError."""
    if not args.anonymize and not args.omit:
        return None
    key = read_key(args.anonymize) if args.anonymize else None
    from ctrecorder.ends import Inside
    from ctrecorder.privacy.protection import Protection
    from ctrecorder.service.config import read
    from ctrecorder.service.inside import networks

    inside = Inside(networks(read(getattr(args, "config", None))))
    if key is None:
        return Protection(omit=True, inside=inside)
    try:
        from ctrecorder.privacy.cryptopan import CryptoPan
    except ImportError as error:
        raise UsageError(
            f"--anonymize needs python3-cryptography: apt install python3-cryptography ({error})"
        ) from error
    return Protection(omit=bool(args.omit), pan=CryptoPan(key), inside=inside)


def read_key(path: str) -> bytes:
    """The key in a file: 64 hexadecimal digits, as nfanon has them.  Raises UsageError."""
    from ctrecorder.service.key import read_secret

    text = read_secret(path).decode("latin-1").strip()
    match = re.fullmatch(r"(?:0x)?([0-9A-Fa-f]{64})", text)
    if match is None:
        raise UsageError(f"{path}: no key: it has 64 hexadecimal digits; make one with {GENERATE}")
    return bytes.fromhex(match[1])
