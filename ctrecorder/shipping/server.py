"""A database of ClickHouse, asked over its HTTP interface.  What it answers is bounded."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from ctrecorder.errors import why
from ctrecorder.shipping.results import TargetError
from ctrecorder.shipping.target import Target
from ctrecorder.terminal import printable

# Shorter, a server that merges does not answer in time; longer, one that hangs keeps the others.
_SECONDS = 120
# Bytes of an answer if nothing else is said, of a password file, and of a reason.
_MAX_ANSWER, _MAX_PASSWORD, _MAX_WHY = 1 << 20, 4096, 300
ACCESS_DENIED, NO_COLUMN = "497", "47"


class RefusedError(TargetError):
    """The server refused a query; `exception`: its code."""

    def __init__(self, what: str, exception: str) -> None:
        super().__init__(what)
        self.exception = exception


class TooLongError(TargetError):
    """An answer has more bytes than are read."""


@dataclass(frozen=True)
class Server:
    """The database of `target`.

    `password_file`: the file with the password of the user; "": none.
    """

    target: Target
    password_file: str = ""

    def insert(
        self, query: str, data: Iterable[bytes], length: int, settings: Mapping[str, int]
    ) -> None:
        """Run an INSERT with `data`, of `length` bytes in all.  Raises TargetError."""
        self._post({"query": query, **settings}, data, length, _MAX_ANSWER)

    def ask(self, query: str, most: int = _MAX_ANSWER) -> bytes:
        """The answer to a SELECT, of at most `most` bytes.  Raises TargetError."""
        asked = query.encode()
        return self._post({}, [asked], len(asked), most)

    def _post(
        self, asked: Mapping[str, str | int], data: Iterable[bytes], length: int, most: int
    ) -> bytes:
        user, _, place = self.target.host.rpartition("@")
        asked = {"database": self.target.folder, "wait_end_of_query": 1, **asked}
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        if user:
            secret = f"{user}:{self._password()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        try:
            server = _Connection(place, timeout=_SECONDS)
            try:
                server.request("POST", f"/?{urlencode(asked)}", data, headers)
                with server.getresponse() as answer:
                    found = answer.read(most)
            finally:
                server.close()
        except (OSError, http.client.HTTPException) as error:
            said = why(error) if isinstance(error, OSError) else type(error).__name__
            raise TargetError(f"{self.target.text}: {said}") from error
        self._check(answer, found, most)
        return found

    def _check(self, answer: http.client.HTTPResponse, found: bytes, most: int) -> None:
        """Raise TargetError for what is no whole answer of a ClickHouse."""
        code = answer.headers.get("X-ClickHouse-Exception-Code", "")
        end = found[-_MAX_WHY:].decode("utf-8", "replace")
        if answer.status != http.client.OK or code or "Exception: " in end:
            said = printable(found[:_MAX_WHY].decode("utf-8", "replace").strip())
            raise RefusedError(
                f"{self.target.text}: {said or f'HTTP status {answer.status}'}", code
            )
        # Another server that says OK to all would acknowledge what it never stored.
        if not any(name.lower().startswith("x-clickhouse-") for name in answer.headers):
            raise TargetError(f"{self.target.text}: what answers there is no ClickHouse")
        if len(found) >= most:
            raise TooLongError(f"{self.target.text}: its answer has more than {most:,} bytes")
        if answer.length:
            raise TargetError(f"{self.target.text}: its answer is not whole")

    def _password(self) -> str:
        if not self.password_file:
            return ""
        try:
            with Path(self.password_file).open("rb") as file:
                return file.read(_MAX_PASSWORD).decode("utf-8", "replace").strip()
        except OSError as error:
            raise TargetError(f"{self.password_file}: {why(error)}") from error


class _Connection(http.client.HTTPConnection):
    default_port = 8123
