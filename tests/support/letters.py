"""Letters made from known questions, in the forms and styles in which real ones come.

All names, addresses and sentences are invented.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import quopri
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from ctrecorder.envelopes.clock import begin
from ctrecorder.letters.sighting import Sighting
from ctrecorder.times import SECOND

CET = timezone(timedelta(hours=1))


@dataclass(frozen=True)
class Question:
    """What a letter asks.  `second`, `until`: seconds since 1970."""

    address: str
    port: int | None = None
    role: str = "none"
    second: int | None = None
    until: int | None = None
    remote: str | None = None
    remote_port: int | None = None
    protocol: str | None = None

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.second or 0, UTC)


def asked(sighting: Sighting) -> Question:
    """The question of a sighting."""
    first, last = begin(sighting.first), begin(sighting.last)
    return Question(
        sighting.address.value,
        sighting.port.value if sighting.port else None,
        sighting.role.value,
        None if first is None else first // SECOND,
        None if last is None else last // SECOND,
        sighting.remote_address.value if sighting.remote_address else None,
        sighting.remote_port.value if sighting.remote_port else None,
        sighting.protocol.value if sighting.protocol else None,
    )


@dataclass(frozen=True)
class Style:
    """What a reader must bear: it changes no question."""

    newline: str = "\n"
    transfer: str = "7bit"
    charset: str = "utf-8"
    fold: bool = False
    order: random.Random = field(default_factory=lambda: random.Random(0))
    shuffle: bool = False

    def ordered(self, items: Sequence[str]) -> list[str]:
        found = list(items)
        if self.shuffle:
            self.order.shuffle(found)
        return found


# (type, name of the file, text)
Part = tuple[str, str, str]
Maker = Callable[[list[Question], Style], bytes]


def header(name: str, value: str, style: Style) -> str:
    if style.fold:
        value = value.replace(" ", "\n ") if len(value) < 200 else value
    return f"{name}: {value}"


def encoded(text: str, style: Style) -> tuple[str, bytes]:
    """The transfer encoding, and the text in it."""
    data = text.replace("\n", style.newline).encode(style.charset)
    if style.transfer == "base64":
        return "base64", base64.encodebytes(data)
    if style.transfer == "quoted-printable":
        return "quoted-printable", quopri.encodestring(data)
    return "8bit", data


def mail(subject: str, parts: Sequence[Part], style: Style, kind: str = "multipart/mixed") -> bytes:
    """A mail with these parts."""
    headers = style.ordered(
        [
            header("From", "Kiesel Desk <desk@kiesel.example>", style),
            header("To", "abuse@provider.example", style),
            header("Subject", subject, style),
            header("Date", "Wed, 25 Nov 2026 09:30:00 +0100", style),
            "Message-ID: <20261125.083000@kiesel.example>",
            "MIME-Version: 1.0",
            f'Content-Type: {kind};\n boundary="=_kiesel"',
        ]
    )
    chunks = ["\n".join(headers).encode() + b"\n\n"]
    for content, name, text in parts:
        chunks.append(b"--=_kiesel\n" + part(content, name, text, style) + b"\n")
    chunks.append(b"--=_kiesel--\n")
    newline = style.newline.encode()
    return b"".join(chunks).replace(b"\r\n", b"\n").replace(b"\n", newline)


def part(content: str, name: str, text: str, style: Style) -> bytes:
    if content == "message/rfc822":
        return b"Content-Type: message/rfc822\n\n" + text.encode()
    if content in ("message/feedback-report", "text/rfc822-headers"):
        return f"Content-Type: {content}\n\n{text}".encode()
    transfer, data = encoded(text, style)
    lines = [
        f'Content-Type: {content}; charset="{style.charset}"',
        f"Content-Transfer-Encoding: {transfer}",
        f'Content-Disposition: inline; filename="{name}"',
    ]
    return "\n".join(style.ordered(lines)).encode() + b"\n\n" + data


def attached(name: str, data: bytes, style: Style) -> bytes:
    """A mail with one binary attachment."""
    plain = mail("Daily report", [("text/plain", "a.txt", "See the attached file.\n")], style)
    more = (
        b"--=_kiesel\nContent-Type: application/octet-stream; name=" + name.encode() + b"\n"
        b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(data) + b"\n--=_kiesel--\n"
    ).replace(b"\n", style.newline.encode())
    end = b"--=_kiesel--" + style.newline.encode()
    return plain.removesuffix(end) + more


def utc(question: Question) -> str:
    return question.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def acns(question: Question, style: Style, space: str, prefix: str = "") -> str:
    """A notice in XML."""
    tag = f"{prefix}:" if prefix else ""
    names = f"xmlns:{prefix}" if prefix else "xmlns"
    source = [
        f"<{tag}TimeStamp>{utc(question)}</{tag}TimeStamp>",
        f"<{tag}IP_Address>{question.address}</{tag}IP_Address>",
        f"<{tag}Type>Torrent</{tag}Type>",
    ]
    if question.port:
        source.append(f"<{tag}Port>{question.port}</{tag}Port>")
    body = "\n   ".join(style.ordered(source))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{tag}Infringement {names}="{space}">\n'
        f" <{tag}Case><{tag}ID>KIESEL-7</{tag}ID></{tag}Case>\n"
        f" <{tag}Complainant><{tag}Entity>Rock & Sand Filme</{tag}Entity></{tag}Complainant>\n"
        f" <{tag}Source>\n   {body}\n </{tag}Source>\n <{tag}Content><{tag}Item>\n"
        f"   <{tag}TimeStamp>{utc(question)}</{tag}TimeStamp><{tag}Title>Pebbles & Co"
        f"</{tag}Title>\n </{tag}Item></{tag}Content>\n</{tag}Infringement>\n"
    )


def acns_words(question: Question, style: Style) -> str:
    """The same in words."""
    lines = [
        "Infringed Work: Pebbles and Co",
        f"Infringer's IP Address: {question.address}",
        f"Initial Infringement Timestamp: {question.time:%d %b %Y %H:%M:%S} GMT",
    ]
    if question.until:
        until = datetime.fromtimestamp(question.until, UTC)
        lines.append(f"Recent Infringement Timestamp: {until:%d %b %Y %H:%M:%S} GMT")
    if question.port:
        lines.append(f"Infringer's Port: {question.port}")
    return "Facts of the case:\n" + "\n".join(style.ordered(lines)) + "\n\nNo reply is needed.\n"


def signed(text: str) -> str:
    """In the clear, signed with PGP: a dash at the beginning of a line is escaped."""
    escaped = "\n".join(f"- {line}" if line[:1] == "-" else line for line in text.split("\n"))
    return (
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{escaped}\n"
        "-----BEGIN PGP SIGNATURE-----\n\naGVsbG8gd29ybGQ=\n-----END PGP SIGNATURE-----\n"
    )


def make_acns_mail(questions: list[Question], style: Style) -> bytes:
    """Each notice in words and XML in a signed body, and again as an attachment."""
    space = "http://www.acns.net/ACNS"
    body = "".join(
        f"{acns_words(each, style)}\n---- begin\n{acns(each, style, space)}---- end\n"
        for each in questions
    )
    again = [("text/xml", "n.xml", acns(each, style, space)) for each in questions]
    return mail("Notice KIESEL-7", [("text/plain", "n.txt", signed(body)), *again], style)


def make_acns_file(questions: list[Question], style: Style) -> bytes:
    space = "http://www.movielabs.com/ACNS"
    text = "".join(acns(each, style, space, "a") for each in questions)
    return text.replace("\n", style.newline).encode(style.charset)


def make_acns_words(questions: list[Question], style: Style) -> bytes:
    text = "\n".join(acns_words(each, style) for each in questions)
    return mail("Notice", [("text/plain", "n.txt", signed(text))], style)


def make_xarf2(questions: list[Question], style: Style) -> bytes:
    """A report for each, with log lines that tell the same."""
    parts = [("text/plain", "a.txt", "A machine of yours knocked at ours.\n")]
    for each in questions:
        lines = [
            "Reported-From: desk@kiesel.example",
            "Category: abuse",
            "Report-Type: login-attack",
            "Service: ssh",
            "Version: 0.2",
            f"Date: {each.time.astimezone(CET):%a, %d %b %Y %H:%M:%S} +0100",
            "Source-Type: ip-address",
            f"Source: {each.address}",
            "Port: 22",
            "Report-ID: 4711@kiesel.example",
        ]
        parts.append(("text/plain", "report.txt", "---\n" + "\n".join(style.ordered(lines))))
        when = each.time.astimezone(CET).strftime("%d/%b/%Y:%H:%M:%S +0100")
        parts.append(("text/plain", "log", f'{each.address} - - [{when}] "GET / HTTP/1.0" 400 1\n'))
    return mail(f"abuse report about {questions[0].address}", parts, style)


def members(items: dict[str, object], style: Style) -> dict[str, object]:
    return {name: items[name] for name in style.ordered(list(items))}


def make_xarf3(questions: list[Question], style: Style) -> bytes:
    each = questions[0]
    report = members(
        {
            "ReportClass": "Activity",
            "ReportType": "LoginAttack",
            "Date": utc(each),
            "SourceIp": each.address,
            "SourcePort": each.port,
            "DestinationIp": each.remote,
            "DestinationPort": each.remote_port,
            "Protocol": each.protocol,
        },
        style,
    )
    document = members(
        {"Version": "3", "ReporterInfo": {"ReporterOrg": "Kiesel"}, "Report": report}, style
    )
    text = json.dumps(document, indent=1).replace("\n", style.newline)
    return text.encode(style.charset)


def make_xarf4(questions: list[Question], style: Style) -> bytes:
    reports = [
        members(
            {
                "xarf_version": "4.2.0",
                "report_id": "11111111-2222-4333-8444-555555555555",
                "timestamp": utc(each),
                "category": "connection",
                "type": "login_attack",
                "source_identifier": each.address,
                "source_port": each.port,
                "destination_ip": each.remote,
                "destination_port": each.remote_port,
                "protocol": each.protocol,
            },
            style,
        )
        for each in questions
    ]
    return mail("XARF", [("application/json", "x.json", json.dumps(reports, indent=2))], style)


def make_arf(questions: list[Question], style: Style) -> bytes:
    each = questions[0]
    fields = [
        header("Feedback-Type", "abuse", style),
        header("User-Agent", "Kiesel/3", style),
        header("Version", "1", style),
        header("Arrival-Date", f"{each.time:%a, %d %b %Y %H:%M:%S} +0000", style),
        f"Source-IP: {each.address}",
    ]
    from_ = f"[{each.address}]:{each.port}" if each.port else f"[{each.address}]"
    until = each.time + timedelta(seconds=(each.until or each.second or 0) - (each.second or 0))
    received = (
        f"Received: from sender.example ({from_})\n\tby mx.kiesel.example with ESMTP id 1a2b3c;\n"
        f"\t{until:%a, %d %b %Y %H:%M:%S} +0000\n"
        "Received: from inner (unknown [203.0.113.99]:4444)\n"
        "\tby sender.example; Mon, 23 Nov 2026 01:02:03 +0000\n"
    )
    message = f"{received}Subject: cheap pebbles\nFrom: a@sender.example\n\nBuy!\n"
    parts = [
        ("text/plain", "a.txt", "Somebody did not like this mail.\n"),
        ("message/feedback-report", "", "\n".join(style.ordered(fields)) + "\n"),
        ("message/rfc822", "", message),
    ]
    return mail("report", parts, style, "multipart/report; report-type=feedback-report")


def table(names: Sequence[str], rows: Sequence[Sequence[object]], style: Style) -> str:
    """CSV with the columns in some order."""
    columns = list(range(len(names)))
    if style.shuffle:
        style.order.shuffle(columns)
    lines = [",".join(f'"{names[each]}"' for each in columns)]
    for row in rows:
        cells = ["" if row[each] is None else str(row[each]) for each in columns]
        lines.append(",".join(f'"{cell}"' if " " in cell else cell for cell in cells))
    return "\n".join(lines) + "\n"


def make_shadowserver(questions: list[Question], style: Style) -> bytes:
    """Events, in a zip file."""
    names = ["timestamp", "src_ip", "src_port", "src_asn", "src_geo", "dst_ip", "dst_port"]
    names += ["protocol", "tag"]
    rows = [
        [f"{each.time:%Y-%m-%d %H:%M:%S}", each.address, each.port, 64500, "XX", each.remote]
        + [each.remote_port, each.protocol, "pebble, botnet"]
        for each in questions
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        text = encoded_file(table(names, rows, style), style)
        archive.writestr("2026-11-24-event_pebble.csv", text)
    return attached("2026-11-24-event_pebble.csv.zip", packed.getvalue(), style)


def encoded_file(text: str, style: Style) -> bytes:
    return text.replace("\n", style.newline).encode("utf-8")


def make_scan(questions: list[Question], style: Style) -> bytes:
    """Open services, packed by gzip."""
    names = ["timestamp", "ip", "protocol", "port", "asn", "geo", "region", "city"]
    rows = [
        [f"{each.time:%Y-%m-%d %H:%M:%S}", each.address, each.protocol, each.port, 64500, "XX"]
        + ["PEBBLE COAST", "KIESELSTADT"]
        for each in questions
    ]
    return gzip.compress(encoded_file(table(names, rows, style), style), mtime=0)


def make_csv(questions: list[Question], style: Style) -> bytes:
    """Local times, with the zone in the prose."""
    names = ["reliable_notifier", "report_type", "event_date", "event_time", "src_ip", "src_port"]
    names += ["protocol"]
    ordered = Style(newline=style.newline)
    rows: list[list[object]] = []
    for each in questions:
        local = each.time.astimezone(CET)
        rows.append(["Kiesel", "Drone", f"{local:%Y-%m-%d}", f"{local:%H:%M:%S}", each.address])
        rows[-1] += [each.port, each.protocol]
    prose = "".join(
        f"Bot at {each.address} (event time {each.time.astimezone(CET):%Y-%m-%d %H:%M:%S} +01:00)\n"
        for each in questions
    )
    parts = [("text/plain", "a.txt", prose), ("text/csv", "a.csv", table(names, rows, ordered))]
    return mail("Incident Report", parts, style)


def make_fail2ban(questions: list[Question], style: Style) -> bytes:
    """Log lines without year and zone, and a note of the zone; all have the first's address."""
    lines = []
    for each in questions:
        local = each.time.astimezone(CET)
        where = f"{each.address} port {each.port} ssh2" if each.port else f"{each.address}"
        lines.append(f"{local:%b %d %H:%M:%S} pebble sshd[7]: Failed password for x from {where}")
    text = "Somebody is at our door.\nNote: Local timezone is +0100 (WAT)\n\n" + "\n".join(lines)
    return mail(f"Abuse from {questions[0].address}", [("text/plain", "a.txt", text)], style)


