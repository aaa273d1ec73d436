"""ctship to the real engine of ClickHouse: each connection counts exactly once, whatever fails."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import Kind
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from tests.support import asked
from tests.support.asked import HOUR
from tests.support.clickhouse import Server
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import SECOND, T


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "clickhouse")
    yield made
    made.close()


def ship(*arguments: object, router: str = "edge1") -> tuple[int, str]:
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctship", "--router", router, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def archive(folder: Path) -> Path:
    """A squeezed archive of three segments, with a flow that is open over all of them."""
    folder.mkdir()
    for path in asked.record(folder, chain="00c0ffee00c0ffee"):
        squeeze(path, SqueezeOptions())
    return folder


def rows_of(folder: Path) -> list[tuple[str, ...]]:
    """All connections of an archive, as the columns of `held` should have them."""
    found = []
    for path in sorted(folder.glob("*.ctlog")):
        with open_segment(str(path)) as segment:
            for block in segment.blocks_of(Kind.CONNECTIONS):
                table = segment.read(block)
                for row in range(len(table)):
                    value = {name: int(table[name][row]) for name in _NAMES}
                    end = value["end"] if value["end_source"] else value["start"]
                    found.append(
                        (
                            _address(value["orig_src"]),
                            str(value["orig_sport"]),
                            _address(value["reply_dst"]),
                            str(value["reply_dport"]),
                            _address(value["orig_dst"]),
                            str(value["orig_dport"]),
                            str(value["start"] // 1000),
                            str((end - value["start"]) // 1000),
                            str(value["seen"]),
                        )
                    )
    return sorted(found)


_NAMES = (
    *("orig_src", "orig_sport", "reply_dst", "reply_dport", "orig_dst", "orig_dport"),
    *("start", "end", "end_source", "seen"),
)
_HELD = (
    "SELECT inside, inside_port, public, public_port, remote, remote_port, "
    "toUnixTimestamp64Micro(start), duration, seen FROM held"
)


def _address(value: int) -> str:
    return f"::ffff:{ipaddress.IPv4Address(value)}"


def held(server: Server) -> list[tuple[str, ...]]:
    return sorted(tuple(row) for row in server.ask(_HELD))


def test_each_connection_is_there_once_with_its_values(server: Server, tmp_path: Path) -> None:
    folder = archive(tmp_path / "log")
    code, said = ship("--to", server.target, folder)
    assert (code, said.count("stored as rows")) == (0, 3), said
    assert held(server) == rows_of(folder)
    assert len(held(server)) > 0
    assert server.ask("SELECT count(), uniqExact(upload), sum(rows) FROM segments") == [
        ["3", "3", str(len(rows_of(folder)))]
    ]
    gaps = server.ask("SELECT marks FROM segments ORDER BY sequence LIMIT 1")
    assert "heartbeat" in str(gaps)
    # Nothing is sent again, also if what was noted is lost.
    assert ship("--to", server.target, folder) == (0, "")
    (folder / "ctship.shipped").unlink()
    assert ship("--to", server.target, folder)[0] == 0
    assert server.ask("SELECT count() FROM segments") == [["3"]]
    code, said = ship("--to", server.target, "--status", folder)
    assert "3 stored" in said


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
@pytest.mark.parametrize("table", ["INSERT INTO connections", "INSERT INTO segments"])
def test_a_connection_that_breaks_changes_nothing(
    server: Server, tmp_path: Path, when: str, table: str
) -> None:
    """The answer is lost before or after the server did its work: the rows count once."""
    folder = archive(tmp_path / "log")
    server.fail(when, table)
    code, said = ship("--to", server.target, folder)
    assert code == 2
    assert "the rest waits" in said
    code, said = ship("--to", server.target, folder)
    assert code == 0, said
    assert held(server) == rows_of(folder)


def test_kill_9_and_late_retries_after_many_other_inserts(server: Server, tmp_path: Path) -> None:
    folder = archive(tmp_path / "log")
    chance = random.Random(3)
    for _ in range(8):
        running = subprocess.Popen(
            [CHECKOUT / "bin" / "ctship", "--router", "edge1", "--to", server.target, folder],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(chance.uniform(0.4, 1.2))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        (folder / "ctship.shipped").unlink(missing_ok=True)
    assert ship("--to", server.target, folder)[0] == 0
    assert held(server) == rows_of(folder)
    # An upload without its row in `segments` counts nowhere, and is deleted by the statement of
    # clickhouse.sql.
    server.ask(
        "INSERT INTO connections (upload, segment_begin, inside) SELECT generateUUIDv4(), "
        "toDateTime('2023-11-14'), toIPv6('10.6.6.6') FROM numbers(100)"
    )
    assert held(server) == rows_of(folder)


def test_a_segment_that_is_squeezed_again_counts_once(server: Server, tmp_path: Path) -> None:
    folder = archive(tmp_path / "log")
    assert ship("--to", server.target, folder)[0] == 0
    before = held(server)
    # The same segment with another hash: as if it had been made again.
    server.ask(
        "INSERT INTO segments SELECT * REPLACE (generateUUIDv4() AS upload, 'other' AS last_hash, "
        "now64(6) + INTERVAL 1 SECOND AS uploaded, 0 AS rows) FROM segments WHERE sequence = 1"
    )
    after = held(server)
    assert 0 < len(after) < len(before)
    assert server.ask("SELECT count() FROM counted") == [["3"]]


def test_one_segment_is_one_part(server: Server, tmp_path: Path) -> None:
    folder = archive(tmp_path / "log")
    assert ship("--to", server.target, folder)[0] == 0
    assert server.ask(
        "SELECT max(parts) FROM (SELECT upload, uniqExact(_part) AS parts FROM "
        "connections GROUP BY upload)"
    ) == [["1"]]


def test_two_routers_and_a_database_that_is_none(server: Server, tmp_path: Path) -> None:
    folder = archive(tmp_path / "log")
    assert ship("--to", server.target, folder)[0] == 0
    other = archive(tmp_path / "log2")
    assert ship("--to", server.target, other, router="edge2")[0] == 0
    assert server.ask("SELECT router, count() FROM held GROUP BY router ORDER BY router") == [
        ["edge1", str(len(rows_of(folder)))],
        ["edge2", str(len(rows_of(other)))],
    ]
    code, said = ship("--to", f"clickhouse://127.0.0.1:{server.port}/none", folder)
    assert code == 2
    assert "does not exist" in said
    code, said = ship("--to", "clickhouse://127.0.0.1:9/log", folder)
    assert code == 2
    assert "Connection refused: the rest waits" in said


def test_what_expires_on_the_router_expires_there_and_a_held_one_does_not(
    server: Server, tmp_path: Path
) -> None:
    """The TTL of clickhouse.sql, which the shim makes longer: the connections are of 2023."""
    folder = archive(tmp_path / "log")
    assert ship("--to", server.target, folder)[0] == 0
    before = held(server)
    begun = f"fromUnixTimestamp64Nano(toInt64({T + HOUR}))"
    (hold,) = [one for one in commented() if " UPDATE held = 1 " in one]
    one_hour = re.sub(r"BETWEEN .*", f"= toDateTime({begun})", hold)
    server.ask(f"{one_hour} SETTINGS mutations_sync = 1")
    (ttl,) = re.findall(r"^TTL (segment_begin.*);$", SCHEMA, re.MULTILINE)
    server.ask(f"ALTER TABLE connections MODIFY TTL {ttl}")
    server.ask("OPTIMIZE TABLE connections FINAL")
    assert server.ask("SELECT DISTINCT toUnixTimestamp(segment_begin) FROM connections") == [
        [str((T + HOUR) // SECOND)]
    ]
    kept = held(server)
    assert 0 < len(kept) < len(before)
    # What is left is not the archive: nobody is told that nobody had it.
    code, said = asked_of(server, 40000, T + 20 * SECOND)
    assert (code, "1 of 3" in said or "0 of" in said) == (2, True), said
    # The law came for the others: their rows of `segments` are receipts.
    server.ask(
        "ALTER TABLE segments UPDATE expires = toDateTime(recorded) + INTERVAL 90 DAY WHERE 1 "
        "SETTINGS mutations_sync = 1"
    )
    code, said = asked_of(server, 40000, T + 20 * SECOND)
    assert (code, said.partition("\n")[0]) == (3, "NO LONGER KEPT"), said
    code, said = asked_of(server, 40001, T + HOUR + 65 * SECOND)
    assert (code, "ONE: 10.0.0.5 behind edge1" in said) == (0, True), said


def asked_of(server: Server, port: int, time: int) -> tuple[int, str]:
    done = subprocess.run(
        [
            *(CHECKOUT / "bin" / "ctwho", "--utc", "--store", server.target),
            *(f"{asked.PUBLIC}:{port}", f"@{time // SECOND}"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


SCHEMA = (CHECKOUT / "etc" / "clickhouse.sql").read_text()
# Of what the engine refuses only because it is one process without users and a cluster: not enough
# privileges, no such user, no such cluster.  A mistake of syntax is 62.
_UNDERSTOOD = ("Code: 497.", "Code: 511.", "Code: 701.")


def commented() -> list[str]:
    """The statements in the comments of clickhouse.sql."""
    lines = [line[7:] for line in SCHEMA.splitlines() if line.startswith("--     ")]
    text = "\n".join(line for line in lines if not line.startswith("clickhouse-client"))
    return [one.strip().replace("DB.", "log.") for one in text.split(";") if one.strip()]


def test_each_statement_of_the_schema_is_understood(server: Server) -> None:
    statements = commented()
    assert len(statements) > 10
    refused = []
    for statement in statements:
        try:
            server.ask(statement)
        except AssertionError as error:
            refused.append(str(error))
    assert [one for one in refused if not one.startswith(_UNDERSTOOD)] == []
    assert len(refused) < len(statements) - 4


def test_nobody_speaks_for_another_router(server: Server, tmp_path: Path) -> None:
    """The constraint of clickhouse.sql: here the user of the engine is `default`."""
    for statement in commented():
        if "ADD CONSTRAINT own" in statement:
            server.ask(statement)
    folder = archive(tmp_path / "log")
    code, said = ship("--to", server.target, folder, router="edge2")
    assert code == 2
    assert "Constraint `own`" in said
    assert "the rest waits" in said
    assert held(server) == []
    assert ship("--to", server.target, folder, router="default")[0] == 0
    assert held(server) == rows_of(folder)
