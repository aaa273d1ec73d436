"""Segments sent to ClickHouse, over its HTTP interface, as rows.

The rows of a segment are one block, so they arrive whole or not at all.  A row of the table
`segments` names their upload, and is written last: rows without one count nowhere.  So a half
upload, a repeat and a late retry change no answer, whatever ClickHouse remembers of them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctrecorder.archive import chain
from ctrecorder.archive.find import find
from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.errors import CtrecorderError
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording
from ctrecorder.segment.skeleton import pieces
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.rowbinary import COLUMNS, row_bytes, rows, text, texts, upload_bytes
from ctrecorder.shipping.server import ACCESS_DENIED, NO_COLUMN, RefusedError, Server
from ctrecorder.shipping.target import Target
from ctrecorder.shipping.waiting import Waiting, begun_second

# Of the schema: what a row of `segments` has, and what ctwho can be asked.
VERSION = 2
# One block of any segment: then it is one part of the table, written whole or not at all.
_ONE_BLOCK = (1 << 31) - 1
_ONE_PART = {
    "max_block_size": _ONE_BLOCK,
    "max_insert_block_size": _ONE_BLOCK,
    "min_insert_block_size_rows": _ONE_BLOCK,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
    "async_insert": 0,
}
_STORED = "stored"
_OLD = "its tables are of an earlier ctrecorder: run what clickhouse.sql has for them"
_MANIFEST = (
    *("router", "chain", "sequence", "upload", "last_hash", "rows", "begin", "end", "header"),
    *("gaps", "marks", "version", "recorded", "span_begin", "span_end", "previous_hash", "hashes"),
    "frames",
)


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
        asked += f"AND version = {VERSION} AND last_hash IN ({listed}) FORMAT TabSeparated"
        try:
            return set(self._server.ask(asked).decode("utf-8", "replace").split())
        except RefusedError as error:
            if error.exception == ACCESS_DENIED:
                return set()
            if error.exception == NO_COLUMN:
                raise TargetError(f"{self.target.text}: {_OLD}") from error
            raise

    def _store(self, segment: Recording, one: Waiting) -> None:
        if not isinstance(segment, Segment) or segment.is_damaged:
            raise CtrecorderError(f"damaged here: {segment.findings[0]}")
        upload, blocks = uuid.uuid4().bytes, list(segment.blocks_of(Kind.CONNECTIONS))
        # Block by block as they are sent: a segment can have more rows than there is memory.
        data = (
            rows(segment.read(block), upload, one.begun, self.router, number)
            for number, block in enumerate(blocks)
        )
        length = sum(block.rows for block in blocks) * row_bytes(self.router)
        if length:
            names = ", ".join(name for name, _ in COLUMNS)
            query = f"INSERT INTO connections ({names}) FORMAT RowBinary"
            self._server.insert(query, data, length, _ONE_PART)
        query = f"INSERT INTO segments ({', '.join(_MANIFEST)}) FORMAT RowBinary"
        manifest = self._manifest(segment, one, upload)
        self._server.insert(query, [manifest], len(manifest), _ONE_PART)

    def _manifest(self, segment: Segment, one: Waiting, upload: bytes) -> bytes:
        """The row of the table `segments`, of the columns _MANIFEST."""
        header, link = segment.header, chain.link(segment)
        span = next(iter(find([one.path], spans=True).spans), None)
        if span is None:
            raise CtrecorderError(f"{one.path}: was deleted meanwhile")
        return texts(
            self.router,
            link.chain,
            header.sequence or begun_second(one.begun),
            upload_bytes(upload),
            one.hashes[0],
            sum(block.rows for block in segment.blocks_of(Kind.CONNECTIONS)),
            *segment.times,
            json.dumps(header.to_json()),
            _notes(segment.gaps),
            _notes(segment.marks),
            VERSION.to_bytes(2, "little"),
            one.begun,
            span.begin,
            span.end,
            link.previous_hash,
            " ".join(link.hashes),
            text(pieces(segment)),
        )

    @property
    def _server(self) -> Server:
        return Server(self.target, self.password_file)


def _notes(found: Iterable[Gap | Mark]) -> str:
    """GAPs or MARKs as JSON, with their times."""
    return json.dumps(
        [{"begin": one.begin, "end": one.end, **json.loads(one.payload())} for one in found]
    )