def make_list(questions: list[Question], style: Style) -> bytes:
    lines = []
    for each in questions:
        host = f"[{each.address}]" if ":" in each.address else each.address
        port = f":{each.port}" if each.port else ""
        zone = style.order.choice((UTC, CET)) if style.shuffle else UTC
        lines.append(f"{host}{port} {each.time.astimezone(zone).isoformat(' ')}")
    return encoded_file("\n".join(lines) + "\n", style)


def make_honeypot(questions: list[Question], style: Style) -> bytes:
    lines = ["Seen in our jar of pebbles:", ""]
    for each in questions:
        lines += [f"{each.address} (S)", f"  - {each.time:%a, %d %b %Y %I:%M%p} GMT", ""]
    return mail("Jar report", [("text/plain", "a.txt", "\n".join(lines))], style)


# What a form can say: a letter is made from questions with no more than that.
REMOTE, PORT, PROTOCOL, UNTIL = "remote", "port", "protocol", "until"


@dataclass(frozen=True)
class Form:
    """A maker, the name that the reader has for the form, and what the form can say.

    `role`: of its ports.  `one`: one question, `same`: one address, `minutes`: whole minutes.
    `charsets`: whether its text can be in any.
    """

    make: Maker
    name: str
    says: frozenset[str] = frozenset()
    role: str = "source"
    one: bool = False
    same: bool = False
    minutes: bool = False
    charsets: bool = True


