"""Segments sent by rsync, over ssh or to a daemon, and what the target says of them.

Each segment is open here while it is sent, and rsync reads the open file: ctsqueeze or ctexpire may
replace or delete it meanwhile.  What the target answers is a stranger's text: bounded, and only
believed about the segments that were sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctrecorder.errors import CtrecorderError
from ctrecorder.segment.files import open_file
from ctrecorder.shipping import program
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.target import Target
from ctrecorder.shipping.waiting import Waiting
from ctrecorder.terminal import printable

# A line that is cut: shorter, a stalled transfer on a bad line ends too early; longer, a target
# that is away keeps the segments behind it waiting.
_IDLE_SECONDS = 60
# cttest reads some 100 MB/s on a small machine: a batch has at most 256 MiB.
_CHECK_SECONDS = 1800
# Bytes of an answer that are read: 64 segments with a reason each are 40 kB.
_MAX_ANSWER = 1 << 20
# rsync(1): all files were sent, or some were not because of an error with these.
_SENT = (0, 23, 24)
# What a code means; the message of the other end can be lost with the connection.
_MEANING = {
    11: "a file could not be written there: is the disk full?",
    12: "the connection ended",
    30: "nothing moved for a minute",
}
_CHECKED, _COPIED = "checked", "copied"


@dataclass(frozen=True)
class Sender:
    """Sends batches of segments to `target`, below the folder `router`.

    `key`: the file of ssh's private key; "": as ssh finds it.
    `bytes_per_second`: 0 for no limit.
    """

    target: Target
    router: str
    key: str = ""
    bytes_per_second: int = 0

    def send(self, batch: Sequence[Waiting]) -> dict[str, Result]:
        """Send `batch`; returns what became of each segment, by name, as far as it is known.

        Raises TargetError if the target cannot be used, and nothing is known of the batch.
        """
        with _opened(batch) as files:
            if not files:
                return {}
            if self.target.is_checked:
                return self._send_and_check(files)
            return self._send_and_compare(files)

    def _send_and_check(self, files: dict[str, _File]) -> dict[str, Result]:
        """By ssh: the target examines what it got, and moves it to its place."""
        known = self._take_over(files)
        absent = {name: one for name, one in files.items() if name not in known}
        if not absent:
            return known
        below = f"{self.router}/{_INCOMING}"
        code, why = self._rsync(absent, below, "--partial-dir=.part")
        is_broken = code not in _SENT
        # What arrived whole counts, also if the rest did not.
        try:
            known |= self._take_over(absent)
        except TargetError as error:
            raise TargetError(why if is_broken else str(error), known) from error
        missing = [name for name in absent if name not in known]
        if missing and is_broken:
            raise TargetError(why, known)
        return known | {name: Result("", f"did not arrive: {why}") for name in missing}

    def _send_and_compare(self, files: dict[str, _File]) -> dict[str, Result]:
        """To a daemon: a second pass compares checksums, and must find nothing to send."""
        code, why = self._rsync(files, self.router, "--ignore-existing", "--mkpath")
        if code not in _SENT:
            raise TargetError(why)
        options = ("--checksum", "--dry-run", "--out-format=%i %n")
        compared = self._run(self._rsync_command(files, self.router, *options))
        if compared.code:
            said = compared.why or compared.code
            raise TargetError(f"{self.target.text}: cannot be compared: {said}")
        differ = {line[12:] for line in compared.out.splitlines() if line[1:2] == "f"}
        refused = f"did not arrive: {why}" if code else "the target has another file with this name"
        return {name: Result("", refused) if name in differ else Result(_COPIED) for name in files}

    def _take_over(self, files: dict[str, _File]) -> dict[str, Result]:
        """What the target has of `files`; what is new there was examined and moved to its place."""
        script = _script(self.target.folder, self.router, files)
        ran = self._run([*program.ssh(self.key), program.bare(self.target.host), "sh -s"], script)
        if ran.code:
            raise TargetError(f"{self.target.text}: {ran.why or f'ssh ended with {ran.code}'}")
        return dict(_results(ran.out, files))

    def _rsync(self, files: dict[str, _File], below: str, *options: str) -> tuple[int, str]:
        """Send files; returns rsync's exit code, and what went wrong."""
        ran = self._run(self._rsync_command(files, below, *options))
        said = ran.why or _MEANING.get(ran.code, "it did not say why")
        return ran.code, f"{self.target.text}: rsync ended with {ran.code}: {said}"

    def _rsync_command(self, files: dict[str, _File], below: str, *options: str) -> list[str]:
        stage = next(iter(files.values())).stage
        limit = (
            [f"--bwlimit={max(self.bytes_per_second >> 10, 1)}"] if self.bytes_per_second else []
        )
        shell = [] if self.target.kind == "rsync" else ["-e", shlex.join(program.ssh(self.key))]
        listed = os.path.join(stage, ".names")
        Path(listed).write_text("".join(f"{name}\n" for name in files))
        return [
            *("rsync", "--copy-links", "--times", f"--timeout={_IDLE_SECONDS}"),
            *(f"--files-from={listed}", *limit, *shell, *options, "--"),
            *(f"{stage}/", self.target.destination(below)),
        ]

    def _run(self, command: list[str], text: str = "") -> program.Ran:
        """Run ssh with a script, or rsync, which ends by itself if nothing moves.

        Raises TargetError.
        """
        try:
            seconds = _CHECK_SECONDS if text else None
            return program.run(command, text=text, seconds=seconds, most_bytes=_MAX_ANSWER)
        except program.ProgramError as error:
            raise TargetError(f"{self.target.text}: {error}") from error


