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
        f"cp -a {LOGS} {copy}; cd {copy}; mv {last} old; setpriv --reuid=ctrecorder "
        f"--regid=ctrecorder --init-groups cttest --repair old -o {last} >/dev/null; rm old"
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


# As the recorder's user, outside its units; with a terminal's session and without one.
AS_RECORDER = {
    "a process": ("setpriv", "--reuid=ctrecorder", "--regid=ctrecorder", "--init-groups", "--"),
    "a unit": (
        *("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit=ctsqueeze-x"),
        *("--property=User=ctrecorder", "--"),
    ),
}
# Logs a field=value of each argument, and says that it is what it is not.
LOGGER = """
import sys
from systemd import journal
fields = dict(one.split("=", 1) for one in sys.argv[1:])
journal.send("x", _UID="0", _SYSTEMD_UNIT="ctexpire.service", UNIT="ctexpire.service", **fields)
"""


def hash_of(router: Router, name: str) -> str:
    """The last hash of a segment that was closed, as the journal has it."""
    (entry,) = router.journal(
        f"MESSAGE_ID={messages.SEGMENT_CLOSED.id}", f"CTRECORDER_PATH={LOGS}/{name}"
    )
    return entry["CTRECORDER_LAST_HASH"]


@pytest.mark.usefixtures("anew")
def test_root_by_hand(router: Router) -> None:
    """Root repairs, squeezes, holds and expires by hand: logged by root, made by the recorder's
    user, and the anchors hold.
    """
    names = []
    for _ in range(4):
        talk(router)
        names.append(rotate(router))
    damaged = f"{LOGS}/{names[1]}"
    size = int(router.run("stat", "-c", "%s", damaged).stdout)
    router.sh(f"printf XXXX | dd of={damaged} bs=1 seek={size // 2} conv=notrunc status=none")
    assert router.run("cttest", "--anchors", "journal", check=False).returncode == 1
    saved = router.run("cttest", "--repair", damaged, "-o", f"{LOGS}/saved", check=False)
    assert saved.returncode == 1, saved.stderr
    router.run("mv", f"{LOGS}/saved", damaged)
    router.run("ctsqueeze", "--keep", "-f", f"{LOGS}/{names[2]}")
    router.run("ctexpire", "--hold", "--reason", "case 17")
    router.run("ctexpire", "--release", "1")
    router.sh("cd /; ctsqueeze -j 2; cd /var/log; ctexpire --max-age 9000d --max-size 1 ctrecorder")
    logged = [
        entry
        for kind in (messages.REPAIRED, messages.SQUEEZED, messages.HOLD, messages.EXPIRED)
        for entry in router.journal(f"MESSAGE_ID={kind.id}")
    ]
    kinds = [entry["MESSAGE_ID"] for entry in logged]
    assert kinds.count(messages.SQUEEZED.id) == 4
    assert kinds.count(messages.REPAIRED.id) == 1
    assert kinds.count(messages.HOLD.id) == 2
    assert kinds.count(messages.EXPIRED.id) == 4
    assert {entry["_UID"] for entry in logged} == {"0"}
    owners = set(router.run("find", LOGS, "-printf", "%u:%g\n").stdout.split())
    assert owners == {"ctrecorder:ctrecorder"}
    rotate(router)
    done = router.run("cttest", "--anchors", "journal")
    assert "0 damaged" in done.stdout
    assert "unproved" not in done.stdout
    assert "not counted" not in done.stdout
    router.run("rm", "-r", f"{LOGS}/replaced")


