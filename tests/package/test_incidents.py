"""What happens to an installed recorder: a hang, a crash, a bad configuration, the nightly jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ctrecorder.service import messages
from tests.support.booted import CHECKOUT, LOGS, Router
from tests.support.router import INSIDE, SERVER

CONF = "/etc/ctrecorder/ctrecorder.conf"
# Enough that a segment has more to squeeze than its header.
CONNECTIONS = 300
# Debian gives the queue of a socket room for 512 entries, and its buffer for fewer.
ENTRIES = 700
DROP_IN = "/run/systemd/system/ctrecord.service.d/test.conf"


def configure(router: Router, text: str) -> None:
    """Make `text` the configuration (without restarting anything)."""
    router.run("tee", CONF, stdin=text)


@pytest.fixture
def conffile(router: Router) -> Iterator[str]:
    """The shipped configuration, put back afterwards, with the recorder on it."""
    shipped = router.run("cat", CONF).stdout
    yield shipped
    configure(router, shipped)
    router.run("systemctl", "restart", "ctrecord.service")


def active(router: Router) -> bool:
    return router.show("ctrecord.service", "ActiveState")["ActiveState"] == "active"


def test_a_hung_recorder_is_killed_and_restarted_by_the_watchdog(router: Router) -> None:
    router.sh(
        f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf "
        f"'[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=2\\n' >{DROP_IN}"
    )
    router.sh("systemctl daemon-reload; systemctl restart ctrecord.service")
    try:
        pid = router.pid()
        router.sh("sleep 5")
        assert router.pid() == pid, "a recorder that is idle is not taken for a hung one"
        router.sh(f"kill -STOP {pid}")
        router.wait(lambda: active(router) and router.pid() not in (pid, "0"), "the restart")
        assert "Watchdog timeout" in router.sh(
            "journalctl -q -u ctrecord.service _PID=1 --output=cat"
        )
        assert router.show("ctrecord.service", "NRestarts")["NRestarts"] == "1"
    finally:
        router.sh(
            f"rm {DROP_IN}; systemctl daemon-reload; systemctl restart ctrecord.service; "
            "systemctl reset-failed"
        )


def test_a_journald_that_hangs_stops_no_recorder(router: Router) -> None:
    pid = router.pid()
    journald = router.show("systemd-journald.service", "MainPID")["MainPID"]
    counters = (f"MESSAGE_ID={messages.COUNTERS.id}", f"_PID={pid}")
    before = len(router.journal(*counters))
    router.sh(f"kill -STOP {journald}")
    try:
        # More than the queue of its socket has room for.
        router.sh(f"for i in $(seq {ENTRIES}); do kill -USR1 {pid}; sleep 0.01; done")
        port = router.lab.tcp(INSIDE, (SERVER, 25))
        router.wait(lambda: router.lines("-p", port), "an event while the journal hangs")
    finally:
        router.sh(f"kill -CONT {journald}")

    def late() -> list[dict[str, str]]:
        router.sh(f"kill -USR1 {pid}")
        return [entry for entry in router.journal(*counters) if "CTRECORDER_TIME" in entry]

    router.wait(
        lambda: late() and len(router.journal(*counters)) > before + ENTRIES * 9 // 10,
        "all entries (some signals come together)",
    )
    times = [entry["CTRECORDER_TIME"] for entry in late()]
    assert times == sorted(times)
    assert all(entry["MESSAGE"].endswith(f"(at {entry['CTRECORDER_TIME']})") for entry in late())
    assert router.pid() == pid


def test_a_killed_recorder_comes_back_and_its_hole_is_in_the_log(router: Router) -> None:
    pid = router.pid()
    router.sh(f"kill -KILL {pid}")
    router.wait(lambda: active(router) and router.pid() not in (pid, "0"), "the restart")
    port = router.lab.tcp(INSIDE, (SERVER, 25))
    router.wait(lambda: router.lines("-p", port), "an event after the restart")
    assert "ended without closing the segment" in router.run("ctlist", "--format", "csv").stderr


def line_of(conffile: str, name: str) -> str:
    """FILE: line N: of a setting in the shipped configuration."""
    return f"{CONF}: line {conffile[: conffile.index(f'#{name} =')].count(chr(10)) + 1}: "


def errors(router: Router, kind: messages.Message) -> list[str]:
    """The texts of this kind in the journal of the recorder, at level err."""
    found = router.journal(f"MESSAGE_ID={kind.id}", "_SYSTEMD_UNIT=ctrecord.service", "PRIORITY=3")
    return [str(entry["MESSAGE"]) for entry in found]


def test_a_wrong_setting_does_not_stop_the_recorder(router: Router, conffile: str) -> None:
    configure(router, conffile.replace("#rotate = 60", "rotate = 0"))
    line = f"{line_of(conffile, 'rotate')}rotate = 0: allowed is a whole number, 1 to 1440"
    check = router.run("ctrecord", "--check-config", check=False)
    assert (check.returncode, check.stderr.startswith(f"ctrecord: {line}")) == (2, True)
    router.run("systemctl", "restart", "ctrecord.service")
    assert errors(router, messages.WRONG_SETTING)[-1].startswith(line)
    assert "using rotate = 60" in router.run("cttest", "--doctor", check=False).stdout
    assert router.run("ctlist").returncode == 0


def test_what_limits_the_recording_stays_as_it_was_or_nothing_is_recorded(
    router: Router, conffile: str
) -> None:
    configure(router, conffile.replace("#nat_only = no", "nat_only = yes"))
    router.run("systemctl", "restart", "ctrecord.service")
    configure(router, conffile.replace("#nat_only = no", "nat_only = yse"))
    pid = router.pid()
    router.run("systemctl", "reload", "ctrecord.service")
    router.wait(
        lambda: any(
            "using nat_only = yes" in one for one in errors(router, messages.WRONG_SETTING)
        ),
        "the error in the journal",
    )
    assert router.pid() == pid
    router.run("systemctl", "restart", "ctrecord.service")
    assert active(router)

    line = f"{line_of(conffile, 'nat_only')}nat_only = yse: allowed is yes or no"
    router.run("systemctl", "stop", "ctrecord.service")
    router.sh("rm /var/lib/ctrecorder/*.last-good")
    router.run("systemctl", "start", "ctrecord.service", check=False)
    router.wait(
        lambda: int(router.show("ctrecord.service", "NRestarts")["NRestarts"]) >= 1, "a second try"
    )
    assert errors(router, messages.FAILED)[-1] == line
    said = router.run("cttest", "--doctor", check=False).stdout
    assert re.search(rf"nothing is recorded since \S+ 20\d\d-.*{re.escape(line)}", said), said
    assert router.run("ctlist").returncode == 0
    configure(router, conffile)
    router.wait(lambda: active(router), "the recorder, by itself, after the file was mended")


def test_what_is_set_is_done(router: Router, conffile: str) -> None:
    configure(
        router,
        f"[record]\ntemplate = {LOGS}/set-%s.ctlog\nprotocols = tcp\nnice = 5\n"
        "mode = 0600\nresync = no\n",
    )
    router.restart()
    assert router.sh(f"ps -o ni= -p {router.pid()}").strip() == "5"
    assert set(router.sh(f"stat -c %a {LOGS}/set-*.ctlog").split()) == {"600"}
    udp, tcp = router.lab.udp(INSIDE, (SERVER, 53)), router.lab.tcp(INSIDE, (SERVER, 25))
    segment = router.sh(f"ls {LOGS}/set-*.ctlog").strip()
    router.wait(lambda: router.lines("-p", tcp, segment), "the TCP connection")
    assert router.lines("-p", udp, segment) == []
    # Without resync it needs no capability once it has subscribed.
    status = router.sh(f"cat /proc/{router.pid()}/status")
    assert (
        re.search(r"^CapEff:\t0{16}$", status, flags=re.MULTILINE)
        or "CapEff:\t0000000000001000" in status
    )


def test_root_starts_it_by_hand_and_it_gives_up_what_it_does_not_need(router: Router) -> None:
    # A unit without any sandbox holds the daemon: what a command here leaves behind is killed
    # otherwise.
    command = f"ctrecord -f {LOGS}/hand-%s.ctlog -P /run/hand.pid"
    router.run(
        "systemd-run",
        "--unit=hand",
        "--property=Type=forking",
        "--property=PIDFile=/run/hand.pid",
        *command.split(),
    )
    pid = router.run("cat", "/run/hand.pid").stdout.strip()
    try:
        status = dict(
            line.split(":\t", 1)
            for line in router.run("cat", f"/proc/{pid}/status").stdout.splitlines()
            if ":\t" in line
        )
        uid = router.run("id", "-u", "ctrecorder").stdout.strip()
        assert status["Uid"].split() == [uid] * 4
        assert [status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [
            f"{1 << 12:016x}"
        ] * 2 + ["0" * 16] * 2
        assert (status["Groups"].split(), status["NoNewPrivs"], status["PPid"]) == ([], "1", "1")
        again = router.run(*command.split(), check=False)
        assert (again.returncode, again.stderr) == (
            2,
            f"ctrecord: already running as pid {pid}: /run/hand.pid is locked\n",
        )
        port = router.lab.tcp(INSIDE, (SERVER, 25))
        router.wait(
            lambda: router.lines("-p", port, *router.sh(f"ls {LOGS}/hand-*").split()),
            "the connection in its own segment",
        )
    finally:
        router.sh(f"kill {pid}")
    # A daemon speaks to the journal.
    router.wait(
        lambda: router.journal(f"MESSAGE_ID={messages.STOPPED.id}", f"_PID={pid}"), "its last word"
    )
    router.sh(f"rm {LOGS}/hand-*")


def test_the_log_may_be_in_another_folder_as_the_manual_has_it(
    router: Router, conffile: str
) -> None:
    page = (CHECKOUT / "man" / "ctrecorder.conf.5").read_text().partition(".Sh ANOTHER FOLDER")[2]
    commands = (
        page.partition(".Bd -literal -offset indent\n")[2].partition(".Ed")[0].replace("\\e", "\\")
    )
    router.sh(re.sub(r"^# ", "", commands, flags=re.MULTILINE).replace("/srv/log", "/opt/log"))
    folder = "folder = /opt/log\n"
    configure(
        router, f"[record]\ntemplate = /opt/log/%s.ctlog\n[squeeze]\n{folder}[expire]\n{folder}"
    )
    try:
        router.restart()
        port = router.lab.tcp(INSIDE, (SERVER, 25))
        router.wait(
            lambda: router.lines("-p", port, "/opt/log"), "the connection in the other folder"
        )
        router.sh("sleep 1.1; systemctl reload ctrecord.service; sleep 1")
        router.sh("systemctl start ctsqueeze.service ctexpire.service")
        assert (
            len(
                router.journal(
                    f"MESSAGE_ID={messages.SQUEEZED.id}", "_SYSTEMD_UNIT=ctsqueeze.service"
                )
            )
            >= 1
        )
        assert (
            "/opt/log/"
            in router.journal(f"MESSAGE_ID={messages.SQUEEZED.id}")[-1]["CTRECORDER_PATH"]
        )
    finally:
        router.sh(
            "rm -r /etc/systemd/system/ctrecord.service.d /etc/systemd/system/ct*e.service.d; "
            "systemctl daemon-reload"
        )


def test_the_nightly_jobs_squeeze_and_delete_and_log_their_receipts(
    router: Router, conffile: str
) -> None:
    router.lab.flush()
    for number in range(CONNECTIONS):
        router.lab.udp(INSIDE, (SERVER, 53), sport=20000 + number)
    router.lab.flush()
    router.wait(
        lambda: len(router.lines("--event", "destroy", "-p", "53")) >= CONNECTIONS, "all ends"
    )
    old = router.sh(f"ls -t {LOGS}/2*.ctlog | head -1").strip()
    router.sh("sleep 1.1; systemctl reload ctrecord.service")
    router.wait(
        lambda: router.sh(f"ls -t {LOGS}/2*.ctlog | head -1").strip() != old, "a new segment"
    )
    before = len(router.lines("-s"))

    router.run("systemctl", "start", "ctsqueeze.service")
    squeezed = router.journal(f"MESSAGE_ID={messages.SQUEEZED.id}", f"CTRECORDER_PATH={old}")
    assert [entry["_SYSTEMD_UNIT"] for entry in squeezed] == ["ctsqueeze.service"]
    assert int(squeezed[-1]["CTRECORDER_CONNECTIONS"]) >= CONNECTIONS
    assert (
        0
        < int(squeezed[-1]["CTRECORDER_BYTES_AFTER"])
        < int(squeezed[-1]["CTRECORDER_BYTES_BEFORE"])
    )
    assert len(router.lines("-s")) == before
    assert router.run("cttest", LOGS, check=False).returncode in (0, 1)
    assert router.sh(f"stat -c '%A %U %G' {old}").strip() == "-rw-r----- ctrecorder ctrecorder"

    configure(router, conffile.replace("#max_age = 90d", "max_age = 1s\ntrust_clock = yes"))
    router.run("systemctl", "start", "ctexpire.service")
    (expired,) = router.journal(f"MESSAGE_ID={messages.EXPIRED.id}", f"CTRECORDER_PATH={old}")
    assert re.fullmatch(r"[0-9a-f]{32}", expired["CTRECORDER_LAST_HASH"])
    left = router.sh(f"ls {LOGS}").split()
    assert old.rpartition("/")[2] not in left
    assert left, "never the live one"
    assert active(router)


@pytest.mark.parametrize("job", ["ctsqueeze", "ctexpire"])
def test_a_timer_that_fires_starts_its_job(router: Router, job: str) -> None:
    started = "ExecMainStartTimestampMonotonic"
    before = router.show(f"{job}.service", started)[started]
    # The unit's own timer, with a time that comes at once.
    folder = f"/run/systemd/system/{job}.timer.d"
    router.sh(
        f"mkdir -p {folder}; printf "
        "'[Timer]\\nOnActiveSec=1s\\nRandomizedDelaySec=0\\nAccuracySec=10ms\\n' "
        f">{folder}/test.conf"
    )
    router.sh(f"systemctl daemon-reload; systemctl restart {job}.timer")
    try:
        router.wait(
            lambda: router.show(f"{job}.service", started)[started] != before,
            f"{job} started by its timer",
        )
        router.wait(
            lambda: router.show(f"{job}.service", "ActiveState")["ActiveState"] == "inactive",
            f"{job} to end",
        )
        assert router.show(f"{job}.service", "Result")["Result"] == "success"
    finally:
        router.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl restart {job}.timer")