def _form(make: Maker, name: str, *says: str, **more: Any) -> Form:
    return Form(make, name, frozenset(says), **more)


FORMS = {
    "acns-mail": _form(make_acns_mail, "ACNS 1.2 XML", PORT),
    "acns-file": _form(make_acns_file, "ACNS 2.x XML", PORT),
    "acns-words": _form(make_acns_words, "ACNS text", PORT, UNTIL),
    "xarf-0.2": _form(make_xarf2, "X-ARF 0.2"),
    "xarf-3": _form(make_xarf3, "XARF 3", PORT, REMOTE, PROTOCOL, one=True),
    "xarf-4": _form(make_xarf4, "XARF 4", PORT, REMOTE, PROTOCOL),
    "arf": _form(make_arf, "ARF", PORT, UNTIL, one=True, charsets=False),
    "shadowserver": _form(make_shadowserver, "Shadowserver CSV", PORT, REMOTE, PROTOCOL),
    "shadowserver-scan": _form(
        make_scan, "Shadowserver CSV", PORT, PROTOCOL, role="service", charsets=False
    ),
    "abusehub": _form(make_csv, "AbuseHUB CSV", PORT, PROTOCOL),
    "fail2ban": _form(make_fail2ban, "log lines", PORT, same=True),
    "list": _form(make_list, "list", PORT, charsets=False),
    "honeypot": _form(make_honeypot, "report in prose", minutes=True),
}