@pytest.mark.usefixtures("anew")
def test_the_units_entries_count(router: Router) -> None:
    """Also those that a command sends just before it ends: journald still finds its unit."""
    for _ in range(3):
        talk(router)
        rotate(router)
    for _ in range(3):
        router.run("systemctl", "start", "ctsqueeze.service")
        router.sh(
            "mkdir -p /run/systemd/system/ctexpire.service.d; printf '[Service]\nExecStart=\n"
            "ExecStart=/usr/bin/ctexpire --max-age 9000d --max-size 1\n' "
            ">/run/systemd/system/ctexpire.service.d/x.conf; systemctl daemon-reload"
        )
        try:
            router.run("systemctl", "start", "ctexpire.service")
        finally:
            router.sh("rm -r /run/systemd/system/ctexpire.service.d; systemctl daemon-reload")
        talk(router)
        rotate(router)
        restarted = router.run("cttest", "--anchors", "journal")
        assert "0 damaged" in restarted.stdout
        assert "not counted" not in restarted.stdout
    logged = router.journal(f"MESSAGE_ID={messages.EXPIRED.id}")
    assert {entry["_SYSTEMD_UNIT"] for entry in logged} == {"ctexpire.service"}


@pytest.mark.claim("logged")
@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("who", AS_RECORDER)
def test_who_has_the_recorders_uid_logs_it_himself(router: Router, copy: str, who: str) -> None:
    """That a segment was deleted, with a receipt in the folder; that it was squeezed, to one of
    his.
    """
    for _ in range(3):
        talk(router)
        rotate(router)
    _, gone, forged, *_ = segments(router)

    def logs(kind: messages.Message, **fields: str) -> None:
        named = [f"CTRECORDER_{name.upper()}={value}" for name, value in fields.items()]
        words = ("/usr/bin/python3", "-c", LOGGER, f"MESSAGE_ID={kind.id}", *named)
        router.run(*AS_RECORDER[who], *words)

    assert router.run("cttest", "--anchors", "journal").returncode == 0
    was = hash_of(router, gone), hash_of(router, forged)
    router.sh(f"cp -a {LOGS} {copy}; rm {copy}/{gone}")
    router.sh(
        f"cd {copy}; mv {forged} old; setpriv --reuid=ctrecorder --regid=ctrecorder --init-groups "
        f"ctsqueeze --resolution s -f old -o {forged} 2>said; rm old"
    )
    said = router.run("cat", f"{copy}/said").stdout
    (made,) = re.findall(r"last hash ([0-9a-f]{32}), before", said)
    logs(messages.EXPIRED, path=f"{LOGS}/{gone}", last_hash=was[0])
    logs(messages.SQUEEZED, path=f"{LOGS}/{forged}", last_hash=made, replaced_hash=was[1])
    router.sh("sleep 0.5")
    done = router.run("cttest", "--anchors", "journal", copy, check=False)
    assert done.returncode == 1
    assert f"{gone} was logged with last hash {was[0]}, is not here" in done.stdout
    assert f"{copy}/{forged}: was never logged with its last hash {made}" in done.stdout
    uid = router.run("id", "-u", "ctrecorder").stdout.strip()
    unit = "in ctsqueeze-x.service: 2" if who == "a unit" else ""
    assert "neither root nor a unit of ctrecorder logged them: 2 log entries" in done.stdout
    assert f"(uid {uid} {unit}" in done.stdout


@pytest.mark.usefixtures("anew", "clerk")
def test_a_log_of_text_and_an_older_log(router: Router, copy: str) -> None:
    """Any user's logger(1) is believed in a log of text, and the report says so; what is older than
    the journal is named.
    """
    talk(router)
    name = rotate(router)
    talk(router)
    rotate(router)
    line = f"deleted {LOGS}/{name}: old; last hash {hash_of(router, name)}"
    as_clerk(router, "logger", "-t", "ctexpire", line)
    router.sh(f"sleep 0.5; journalctl -q -o short >/tmp/text; cp -a {LOGS} {copy}")
    said = router.run("cttest", "--anchors", "/tmp/text", copy).stdout
    assert "anchors from lines of text, which name no sender" in said
    router.sh("journalctl -q --rotate; sleep 1.2; journalctl -q --vacuum-time=1s")
    talk(router)
    rotate(router)
    done = router.run("cttest", "-q", "--anchors", "journal", check=False)
    assert done.returncode == 2
    what = r"\d segments? older than the first anchor (is|are) unproved"
    assert re.fullmatch(rf"{what}: {LOGS}/{name}.*\n", done.stdout), done.stdout


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
