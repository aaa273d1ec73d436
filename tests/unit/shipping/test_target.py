"""What is a target, and what could become an option or a command of a shell is none."""

from __future__ import annotations

import pytest

from ctrecorder.declared import values
from ctrecorder.errors import UsageError
from ctrecorder.shipping.target import Target, parse, router_of


@pytest.mark.parametrize(
    ("text", "kind", "host", "folder", "destination"),
    [
        ("ssh://log.example:/srv/log", "ssh", "log.example", "/srv/log", "log.example:/srv/log/a/"),
        ("ssh://me@192.0.2.1:log/", "ssh", "me@192.0.2.1", "log/", "me@192.0.2.1:log/a/"),
        ("ssh://[2001:db8::1]:/s", "ssh", "[2001:db8::1]", "/s", "[2001:db8::1]:/s/a/"),
        ("rsync+ssh://a:.", "rsync+ssh", "a", ".", "a:./a/"),
        ("clickhouse://u@a:8123/log", "clickhouse", "u@a:8123", "log", "u@a:8123:log/a/"),
        (
            "ipfix://a.b-c.example.:65535",
            "ipfix",
            "a.b-c.example.:65535",
            "",
            "a.b-c.example.:65535:/a/",
        ),
        (
            "file:/srv/out/log.parquet",
            "file",
            "",
            "/srv/out/log.parquet",
            ":/srv/out/log.parquet/a/",
        ),
        ("rsync://a:8730/m", "rsync", "a:8730", "m", "rsync://a:8730/m/a/"),
    ],
)
def test_a_target(text: str, kind: str, host: str, folder: str, destination: str) -> None:
    target = parse(text)
    assert target == Target(text, kind, host, folder)
    assert target.destination("a") == destination
    assert target.is_checked == (kind == "ssh")


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=id:/srv",
        "ssh://a@-b:/srv",
        "ssh://-l@b:/srv",
        "rsync://-x/m",
        "ssh://host:-x",
        "ssh://host:/srv/$(id)",
        "ssh://host:/srv;id",
        "ssh://ho st:/srv",
        "ssh://host:/srv\n",
        "ssh://host:/a b",
        "ssh://host",
        "file:log.parquet",
        "file:/srv/log.csv",
        "file:/.parquet/",
        "ssh://:/srv",
        "rsync://host",
        "rsync://host:port/m",
        "clickhouse://host:8123/log;drop",
        "clickhouse://host:8123/a/b",
        "clickhouse://-h:1/log",
        # Python's resolver raises UnicodeError for these, and takes a port modulo 65536.
        "clickhouse://a..b:1/log",
        f"ipfix://{'a' * 64}",
        f"ssh://{'a.' * 128}a:/srv",
        "ipfix://host:65536",
        "ipfix+tcp://host:99999",
        "netflow9://host:0",
        "clickhouse://host:70000/log",
        "rsync://host:65536/m",
        "ftp://host/x",
        "host:/srv",
        "",
    ],
)
def test_no_target(text: str) -> None:
    with pytest.raises(UsageError, match="is no target: name ssh://"):
        parse(text)
    if text and not text.isspace() and " " not in text and "\n" not in text:
        assert not is_listed(text)


def is_listed(text: str) -> bool:
    try:
        return bool(values.targets(text))
    except ValueError:
        return False


def test_a_host_that_would_be_an_option_is_named() -> None:
    with pytest.raises(UsageError, match="must not begin with '-'"):
        parse("ssh://-oProxyCommand=id:/srv")


def test_a_list_of_targets() -> None:
    assert values.targets(" ssh://a:/b, rsync://c/d ssh://a:/b ") == ("ssh://a:/b", "rsync://c/d")
    assert values.targets("") == ()


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".ctship", "-a", "a/b", "replaced", "a b", "x" * 64]
)
def test_no_name_of_a_router(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        router_of(name)
    assert router_of("edge-1.example") == "edge-1.example"
