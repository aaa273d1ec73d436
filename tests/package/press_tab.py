#!/usr/bin/python3
"""press_tab.py SHELL LINE: types LINE and TAB into a real interactive SHELL (bash, zsh, fish) on a
terminal of its own.

Prints, as JSON, the words that the shell then shows: the completed line, or the choices.  Nothing
is imported that a small router does not have: it runs there too.  For bash, bash-completion must
find the commands' completion by itself.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time

PROMPT = "TAB> "
# Typed in two parts, so that the echo of the command is not taken for the prompt.
SET_PROMPT = "='TAB''> '\n"
BASH = (
    "source /usr/share/bash-completion/bash_completion",
    "bind 'set show-all-if-ambiguous on'",
    "bind 'set completion-query-items 0'",
    "bind 'set page-completions off'",
    "bind 'set enable-bracketed-paste off'",
    "PS1" + SET_PROMPT,
)
ZSH = (
    "autoload -U compinit",
    "compinit -u",
    "unset zle_bracketed_paste",
    "LISTMAX=1000",
    "PROMPT" + SET_PROMPT,
)
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], BASH),
    "zsh": (["zsh", "-f", "-i"], ZSH),
}
# Once something was shown, the rest follows at once; and if nothing is shown, there is nothing to
# show.
SETTLE_SECONDS, MOST_SECONDS = 0.3, 5.0


def read(terminal: int, enough: int, end: str = "") -> str:
    """What comes: up to `end`, or else until more than `enough` characters came and no more for a
    while.
    """
    text, limit = "", time.monotonic() + MOST_SECONDS
    while time.monotonic() < limit and not (end and text.endswith(end)):
        if select.select([terminal], [], [], SETTLE_SECONDS)[0]:
            text += os.read(terminal, 65536).decode("utf-8", "replace")
        elif len(text) > enough and not end:
            break
    return text


def press_tab(shell: str, line: str) -> list[str]:
    """The words on the screen after `line` and TAB."""
    if shell == "fish":  # it draws its screen anew all the time, but can be asked
        said = subprocess.run(
            ["fish", "-c", f"complete --do-complete '{line}'"],
            capture_output=True,
            text=True,
            check=True,
        )
        return [row.split("\t")[0] for row in said.stdout.splitlines()]
    command, prepare = SHELLS[shell]
    with tempfile.TemporaryDirectory() as home:
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="dumb", COLUMNS="200", LINES="60", HISTFILE="", HOME=home)
            os.execvp(command[0], command)
        try:
            os.write(terminal, "; ".join(prepare).encode())
            read(terminal, 0, PROMPT)
            os.write(terminal, line.encode() + b"\t")
            shown = read(terminal, len(line))
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\x07\r]", "", shown)
    return shown.replace(PROMPT, " ").split()


if __name__ == "__main__":
    print(json.dumps(press_tab(sys.argv[1], sys.argv[2])))