# Segments that are not examined yet, in the folder of the router: hidden, so no question reads it.
_INCOMING = ".ctship"


@dataclass(frozen=True)
class _File:
    """An open segment: its SHA-256, and the folder in which a link to it has its name there."""

    segment: Waiting
    sha256: str
    stage: str


@contextlib.contextmanager
def _opened(batch: Sequence[Waiting]) -> Iterator[dict[str, _File]]:
    """The segments, open, by name; those that have been replaced or deleted are left out."""
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(tempfile.TemporaryDirectory(prefix="ctship-"))
        files: dict[str, _File] = {}
        for one in batch:
            with contextlib.suppress(CtrecorderError, OSError):
                descriptor = open_file(one.path)
                stack.callback(os.close, descriptor)
                with os.fdopen(os.dup(descriptor), "rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                link = Path(stage, one.name)
                link.parent.mkdir(exist_ok=True)
                link.parent.chmod(0o775)  # the umask there says what of it remains
                link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
                files[one.name] = _File(one, sha256, stage)
        yield files


def _script(folder: str, router: str, files: dict[str, _File]) -> str:
    """What the target's shell does: each line of its answer is about one segment."""
    lines = [_FUNCTIONS, f"begin {shlex.quote(folder)} {shlex.quote(router)}"]
    lines.append(f"check_all {' '.join(files)}")
    for name, one in files.items():
        keyed = int(one.segment.is_keyed)
        replaced = " ".join(one.segment.replaced)
        lines.append(f"take {name} {one.sha256} {keyed} {replaced}".rstrip())
    return "\n".join([*lines, "finish", ""])


# POSIX sh.  A segment moves from the incoming folder to its place when cttest finds it whole.
# `mv -n` and the comparison before: what is in its place is never replaced.
_FUNCTIONS = f"""\
umask 027
begin() {{
    mkdir -p -- "$1/$2/{_INCOMING}" && cd -- "$1/$2" || exit 9
    command -v cttest >/dev/null || {{ echo "cttest is not installed there" >&2; exit 8; }}
}}
check_all() {{
    all=no
    set -- $(for name; do [ ! -f "{_INCOMING}/$name" ] || echo "{_INCOMING}/$name"; done)
    [ $# -lt 2 ] || ! cttest -q -- "$@" >/dev/null 2>&1 || all=yes
}}
sum() {{ sha256sum <"$1" | cut -c 1-64; }}
take() {{
    name=$1 new={_INCOMING}/$1 sha=$2 keyed=$3
    shift 3
    if [ -e "$name" ]; then
        [ "$(sum "$name")" = "$sha" ] && echo "kept $name" || echo "differs $name"
        return
    fi
    [ -f "$new" ] || return 0
    if [ "$(sum "$new")" != "$sha" ]; then
        rm -f -- "$new"
        return
    fi
    if [ $all = no ]; then
        said=$(cttest -q -- "$new" 2>&1)
        code=$?
        if [ $code -ne 0 ] && [ $code$keyed != 21 ]; then
            echo "refused $name $(echo "$said" | head -n 1 | cut -c 1-{program.MAX_WHY})"
            rm -f -- "$new"
            return
        fi
    fi
    mkdir -p -- "${{name%/*}}" && sync "$new" && mv -n -- "$new" "$name" &&
        sync "${{name%/*}}" . && [ ! -e "$new" ] || return
    echo "kept $name"
    for each; do rm -f -- "$each"; done
}}
finish() {{ exit 0; }}
"""


def _results(answer: str, files: dict[str, _File]) -> Iterator[tuple[str, Result]]:
    """What the lines of an answer say of `files`."""
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        name, _, why = rest.partition(" ")
        if name not in files:
            continue
        if word == "kept":
            yield name, Result(_COPIED if files[name].segment.is_keyed else _CHECKED)
        elif word == "differs":
            yield name, Result("", "the target has another file with this name")
        elif word == "refused":
            yield name, Result("", f"cttest there: {printable(why[: program.MAX_WHY])}")
