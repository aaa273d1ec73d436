"""A ClickHouse server of one process for the tests: the real engine (chdb) behind its HTTP
interface, as far as ctship uses it.  No Debian has a current server.

`python3 -m tests.support.clickhouse_shim PORT FOLDER`.  FOLDER/fail, if there is one, has a line
BEFORE or AFTER and a text: a query with this text fails before, or after, the engine ran it.
"""

from __future__ import annotations

import http.server
import re
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) FORMAT (\w+)")
_BLOCKS = (
    *("max_block_size", "max_insert_block_size", "min_insert_block_size_rows"),
    *("min_insert_block_size_bytes", "max_insert_threads"),
)


class Handler(http.server.BaseHTTPRequestHandler):
    """Runs one query at a time."""

    session: Any = None
    refused: type[BaseException] = ValueError
    folder = Path()
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """Run the query of the URL with the body."""
        asked = {name: found[0] for name, found in parse_qs(urlsplit(self.path).query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with self.lock:
            try:
                query = asked.get("query") or body.decode()
                self._fail("BEFORE", query)
                data = self._run(asked, query, body)
                self._fail("AFTER", query)
                status = 200
            except ConnectionError:
                self.close_connection = True
                return
            except (self.refused, ValueError) as error:
                status, data = 500, str(error).encode()
        self.send_response(status)
        if code := re.search(rb"Code: (\d+)", data if status != 200 else b""):
            self.send_header("X-ClickHouse-Exception-Code", code[1].decode())
        self.send_header("X-ClickHouse-Query-Id", "1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, when: str, query: str) -> None:
        wanted = self.folder / "fail"
        if wanted.exists():
            word, _, text = wanted.read_text().strip().partition(" ")
            if word == when and text in query:
                wanted.unlink()
                raise ConnectionError

    def _run(self, asked: dict[str, str], query: str, body: bytes) -> bytes:
        if asked.get("database", "") not in ("log", "default"):
            raise ValueError(f"Code: 81. Database {asked['database']} does not exist")
        match = _INSERT.match(query)
        if match is None:
            return bytes(self.session.query(query, "TabSeparated").bytes())
        table, names, form = match.groups()
        described = str(self.session.query(f"DESCRIBE TABLE {table}", "TabSeparatedRaw"))
        types = dict(line.split("\t")[:2] for line in described.splitlines())
        structure = ", ".join(f"{name} {types[name]}" for name in names.split(", "))
        data = self.folder / "body"
        data.write_bytes(body)
        structure = structure.replace("'", "''")
        settings = ", ".join(f"{name} = {asked[name]}" for name in _BLOCKS if name in asked)
        self.session.query(
            f"INSERT INTO {table} ({names}) SELECT * FROM file('{data}', '{form}', '{structure}') "
            f"SETTINGS {settings}"
        )
        return b""


def main(port: int, folder: Path) -> None:
    """Serve, with the tables of etc/clickhouse.sql in the database `log`."""
    from chdb import ChdbError
    from chdb.session import Session

    Handler.refused = ChdbError

    Handler.session, Handler.folder = Session(str(folder / "data")), folder
    text = (Path(__file__).parents[2] / "etc" / "clickhouse.sql").read_text()
    Handler.session.query("CREATE DATABASE IF NOT EXISTS log")
    Handler.session.query("USE log")
    # The tests' connections are of 2023: they would be dropped as soon as they are inserted.
    text = text.replace("INTERVAL 90 DAY", "INTERVAL 50 YEAR")
    for statement in re.sub(r"--.*", "", text).split(";"):
        if statement.strip():
            Handler.session.query(statement)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    (folder / "ready").write_text(str(server.server_address[1]))
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
