"""What a database of ClickHouse says of its segments: those that count, and those that expired.

Its answer is a stranger's: each word of it has its form, or there is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ctrecorder.archive.find import Span
from ctrecorder.archive.routers import chain_of
from ctrecorder.declared import values
from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.kept.retention import Receipt
from ctrecorder.shipping import target
from ctrecorder.shipping.clickhouse import VERSION
from ctrecorder.shipping.results import TargetError
from ctrecorder.shipping.server import NO_COLUMN, RefusedError, Server, TooLongError
from ctrecorder.shipping.waiting import name_of
from ctrecorder.terminal import count
from ctrecorder.times import BEGIN, END, SECOND

_SCHEME = "clickhouse://"
# Bytes of a list: 1,000,000 segments.
_MAX_LIST = 256 << 20
_LISTED = """\
SELECT router, chain, sequence, toString(upload), last_hash, rows,
  toUnixTimestamp64Nano(recorded), toUnixTimestamp64Nano(span_begin),
  toUnixTimestamp64Nano(span_end), version, expires <= now(), stored,
  (SELECT count() > 0 FROM (SELECT 1 FROM segments GROUP BY router, chain, sequence
    HAVING uniqExact(last_hash) > 1)) AS replaced
FROM (SELECT * FROM counted {of_router}) AS listed
LEFT JOIN (SELECT upload, count() AS stored FROM connections GROUP BY upload) AS there
  ON there.upload = listed.upload
FORMAT TabSeparated"""
_REPLACED = """\
SELECT DISTINCT old.router, old.chain, old.sequence, old.last_hash, counted.last_hash
FROM segments AS old INNER JOIN counted USING (router, chain, sequence)
WHERE old.last_hash != counted.last_hash {and_router} FORMAT TabSeparated"""
_EXPIRED = """\
SELECT router, chain, previous_hash, hashes, toUnixTimestamp64Nano(begin),
  toUnixTimestamp64Nano(end), rows, toUnixTimestamp(expires), sequence
FROM counted WHERE expires <= now() {and_router}
  AND upload NOT IN (SELECT upload FROM connections GROUP BY upload) FORMAT TabSeparated"""
_CHAIN, _HASH, _HASHES = r"((?:[0-9a-f]{16})?)", r"([0-9a-f]{32})", r"([0-9a-f ]{0,65535})"
_NUMBER, _TIME = r"([0-9]{1,19})", r"(-?[0-9]{1,19})"
_UPLOAD = r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
_LINE = re.compile(
    "\t".join(
        [r"([^\t]+)", _CHAIN, _NUMBER, _UPLOAD, _HASH, _NUMBER, *[_TIME] * 3]
        + [_NUMBER, "([01])", _NUMBER, "([01])"]
    )
)
_EXPIRED_LINE = re.compile(
    "\t".join([r"([^\t]+)", _CHAIN, _HASH, _HASHES, _TIME, _TIME, *[_NUMBER] * 3])
)
_REPLACED_LINE = re.compile("\t".join([r"([^\t]+)", _CHAIN, _NUMBER, _HASH, _HASH]))
_OLD = "its tables are of an earlier ctrecorder: run what clickhouse.sql has for them"


@dataclass(frozen=True)
class Place:
    """Where an archive is in ClickHouse: `text` as it is written, `router`: "" for all of them."""

    text: str
    server: Server
    router: str = ""

    def ask(self, query: str, most: int) -> bytes:
        """The answer to a query.  Raises ArchiveError, TooLongError for more than `most` bytes."""
        try:
            return self.server.ask(query, most)
        except TooLongError:
            raise
        except RefusedError as error:
            if error.exception == NO_COLUMN:
                raise ArchiveError(f"{self.text}: {_OLD}") from error
            raise ArchiveError(str(error)) from error
        except TargetError as error:
            raise ArchiveError(str(error)) from error


def place(text: str, password_file: str = "") -> Place:
    """The archive clickhouse://HOST:PORT/DB, or DB/ROUTER.  Raises UsageError."""
    database, _, router = text.rpartition("/") if text.count("/") > 3 else (text, "", "")
    try:
        found = target.parse(database)
        if router or database != text:
            values.router(router)
    except (UsageError, ValueError):
        found = None
    if found is None or found.kind != "clickhouse":
        raise UsageError(
            f"'{text}' is no database: write clickhouse://HOST:PORT/DB, or .../DB/ROUTER"
        )
    return Place(text, Server(found, password_file), router)


