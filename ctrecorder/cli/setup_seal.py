"""ctrecord --setup-seal: make the key of a recording, and show the verification key once."""

from __future__ import annotations

import argparse
import sys

from ctrecorder.errors import ExitCode
from ctrecorder.terminal import printable


def setup(args: argparse.Namespace) -> int:
    """Make a key and print its verification key.  Raises UsageError, ArchiveError."""
    from ctrecorder.sealing import locate
    from ctrecorder.sealing import setup as making
    from ctrecorder.seals import keys
    from ctrecorder.service import privileges
    from ctrecorder.service.config import merge

    configured = locate.configured_state(args.config)
    path = locate.state_path(args.seal_state, configured, args.config, args.netns)
    merge(args, "record", ("user", "group"))
    owner = privileges.ids_of(args.user, args.group)
    key = making.set_up(path, *owner, replace=args.replace_key)
    text = keys.key_text(key)
    if sys.stdout.isatty():
        _show(text)
    else:
        print(text)
    print(printable(_ADVICE[0].format(path=path)), *_ADVICE[1:], sep="\n", file=sys.stderr)
    return ExitCode.OK


_ADVICE = (
    "This is the verification key. It is shown once, and {path} does not contain it.",
    "Write it down or photograph it, and keep it off this machine: who has it can check",
    "the seals, and can also forge them. Check on another machine: cttest --seals.",
    "Now: systemctl restart ctrecord; systemctl start ctsqueeze-sealed.timer",
)


def _show(text: str) -> None:
    """The key as text, and as a QR code if there is the library for it."""
    print(f"\n{text}\n")
    try:
        import qrcode
    except ImportError:
        return
    code = qrcode.QRCode(border=2)
    code.add_data(text.replace("\n", "-"))
    code.print_ascii(out=sys.stdout, invert=True)
