"""A mail, split into its headers and parts.

Own code, and not the email package: that one parses a feedback report as a container, keeps no
line numbers, and has no bounds.  The rules are those of RFC 2045, 2046 and 5322, with what real
senders break: wrong ends of lines, missing ends of parts, broken base64.
"""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.errors import HeaderParseError
from email.header import decode_header

from ctrecorder.envelopes.bounds import MAX_HEADER_LINES, Budget
from ctrecorder.envelopes.html import without_marks
from ctrecorder.envelopes.text import Text, decode
from ctrecorder.envelopes.unpack import GZIP, ZIP, Broken, gunzip, unzip

_HEADER = re.compile(r"([!-9;-~]{1,100}):")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_BYTES_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_PARAMETER = re.compile(r';\s*([\w-]{1,40})(?:\*\d*\*?)?\s*=\s*("[^"]*"|[^\s;]*)')
_FOLD = re.compile(r"(?:\r\n|\n|\r)(?=[ \t])")
_CR = re.compile(rb"\r(?!\n)")
_BLANK = re.compile(rb"[ \t\r\n]+")
_PACKED = re.compile(rb"[A-Za-z0-9+/]*")
_WORDS = re.compile(r"\s+")
# The longest header that is decoded (RFC 2047).
_MAX_HEADER = 2_000
# The headers of one entity, in bytes.
_MAX_HEADERS = 2**20
# Parts that hold no fields, and archives that are documents.
_NO_TEXT: tuple[str, ...] = ("image/", "audio/", "video/", "font/", "application/pdf")
_NO_TEXT += ("application/pgp-", "application/pkcs7-", "application/x-pkcs7-")
_DOCUMENTS = (".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".jar", ".apk", ".pdf", ".asc")
# Two of these make a file a mail.
_COMMON = {"from", "to", "subject", "received", "message-id", "mime-version", "content-type"}
_COMMON |= {"return-path", "delivered-to", "reply-to", "x-original-to", "date"}


@dataclass(frozen=True)
class Header:
    """A header: its name in lower case, its value unfolded, and where the value stands."""

    name: str
    value: str
    text: Text
    start: int
    end: int

    @property
    def words(self) -> str:
        """The value with its encoded words decoded (RFC 2047), on one line."""
        value = self.value[:_MAX_HEADER]
        try:
            parts = decode_header(value)
        except (HeaderParseError, ValueError):
            return value
        texts = [
            part if isinstance(part, str) else decode(part, charset or "")[0]
            for part, charset in parts
        ]
        return _WORDS.sub(" ", "".join(texts)).strip()


@dataclass(frozen=True)
class Part:
    """A part that is no container.

    `kind`: its type, "text/plain".  `mail`: the mail that a message/rfc822 encloses.  `broken`: why
    it could not be decoded.
    """

    kind: str
    name: str
    text: Text
    mail: Mail | None = None
    broken: str = ""


@dataclass(frozen=True)
class Mail:
    """Headers and parts; a file that is no mail is one part without headers."""

    headers: tuple[Header, ...]
    parts: tuple[Part, ...]

    def header(self, name: str) -> Header | None:
        """The first of this name."""
        return next((header for header in self.headers if header.name == name), None)

    def words(self, name: str) -> str:
        """The decoded value of the first of this name; "": there is none."""
        header = self.header(name)
        return header.words if header else ""


@dataclass(frozen=True)
class _Entity:
    """Where the parser is: names of file and part, depth, and what is used up."""

    file: str
    part: str
    depth: int
    budget: Budget

    def child(self, number: int) -> _Entity:
        part = f"{self.part}.{number}" if self.part else str(number)
        return replace(self, part=part, depth=self.depth + 1)


def is_mail(data: bytes) -> bool:
    """Whether this is a mail: it begins with headers."""
    text = Text("", "", data[:50_000])
    headers, _ = parse_headers(text)
    return len({header.name for header in headers} & _COMMON) > 1


def parse_mail(data: bytes, file: str, budget: Budget) -> Mail:
    """Raises Refused."""
    return _mail(data, _Entity(file, "", 0, budget))


def parse_file(data: bytes, file: str, budget: Budget) -> Mail:
    """A file that is no mail, as a mail without headers.  Raises Refused."""
    text = Text(file, "", data)
    budget.lines(text.count)
    return Mail((), (Part("text/plain", file, text),))


def parse_headers(text: Text, start: int = 0) -> tuple[tuple[Header, ...], int]:
    """The headers from a position of a text on, and where the rest begins."""
    found, position = _scan(text.text, start)
    headers = [
        Header(name, _FOLD.sub("", text.text[begin:end]).strip(), text, begin, end)
        for name, begin, end in found
    ]
    return tuple(headers), position


def _scan(text: str, start: int = 0) -> tuple[list[tuple[str, int, int]], int]:
    """(name, start and end of the value) of each header, and where the rest begins."""
    found: list[tuple[str, int, int]] = []
    position = start
    for number, match in enumerate(_LINE.finditer(text, start)):
        line = match[0].rstrip("\r\n")
        end = match.start() + len(line)
        if not line.strip():
            return found, match.end()
        if line[0] in " \t" and found:
            found[-1] = (*found[-1][:2], end)
        elif header := _HEADER.match(line):
            found.append((header[1].lower(), match.start() + header.end(), end))
        elif number or not line.startswith("From "):
            break
        position = match.end()
        if number >= MAX_HEADER_LINES:
            break
    return found, position


def _mail(data: bytes, entity: _Entity) -> Mail:
    headers, body = _entity(data, entity)
    return Mail(headers, tuple(_parts(headers, body, entity, top=True)))


def _entity(data: bytes, entity: _Entity) -> tuple[tuple[Header, ...], bytes]:
    """The headers and the body of an entity."""
    # As Latin-1, positions are those of the bytes.
    _, end = _scan(data[:_MAX_HEADERS].decode("latin-1"))
    headers, _ = parse_headers(Text(entity.file, entity.part, data[:end]))
    return headers, data[end:]


def _parts(
    headers: tuple[Header, ...], body: bytes, entity: _Entity, *, top: bool = False
) -> Iterator[Part]:
    """The parts of an entity with these headers.  `top`: of a mail, not of a part of it."""
    entity.budget.part(entity.depth)
    values = {header.name: header.value for header in reversed(headers)}
    kind, parameters = _type(values.get("content-type", ""))
    _, disposition = _type(values.get("content-disposition", ""))
    name = disposition.get("filename", parameters.get("name", ""))
    if kind.startswith("multipart/") and parameters.get("boundary"):
        children = list(_split(body, parameters["boundary"].encode("utf-8", "surrogateescape")))
        for number, child in enumerate(children, 1):
            inner = entity.child(number)
            yield from _parts(*_entity(child, inner), inner)
        if children:
            return
    if top:
        entity = entity.child(1)
    data, broken = _decoded(body, values.get("content-transfer-encoding", ""))
    if kind == "message/rfc822":
        text = Text(entity.file, entity.part, b"")
        yield Part(kind, name, text, _mail(data, replace(entity, depth=entity.depth + 1)))
        return
    yield from _leaf(kind, name, data, entity, parameters.get("charset", ""), broken)


def _leaf(
    kind: str, name: str, data: bytes, entity: _Entity, charset: str, broken: str = ""
) -> Iterator[Part]:
    """A part, or the members of the archive that it is.  Raises Refused."""
    if kind.startswith(_NO_TEXT) or name.lower().endswith(_DOCUMENTS):
        data = b""
    elif data.startswith((ZIP, GZIP)):
        try:
            if data.startswith(ZIP):
                members = unzip(data, entity.budget, entity.depth + 1)
            else:
                members = [(name.removesuffix(".gz"), gunzip(data, entity.budget))]
        except Broken as error:
            members, broken = [], str(error)
        for number, (member, content) in enumerate(members, 1):
            inner = entity.child(number)
            entity.budget.part(inner.depth)
            yield from _leaf("application/octet-stream", member, content, inner, "")
        data = b""
        if members:
            return
    text = Text(entity.file, entity.part, data, charset)
    entity.budget.lines(text.count)
    if kind == "text/html":
        text.show(without_marks(text.text))
    yield Part(kind, name, text, None, broken)


def _type(value: str) -> tuple[str, dict[str, str]]:
    """Type and parameters of a header such as Content-Type."""
    kind = value.partition(";")[0].strip().lower() or "text/plain"
    parameters = {
        match[1].lower(): match[2].strip('"') for match in _PARAMETER.finditer(value[:_MAX_HEADER])
    }
    return kind, parameters


def _split(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """The parts between the lines of a boundary."""
    mark = b"--" + boundary
    start = -1
    for match in _BYTES_LINE.finditer(body):
        line = match[0].rstrip()
        if line == mark or line == mark + b"--":
            if start >= 0:
                yield body[start : match.start()]
            start = match.end() if line == mark else -1
            if start < 0:
                return
    if start >= 0:
        yield body[start:]


def _decoded(body: bytes, encoding: str) -> tuple[bytes, str]:
    """The body without its transfer encoding, and why that failed."""
    encoding = encoding.strip().lower()
    if encoding == "quoted-printable":
        # The library does not know a line that ends with CR alone.
        return quopri.decodestring(_CR.sub(b"\n", body)), ""
    if encoding == "base64":
        return _base64(body)
    return body, ""


def _base64(body: bytes) -> tuple[bytes, str]:
    """What can be decoded, up to the first character that does not belong there."""
    packed = _BLANK.sub(b"", body)
    group = _PACKED.match(packed)
    good = group[0] if group else b""
    rest = packed[len(good) :].strip(b"=")
    whole = good[: len(good) - 1] if len(good) % 4 == 1 else good
    data = binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
    return data, "its base64 is broken" if rest or len(whole) < len(good) else ""
