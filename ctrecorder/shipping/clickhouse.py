"""Segments sent to ClickHouse, over its HTTP interface, as rows.

The rows of a segment are one block, so they arrive whole or not at all.  A row of the table
`segments` names their upload, and is written last: rows without one count nowhere.  So a half
upload, a repeat and a late retry change no answer, whatever ClickHouse remembers of them.
"""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.errors import CtrecorderError, why
from ctrecorder.segment.recording import Recording
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.rowbinary import COLUMNS, rows
from ctrecorder.shipping.target import Target
from ctrecorder.shipping.waiting import Waiting
from ctrecorder.terminal import printable

# Shorter, a server that merges does not answer in time; longer, one that hangs keeps the others.
_SECONDS = 120
# Bytes of an answer, and of a password file, that are read.
_MAX_ANSWER, _MAX_PASSWORD, _MAX_WHY = 1 << 20, 4096, 300
# One block of any segment: then it is one part of the table, written whole or not at all.
_ONE_BLOCK = 1 << 31
_STORED = "stored"


@dataclass(frozen=True)
class Store:
    """Sends segments to the database of `target`, as those of `router`.

    `password_file`: the file with the password of the user; "": none.
    """

    target: Target
    router: str
    password_file: str = ""

    def send(self, batch: Sequence[Waiting]) -> dict[str, Result]:
        """Send `batch`; returns what became of each segment, by name.

        Raises TargetError if the server cannot be used.
        """
        done: dict[str, Result] = {}
        known = self._known(batch)
        for one in batch:
            if one.hashes[0] in known:
                done[one.name] = Result(_STORED)
                continue
            try:
                with open_segment(one.path) as segment:
                    self._store(segment, one)
                done[one.name] = Result(_STORED)
            except TargetError as error:
                raise TargetError(str(error), done) from error
            except CtrecorderError as error:
                done[one.name] = Result("", str(error))
        return done

    def _known(self, batch: Sequence[Waiting]) -> set[str]:
        """The last hashes of those segments that are there; none if this user may not read."""
        listed = ", ".join(f"'{one.hashes[0]}'" for one in batch)
        asked = f"SELECT last_hash FROM counted WHERE router = '{self.router}' "
        try:
            answer = self._post(f"{asked} AND last_hash IN ({listed}) FORMAT TabSeparated", b"")
        except _RefusedError as error:
            if error.exception == _ACCESS_DENIED:
                return set()
            raise
        return set(answer.split())

    def _store(self, segment: Recording, one: Waiting) -> None:
        upload = uuid.uuid4()
        begin, (first, last) = one.begun, segment.times
        tables = [segment.read(block) for block in segment.blocks_of(Kind.CONNECTIONS)]
        if segment.is_damaged:
            raise CtrecorderError(f"damaged here: {segment.findings[0]}")
        data = b"".join(rows(table, upload.bytes, begin, self.router) for table in tables)
        if data:
            names = ", ".join(name for name, _ in COLUMNS)
            self._post(f"INSERT INTO connections ({names}) FORMAT RowBinary", data)
        header = segment.header
        facts = {
            "router": self.router,
            "chain": header.chain or "",
            "sequence": header.sequence or 0,
            "upload": str(upload),
            "last_hash": one.hashes[0],
            "rows": sum(map(len, tables)),
            "begin": f"{first / 1e9:.9f}" if first < 0 else _stamp(first),
            "end": _stamp(last),
            "header": json.dumps(header.to_json()),
            "gaps": _notes(segment.gaps),
            "marks": _notes(segment.marks),
        }
        names = ", ".join(facts)
        self._post(f"INSERT INTO segments ({names}) FORMAT JSONEachRow", json.dumps(facts).encode())

    def _post(self, query: str, data: bytes) -> str:
        """The answer to a query with `data`.  Raises TargetError."""
        user, _, place = self.target.host.rpartition("@")
        settings = {
            "database": self.target.folder,
            "query": query,
            "max_block_size": _ONE_BLOCK - 1,
            "max_insert_block_size": _ONE_BLOCK - 1,
            "min_insert_block_size_rows": _ONE_BLOCK - 1,
            "min_insert_block_size_bytes": 0,
            "max_insert_threads": 1,
            "async_insert": 0,
            "wait_end_of_query": 1,
        }
        headers = {"Content-Type": "application/octet-stream"}
        if user:
            secret = f"{user}:{self._password()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        try:
            server = _Server(place, timeout=_SECONDS)
            try:
                server.request("POST", f"/?{urlencode(settings)}", data, headers)
                with server.getresponse() as answer:
                    text = answer.read(_MAX_ANSWER).decode("utf-8", "replace")
            finally:
                server.close()
        except (OSError, http.client.HTTPException) as error:
            said = why(error) if isinstance(error, OSError) else type(error).__name__
            raise TargetError(f"{self.target.text}: {said}") from error
        code = answer.headers.get("X-ClickHouse-Exception-Code", "")
        if answer.status != http.client.OK or code or "Exception: " in text[-_MAX_WHY:]:
            said = printable(text.strip()[:_MAX_WHY]) or f"HTTP status {answer.status}"
            raise _RefusedError(f"{self.target.text}: {said}", code)
        # Another server that says OK to all would acknowledge what it never stored.
        if not any(name.lower().startswith("x-clickhouse-") for name in answer.headers):
            raise TargetError(f"{self.target.text}: what answers there is no ClickHouse")
        if answer.length:
            raise TargetError(f"{self.target.text}: its answer is not whole")
        return text

    def _password(self) -> str:
        if not self.password_file:
            return ""
        try:
            with Path(self.password_file).open("rb") as file:
                return file.read(_MAX_PASSWORD).decode("utf-8", "replace").strip()
        except OSError as error:
            raise TargetError(f"{self.password_file}: {why(error)}") from error


class _Server(http.client.HTTPConnection):
    default_port = 8123


_ACCESS_DENIED = "497"


class _RefusedError(TargetError):
    """The server refused a query; `exception`: its code."""

    def __init__(self, what: str, exception: str) -> None:
        super().__init__(what)
        self.exception = exception


def _stamp(ns: int) -> str:
    """A time as ClickHouse reads it for a DateTime64(9): whole ns are a number."""
    second, rest = divmod(ns, 10**9)
    return f"{second}.{rest:09}"


def _notes(found: Iterable[Gap | Mark]) -> str:
    """GAPs or MARKs as JSON, with their times."""
    return json.dumps(
        [{"begin": one.begin, "end": one.end, **json.loads(one.payload())} for one in found]
    )
