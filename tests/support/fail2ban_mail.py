"""Debian's fail2ban writes the mail of one of its actions, with its own code and configuration.

    python3 -W ignore tests/support/fail2ban_mail.py ACTION LOG FOLDER

FOLDER gets the file `mail`.  Whom to write to is looked up with dig, and mails are sent with a
command: both are scripts in FOLDER.  The zone is that of TZ.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# In seconds; 2026-11-24 06:00:05 +0100.
BANNED = 1_795_496_405
ADDRESS = "198.51.100.7"
HEADERS = "From: root@h.example\\nTo: a@b.example\\nDate: Tue, 24 Nov 2026 07:00:00 +0100\\n"


def main(action: str, log: str, folder: Path) -> None:
    from fail2ban.client.actionreader import ActionReader
    from fail2ban.server.action import CommandAction

    script(folder / "dig", "echo '\"abuse@provider.example\"'")
    # mail -s SUBJECT ADDRESS: the body is the input.
    mail = f"printf '{HEADERS}Subject: %s\\n\\n' \"$1\""
    script(folder / "mailer", f'{{ {mail}; cat; }} >"{folder}/mail"')
    # sendmail -f SENDER ADDRESS: headers and body are the input.
    script(folder / "sendmailer", f"{{ printf '{HEADERS}'; cat; }} >\"{folder}/mail\"")
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    values = {
        "mailcmd": str(folder / ("sendmailer" if action.startswith("xarf") else "mailer")),
        "name": "sshd",
        "service": "ssh",
        "port": "22",
        "sender": "f2b@h.example",
        "logpath": log,
        "dest": "a@b.example",
    }
    reader = ActionReader(action, "sshd", values, basedir="/etc/fail2ban")
    reader.read()
    reader.getOptions({})
    command = CommandAction(None, action)
    for name, value in reader.getCombined().items():
        setattr(command, name, value)
    lines = Path(log).read_text()
    command.ban(
        {
            "ip": ADDRESS,
            "ip-rev": "7.100.51.198.",
            "failures": 2,
            "time": BANNED,
            "matches": lines,
            "ipmatches": lines,
            "fq-hostname": "h.example",
            "family": "inet4",
            "restored": 0,
        }
    )


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
