"""What an installed recorder's log proves: held against the router's own journal, sealed by a
credential, its questions journalled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from ctrecorder.service import messages
from tests.support.booted import CHECKOUT, LOGS, Done, Router
from tests.support.router import INSIDE, SERVER, wait_for_next

CONF = "/etc/ctrecorder/ctrecorder.conf"
COPY = "/tmp/copy"
# As much of a sandbox as a reader of segments bears: no other user is known to it, nor any other
# process.
SANDBOX = (
    *(
        "NoNewPrivileges=yes",
        "PrivateUsers=yes",
        "PrivateNetwork=yes",
        "PrivateDevices=yes",
        "PrivateTmp=yes",
        "ProcSubset=pid",
    ),
    *(
        "ProtectProc=invisible",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "MemoryDenyWriteExecute=yes",
        "CapabilityBoundingSet=",
    ),
    *(
        "RestrictAddressFamilies=AF_UNIX",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
    ),
)


@pytest.fixture
def shipped(router: Router) -> Iterator[str]:
    """The shipped configuration, put back afterwards."""
    text = router.run("cat", CONF).stdout
    yield text
    router.run("tee", CONF, stdin=text)


@pytest.fixture(scope="module")
def clerk(router: Router) -> Iterator[str]:
    """The uid of a user who is in the group ctrecorder, and nothing more."""
    router.run("useradd", "--groups", "ctrecorder", "clerk")
    yield router.run("id", "-u", "clerk").stdout.strip()
    router.run("userdel", "clerk")


@pytest.fixture
def anew(router: Router) -> None:
    """Log and journal are begun anew: other tests made faults (a disk mounted over the log, and
    gone) that both still tell of.

    No segment begins by itself meanwhile.
    """
    wait_for_next(3600, 30)
    router.sh(
        f"systemctl stop ctrecord.service; rm -rf {LOGS}/*; journalctl -q --rotate; sleep 1.2; "
        "journalctl -q --vacuum-time=1s"
    )
    router.restart()


@pytest.fixture
def copy(router: Router) -> Iterator[str]:
    """Where copies of the log are made."""
    yield COPY
    router.run("rm", "-rf", COPY)


def segments(router: Router) -> list[str]:
    """The names of the segments, as they were begun."""
    return router.sh(f"cd {LOGS}; ls -tr *.ctlog").split()


def talk(router: Router) -> int:
    """A connection that is in the log; its source port."""
    port = router.lab.tcp(INSIDE, (SERVER, 25))
    router.lab.flush()
    router.wait(lambda: router.lines("--event", "destroy", "-p", port), "the connection in the log")
    return port


def rotate(router: Router) -> str:
    """Begin a segment; the name of the one that was closed, once the journal has it."""
    old = segments(router)[-1]
    router.sh("sleep 1.1; systemctl reload ctrecord.service")
    router.wait(
        lambda: router.journal(
            f"MESSAGE_ID={messages.SEGMENT_CLOSED.id}", f"CTRECORDER_PATH={LOGS}/{old}"
        ),
        "the segment's end",
    )
    return old


def questions(router: Router, word: str) -> list[dict[str, str]]:
    """The journal's entries of the questions in which `word` is."""
    return [
        entry
        for entry in router.journal(f"MESSAGE_ID={messages.QUERY.id}")
        if word in entry["CTRECORDER_QUERY"]
    ]


def as_clerk(router: Router, *command: object) -> Done:
    return router.run(
        "setpriv", "--reuid=clerk", "--regid=clerk", "--init-groups", "--", *command, check=False
    )


@pytest.mark.usefixtures("anew")
def test_the_log_is_what_the_journal_has_of_it(router: Router, copy: str) -> None:
    talk(router)
    rotate(router)
    talk(router)
    last = rotate(router)
    router.restart()
    done = router.run("cttest", "--anchors", "journal")
    assert "0 damaged" in done.stdout
    assert "none of the logged hashes" not in done.stdout

    # The last but one is made anew, whole in itself, by who can write to the folder; and gone.
    router.sh(
        f"cp -a {LOGS} {copy}; cd {copy}; mv {last} old; : >>old; cttest --repair old -o {last} "
        ">/dev/null || true; rm old"
    )
    again = router.run("cttest", "--anchors", "journal", copy, check=False)
    assert (again.returncode, f"{copy}/{last}: was never logged" in again.stdout) == (1, True), (
        again.stdout
    )
    router.run("rm", f"{copy}/{last}")
    gone = router.run("cttest", "--anchors", "journal", copy, check=False)
    assert gone.returncode == 1
    assert re.search(
        rf"{re.escape(last)} was logged with last hash [0-9a-f]{{32}}, is not here", gone.stdout
    )


def test_what_cannot_read_the_journal_does_not_say_that_all_is_well(
    router: Router, clerk: str
) -> None:
    done = as_clerk(router, "cttest", "--anchors", "journal")
    assert done.returncode == 2, done.stdout
    assert "members of systemd-journal" in done.stdout


