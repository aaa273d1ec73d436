"""The list of routers: what is one, and that a wrong line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.fleet.routers import Router, read


def test_a_list(tmp_path: Path) -> None:
    path = tmp_path / "fleet"
    path.write_text(
        "# our routers\n\nedge1  /srv/log/edge1   # the first\n"
        "edge4 clickhouse://ask@store.example:8123/log\n"
        "edge2\tssh://edge2.example\nedge-3.x ssh://ask@[2001:db8::3]:/var/log/ctrecorder\n"
    )
    assert read(str(path)) == [
        Router("edge1", "/srv/log/edge1", "", "/srv/log/edge1"),
        Router(
            "edge4",
            "clickhouse://ask@store.example:8123/log",
            "",
            "clickhouse://ask@store.example:8123/log/edge4",
        ),
        Router("edge2", "ssh://edge2.example", "edge2.example", ""),
        Router(
            "edge-3.x",
            "ssh://ask@[2001:db8::3]:/var/log/ctrecorder",
            "ask@[2001:db8::3]",
            "/var/log/ctrecorder",
        ),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("edge1", "line 1: write NAME /FOLDER"),
        ("edge1 /a /b", "line 1: write NAME /FOLDER"),
        ("edge1 relative", "line 1: 'relative': write"),
        ("edge1 ssh://-oProxyCommand=id", "must not begin with '-'"),
        ("edge1 ssh://a@-b", "must not begin with '-'"),
        ("edge1 ssh://a:/b;id", "write NAME /FOLDER"),
        ("edge1 rsync://a/b", "write NAME /FOLDER"),
        ("../x /a", "'../x' is no name"),
        ("a /a\na /b", "line 2: there are two named a"),
        ("", "there is no router in it"),
        ("# nothing", "there is no router in it"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "fleet"
    path.write_text(f"{line}\n")
    with pytest.raises(UsageError, match=r"^--fleet: ") as error:
        read(str(path))
    assert said in str(error.value)


def test_a_file_that_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(str(tmp_path / "none"))
    (tmp_path / "long").write_bytes(b"a /b\n" * 300_000)
    with pytest.raises(UsageError, match="longer than"):
        read(str(tmp_path / "long"))
