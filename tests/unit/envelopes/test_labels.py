"""Lines of the form "Label: value"."""

from __future__ import annotations

import pytest

from ctrecorder.envelopes.labels import by_name, paragraphs, parse
from ctrecorder.envelopes.text import Text


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("Infringer's IP Address: 198.51.100.1", "infringersipaddress", "198.51.100.1"),
        ("> > Source-IP : 198.51.100.1  ", "sourceip", "198.51.100.1"),
        ("- --Port:443", "port", "443"),
        ("Date: '2026-11-24 06:00:05'", "date", "2026-11-24 06:00:05"),
        ("Source: 198.51.100.1 # ours", "source", "198.51.100.1"),
        ("IP: *198.51.100.1*", "ip", "198.51.100.1"),
        ("Notes:", "notes", ""),
    ],
)
def test_label(line: str, name: str, value: str) -> None:
    text = Text("f", "", f"x\n{line}".encode())
    label = parse(text, 2, line)
    assert label is not None
    assert (label.name, label.value) == (name, value)
    assert text.text[label.start : label.end] == value


@pytest.mark.parametrize(
    "line", ["http://x.example/", "no label", f"{'x' * 60}: y", "06:00:05", ""]
)
def test_no_label(line: str) -> None:
    assert parse(Text("f", "", line.encode()), 0, line) is None


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_paragraphs(newline: str) -> None:
    lines = ["a: 1", "b: 2", "", "c: 3", "words", "d: 4", " \t", "e: 5"]
    text = Text("f", "", newline.join(lines).encode())
    names = ["".join(label.name for label in each) for each in paragraphs(text)]
    assert names == ["ab", "c", "d", "e"]
    assert by_name([label for each in paragraphs(text) for label in each])["c"][0].value == "3"


def test_values() -> None:
    def value(word: str) -> tuple[object, object, object]:
        line = f"x: {word}"
        label = parse(Text("f", "", line.encode()), 0, line)
        assert label is not None
        address, port, protocol = label.address(), label.port(), label.protocol()
        return address and address.value, port and port.value, protocol and protocol.value

    assert value("198.51.100.1") == ("198.51.100.1", None, None)
    assert value("[2001:db8::1]") == ("2001:db8::1", None, None)
    assert value("198.51.100.1 (a.example)") == ("198.51.100.1", None, None)
    assert value("198.51.100.1 and 198.51.100.2") == (None, None, None)
    assert value("443") == (None, 443, None)
    assert value("0") == (None, None, None)
    assert value("UDP") == (None, None, "udp")