def test_a_members_question_is_in_the_journal(router: Router, clerk: str) -> None:
    port = talk(router)
    done = as_clerk(router, "ctlist", "-p", port)
    rows = len(done.stdout.splitlines())
    assert (done.returncode, rows) == (0, 2)
    router.wait(lambda: questions(router, f"-p {port}"), "the question")
    entry = next(one for one in questions(router, f"-p {port}") if one["_UID"] == clerk)
    assert (entry["CTRECORDER_UID"], entry["CTRECORDER_LOGIN"], entry["CTRECORDER_ROWS"]) == (
        clerk,
        "clerk",
        "2",
    )
    assert (entry["CTRECORDER_QUERY"], entry["CTRECORDER_REASON"], entry["SYSLOG_IDENTIFIER"]) == (
        f"-p {port}",
        "none",
        "ctlist",
    )


def test_a_sandboxed_members_question_too(router: Router, clerk: str) -> None:
    port = talk(router)
    sandbox = [
        f"--property={one}" for one in ("User=clerk", "SupplementaryGroups=ctrecorder", *SANDBOX)
    ]
    done = router.run(
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        *sandbox,
        "--",
        "ctlist",
        "-s",
        "-p",
        port,
    )
    assert len(done.stdout.splitlines()) == 1, done.stderr
    router.wait(lambda: questions(router, f"-s -p {port}"), "the question")
    (entry,) = questions(router, f"-s -p {port}")
    assert (
        entry["_UID"],
        entry["CTRECORDER_UID"],
        entry["CTRECORDER_LOGIN"],
        entry["CTRECORDER_ROWS"],
    ) == (clerk, clerk, "clerk", "1")


def test_a_reason_may_be_required(router: Router, clerk: str, shipped: str) -> None:
    port = talk(router)
    router.run("tee", CONF, stdin=shipped.replace("#audit = on", "audit = require-reason"))
    refused = as_clerk(router, "ctlist", "-p", port)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"ctlist: a reason is required: .*--reason TEXT.*\n", refused.stderr)
    given = as_clerk(router, "ctlist", "-p", port, "--reason", "case 4711")
    assert (given.returncode, len(given.stdout.splitlines())) == (0, 2)
    router.wait(lambda: questions(router, "case 4711"), "the question with its reason")
    (entry,) = questions(router, "case 4711")
    assert (entry["CTRECORDER_REASON"], entry["_UID"]) == ("case 4711", clerk)


@pytest.mark.usefixtures("anew")
def test_sealed_by_a_credential_as_the_manual_has_it(
    router: Router, clerk: str, shipped: str
) -> None:
    page = (CHECKOUT / "man" / "ctrecorder.conf.5").read_text().partition("To use a static key")[2]
    block = page.partition(".Bd -literal -offset indent\n")[2].partition(".Ed")[0]
    block = block.replace("\\e\n", "")  # the key's command is broken over two lines
    make = block.splitlines()[0]
    [load] = re.findall(r"LoadCredential=\S+", block)
    [setting] = re.findall(r"\[seal\] (key = \S+)", block)
    units = ("ctrecord", "ctsqueeze")
    try:
        router.sh(make)
        for unit in units:
            router.sh(f"mkdir -p /etc/systemd/system/{unit}.service.d")
            router.run(
                "tee",
                f"/etc/systemd/system/{unit}.service.d/seal.conf",
                stdin=f"[Service]\n{load}\n",
            )
        router.run("tee", CONF, stdin=shipped.replace("#key =", setting))
        assert setting in router.run("cat", CONF).stdout
        router.sh("systemctl daemon-reload")
        router.restart()
        talk(router)
        sealed = rotate(router)
        headers = json.loads(
            router.run("ctlist", "-H", "--format", "json", f"{LOGS}/{sealed}").stdout
        )
        assert headers["sealed"] is True

        without = router.run("cttest", check=False)
        assert without.returncode == 2, without.stdout + without.stderr
        assert "the configured key cannot be read here (credential:seal)" in without.stdout
        assert (
            f"{LOGS}/{sealed}: is sealed: without its key (--key) only its structure could be "
            "checked" in without.stdout
        )
        with_key = router.run("cttest", "--key", "/etc/ctrecorder/seal.key")
        assert "0 damaged" in with_key.stdout
        assert as_clerk(router, "cttest", "--key", "/etc/ctrecorder/seal.key").returncode == 2
        assert (
            router.run(
                "cttest", "--key", "/etc/ctrecorder/seal.key", "--anchors", "journal"
            ).returncode
            == 0
        )
        assert as_clerk(router, "ctlist", f"{LOGS}/{sealed}").returncode == 0, (
            "a key proves, and hides nothing"
        )

        router.run("systemctl", "start", "ctsqueeze.service")
        assert router.journal(
            f"MESSAGE_ID={messages.SQUEEZED.id}", f"CTRECORDER_PATH={LOGS}/{sealed}"
        )
        assert (
            router.run(
                "cttest", "--key", "/etc/ctrecorder/seal.key", "--anchors", "journal"
            ).returncode
            == 0
        )
    finally:
        for unit in units:
            router.sh(f"rm -r /etc/systemd/system/{unit}.service.d")
        # What is sealed goes with its key: other tests check the folder.
        router.run(
            "tee", CONF, stdin=shipped.replace("#max_age = 90d", "max_age = 1s\ntrust_clock = yes")
        )
        router.sh(
            "rm /etc/ctrecorder/seal.key; systemctl daemon-reload; systemctl reset-failed; "
            "systemctl restart ctrecord.service"
        )
        router.sh("sleep 1.1; systemctl start ctexpire.service")
    assert router.run("cttest").returncode == 0, "the receipts stand in for what was sealed"
