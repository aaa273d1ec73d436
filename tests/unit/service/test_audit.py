"""Each question of ctlist leaves an entry: sent to a journal's socket, in a mount namespace where
that is the test's own.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.history import History

ROOT = Path(__file__).resolve().parents[3]
# Runs a command where /run and /etc are the test's, and prints what the journal was sent.
IN_PLACE = """
import os, socket, subprocess, sys
folder, audit, socket_path, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
os.makedirs(f"{folder}/upper/ctrecorder"), os.mkdir(f"{folder}/work")
layers = f"lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work"
subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, "/etc"], check=True)
with open("/etc/ctrecorder/ctrecorder.conf", "w") as file:
    file.write(f"[query]\\naudit = {audit}\\n")
os.makedirs(os.path.dirname(socket_path), exist_ok=True)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
    listener.bind(socket_path)
    listener.setblocking(False)
    done = subprocess.run(["sh", "-c", *command])
    sent = []
    try:
        while True:
            sent.append(listener.recv(65536).decode())
    except BlockingIOError:
        pass
sys.stderr.write("SENT " + "--".join(sent))
sys.exit(done.returncode)
"""
JOURNAL = "/run/systemd/journal/socket"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return History(tmp_path_factory.mktemp("audit") / "log").folder


def ask(tmp_path: Path, audit: str, query: str, code: int = 0) -> tuple[str, str]:
    """What ctlist said on stderr, and what the journal was sent; `question` is a shell's."""
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        "-c",
        IN_PLACE,
        str(tmp_path),
        audit,
        JOURNAL,
    ]
    done = subprocess.run(
        [*command, f"PATH={ROOT}/bin:$PATH; {query}"], capture_output=True, text=True, timeout=60
    )
    said, _, sent = done.stderr.partition("SENT ")
    assert done.returncode == code, done.stderr
    return said, sent


def fields(sent: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in sent.splitlines() if "=" in line)


@pytest.mark.slow
def test_who_what_why_and_how_many(log: Path, tmp_path: Path) -> None:
    said, sent = ask(tmp_path, "on", f"ctlist --proto udp --reason 'case 4711' {log}")
    assert said == ""
    entry = fields(sent)
    assert entry["MESSAGE_ID"] == "bb65c97f39954d63ade3a70b4c8fc6ef"
    assert entry["CTRECORDER_QUERY"] == f"--proto udp --reason 'case 4711' {log}"
    assert entry["CTRECORDER_REASON"] == "case 4711"
    assert (entry["CTRECORDER_ROWS"], entry["CTRECORDER_COMPLETE"]) == ("90", "yes")
    assert entry["CTRECORDER_UID"].isdigit()
    assert entry["CTRECORDER_LOGIN"]


@pytest.mark.slow
def test_an_answer_that_was_cut_off_counts_too(log: Path, tmp_path: Path) -> None:
    """The reader has had enough: what came until then is what was seen.

    And what fails was a question as well.
    """
    entry = fields(ask(tmp_path, "on", f"ctlist {log} {log} {log} | true; sleep 0.3")[1])
    assert entry["CTRECORDER_COMPLETE"] in ("yes", "no")
    entry = fields(ask(tmp_path, "on", f"ctlist -i nonsense {log}", code=2)[1])
    assert (entry["CTRECORDER_ROWS"], entry["CTRECORDER_COMPLETE"]) == ("0", "no")


@pytest.mark.slow
def test_off(log: Path, tmp_path: Path) -> None:
    assert ask(tmp_path, "off", f"ctlist {log}") == ("", "")


@pytest.mark.parametrize("reason", ["", "--reason ''", "--reason ' '"])
def test_a_reason_is_required(log: Path, tmp_path: Path, reason: str) -> None:
    """Nothing is listed without one."""
    query = (
        f"ctlist {reason} {log} >{tmp_path}/out; code=$?; test ! -s {tmp_path}/out && exit $code"
    )
    said, sent = ask(tmp_path, "require-reason", query, code=2)
    assert said.startswith("ctlist: a reason is required")
    assert "--reason" in said
    assert sent == ""


@pytest.mark.slow
def test_with_a_reason(log: Path, tmp_path: Path) -> None:
    assert (
        fields(ask(tmp_path, "require-reason", f"ctlist --reason abuse {log}")[1])[
            "CTRECORDER_ROWS"
        ]
        == "90"
    )


@pytest.mark.slow
def test_who_held_an_address_is_a_question_too(log: Path, tmp_path: Path) -> None:
    query = f"192.0.2.1:40000 '2024-10-04 12:00:01' --case 4711 -d {log}"
    entry = fields(ask(tmp_path, "on", f"ctwho {query}", code=3)[1])
    assert entry["SYSLOG_IDENTIFIER"] == "ctwho"
    assert entry["CTRECORDER_QUERY"] == query
    assert (entry["CTRECORDER_ROWS"], entry["CTRECORDER_CASE"]) == ("0", "4711")
    assert entry["CTRECORDER_VERDICT"] == "NOBODY KNOWN (not proved)"
    assert entry["CTRECORDER_COMPLETE"] == "no", "all rows were written, and they may not be all"


@pytest.mark.slow
def test_each_question_of_a_letter_has_an_entry(log: Path, tmp_path: Path) -> None:
    """With the case, and the hash of the letter; what could not be asked too.  --dry-run asks
    nothing.
    """
    letter = log.parent / "list.txt"  # tmp_path is hidden there
    letter.write_text("192.0.2.1:40000 2024-10-04 12:00:01Z\n192.0.2.1:40001 2024-10-04 12:00:02\n")
    digest = hashlib.sha256(letter.read_bytes()).hexdigest()
    words = f"ctwho --letter {letter} --case 4711"
    _, sent = ask(tmp_path, "on", f"{words} -d {log}", code=2)
    entries = [fields(one) for one in sent.split("\n--")]
    assert [one["CTRECORDER_VERDICT"] for one in entries] == [
        "NOBODY KNOWN (not proved)",
        "CANNOT BE ASKED",
    ]
    assert {one["CTRECORDER_LETTER"] for one in entries} == {digest}
    assert {one["CTRECORDER_CASE"] for one in entries} == {"4711"}
    assert "192.0.2.1:40000 '2024-10-04 12:00:01Z'" in entries[0]["CTRECORDER_QUERY"]
    assert ask(tmp_path, "on", f"{words} --dry-run", code=2)[1] == ""
    entry = fields(ask(tmp_path, "on", f"{words} -d /nonexistent", code=2)[1])
    assert (entry["CTRECORDER_ROWS"], entry["CTRECORDER_COMPLETE"]) == ("0", "no")
    refused, sent = ask(tmp_path, "require-reason", f"{words} -d {log}", code=2)
    assert refused.startswith("ctwho: a reason is required")
    assert sent == ""


@pytest.mark.slow
def test_a_question_cannot_forge_a_field(log: Path, tmp_path: Path) -> None:
    """A newline in an argument stays in its field."""
    _, sent = ask(
        tmp_path, "on", f"ctlist --reason \"$(printf 'a\\nCTRECORDER_LOGIN=somebody')\" {log}"
    )
    assert fields(sent.partition("CTRECORDER_REASON")[0]).get("CTRECORDER_LOGIN") != "somebody"