@dataclass(frozen=True)
class Entry:
    """A segment that counts.

    `upload`: of its rows.  `rows`: how many it has.  `why_not`: why it cannot be read.
    """

    span: Span
    upload: str
    last_hash: str
    rows: int
    why_not: str = ""


@dataclass(frozen=True)
class Manifest:
    """`entries`: by path.  `expired`: if segments are listed whose rows were deleted in time.

    `replaced`: if another content took the place of one.
    """

    entries: dict[str, Entry]
    expired: bool = False
    replaced: bool = False


def read(place: Place) -> Manifest:
    """The segments of an archive.  Raises ArchiveError."""
    of_router = f"WHERE router = '{place.router}'" if place.router else ""
    entries: dict[str, Entry] = {}
    expired = has_replaced = False
    for fields in _lines(place, _LISTED.format(of_router=of_router), _LINE):
        router, chain, upload, last_hash = fields[0], fields[1], fields[3], fields[4]
        number, rows, recorded, begin, end, version, is_old, stored = (
            int(fields[each]) for each in (2, 5, 6, 7, 8, 9, 10, 11)
        )
        has_replaced |= fields[12] == "1"
        if is_old and not stored:
            expired = True
            continue
        path = _path(place, router, chain, number, last_hash)
        recorded, begin, end = map(_time, (recorded, begin, end))
        numbered = number if chain else 0
        span = Span(path, begin, end, recorded, chain_of(router, chain), numbered, squeezed=True)
        entries[path] = Entry(span, upload, last_hash, rows, _why_not(version, stored, rows))
    return Manifest(entries, expired, has_replaced)


def _time(ns: int) -> int:
    return min(max(ns, BEGIN), END)


def _why_not(version: int, stored: int, rows: int) -> str:
    if version != VERSION:
        return "was sent by another version of ctship: delete its line of ctship.shipped there"
    return "" if stored == rows else f"{stored:,} of {count(rows, 'row')} are there"


def _path(place: Place, router: str, chain: str, number: int, last_hash: str) -> str:
    database = place.server.target
    name = name_of(chain, number, last_hash)
    return f"{_SCHEME}{database.host}/{database.folder}/{router}/{name}"


def replaced(place: Place) -> Iterator[tuple[str, str]]:
    """The path of each whole upload that does not count, and of the segment that does.

    Raises ArchiveError.
    """
    and_router = f"AND router = '{place.router}'" if place.router else ""
    for fields in _lines(place, _REPLACED.format(and_router=and_router), _REPLACED_LINE):
        router, chain, number, *hashes = fields
        old, new = (_path(place, router, chain, int(number), each) for each in hashes)
        yield old, new


def expired(place: Place) -> Iterator[tuple[str, str, Receipt]]:
    """Router, chain and receipt of each segment whose rows were deleted in time."""
    and_router = f"AND router = '{place.router}'" if place.router else ""
    for fields in _lines(place, _EXPIRED.format(and_router=and_router), _EXPIRED_LINE):
        router, chain, previous, hashes = fields[:4]
        begin, end, rows, deleted, number = map(int, fields[4:])
        begin, end, deleted = map(_time, (begin, end, deleted * SECOND))
        listed = hashes.split()
        name = name_of(chain, number, listed[0] if listed else "")
        receipt = Receipt(*(name, begin, end, rows, 0, listed, "", previous, deleted, "expired"))
        yield router, chain_of(router, chain), receipt


def _lines(place: Place, query: str, form: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
    data = place.ask(query, _MAX_LIST).decode("utf-8", "replace")
    for line in data.splitlines():
        match = form.fullmatch(line)
        if match is None or not _is_router(match[1]):
            raise ArchiveError(f"{place.text}: what it answers is no list of segments")
        yield match.groups()


def _is_router(name: str) -> bool:
    try:
        return bool(values.router(name))
    except ValueError:
        return False


def uploads(entries: Iterable[Entry]) -> str:
    """The condition of the rows of segments."""
    listed = list(entries)
    recorded = [min(max(each.span.recorded // 10**9, 0), (1 << 32) - 1) for each in listed]
    ids = ", ".join(f"'{each.upload}'" for each in listed)
    least, most = min(recorded), max(recorded)
    return f"BETWEEN toDateTime({least}) AND toDateTime({most}) AND upload IN ({ids})"
