"""What of a log counts: by the sender, whom journald names, and not by what the entry says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctrecorder.cli import cttest
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.witness import logged
from ctrecorder.witness.logged import Anchor, Logged

HASH, BEFORE = "ab" * 16, "cd" * 16
ENTRY = {
    "MESSAGE_ID": messages.SQUEEZED.id,
    "CTRECORDER_PATH": "/x/a",
    "CTRECORDER_LAST_HASH": HASH,
    "CTRECORDER_REPLACED_HASH": BEFORE,
    "_UID": "0",
}
ANCHOR = Anchor("squeezed", "/x/a", HASH, BEFORE)


def load(tmp_path: Path, *lines: object) -> Logged:
    path = tmp_path / "log"
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n")
    return logged.load(str(path))


def test_a_flood_of_lines_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any user's logger(1) can make a log of text as long as the disk takes."""
    monkeypatch.setattr(logged, "MAX_ANCHORS", 3)
    lines = [f"Nov 24 06:00:00 r ctexpire: deleted /x/{n}: old; last hash {HASH}" for n in range(5)]
    assert not load(tmp_path, *lines[:3]).is_full
    found = load(tmp_path, *lines)
    assert (len(found.anchors), found.is_full) == (3, True)
    SegmentWriter.create(str(tmp_path / "a.ctlog"), Header()).close()
    arguments = ["--anchors", str(tmp_path / "log"), str(tmp_path / "a.ctlog")]
    assert cttest.main(arguments) == 2
    assert "log has more than 3 anchors, so that nothing was compared" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("uid", "unit", "counts"),
    [
        ("0", "session-1.scope", True),
        ("0", None, True),
        ("998", "ctrecord.service", True),
        ("998", "ctrecord@lan.service", True),
        ("998", "ctrecord-netns@blue.service", True),
        ("998", "ctsqueeze.service", True),
        ("998", "ctsqueeze-sealed.service", True),
        ("998", "ctexpire.service", True),
        ("998", None, False),
        ("998", "session-3.scope", False),
        ("998", "user@998.service", False),
        ("998", "evil-ctsqueeze.service", False),
        ("998", "ctsqueeze.service.scope", False),
        ("998", "ctexpire@x.service", False),
        ("1000", "user@1000.service", False),
        (None, "ctsqueeze.service", False),
        (None, None, False),
        (["0", "998"], None, False),
        ("00", None, False),
    ],
)
def test_who_counts(tmp_path: Path, uid: object, unit: object, counts: bool) -> None:
    named = {**ENTRY, "_UID": uid, "_SYSTEMD_UNIT": unit}
    found = load(tmp_path, {name: value for name, value in named.items() if value is not None})
    assert found.anchors == ([ANCHOR] if counts else [])
    assert found.ignored.total() == (not counts)


def test_the_sender_is_not_what_the_entry_says(tmp_path: Path) -> None:
    """A client chooses all fields but those with an underscore, and its user manager's units."""
    said = {"UNIT": "ctsqueeze.service", "_SYSTEMD_USER_UNIT": "ctsqueeze.service", "UID": "0"}
    found = load(tmp_path, {**ENTRY, **said, "_UID": "998"})
    assert (found.anchors, dict(found.ignored)) == ([], {"uid 998 in no unit": 1})


def test_senders_are_bounded(tmp_path: Path) -> None:
    found = load(tmp_path, *({**ENTRY, "_UID": str(uid)} for uid in range(1, 1500)))
    assert (len(found.ignored), found.ignored["others"]) == (1001, 499)


def test_what_was_kept_in_the_folder_is_told(tmp_path: Path) -> None:
    late = {**ENTRY, "CTRECORDER_TIME": "2026-11-27T23:29:06.670070000Z"}
    text = f"ctexpire: deleted /x/a: old; last hash {HASH} (at 2026-11-27T23:29:06.670070000Z"
    found = load(
        tmp_path,
        late,
        {**late, "CTRECORDER_STORED": "yes"},
        f"{text})",
        f"{text}, kept in ctrecorder.unsent)",
    )
    deleted = Anchor("deleted", "/x/a", HASH, "")
    assert found.anchors == [
        ANCHOR,
        ANCHOR._replace(stored=True),
        deleted,
        deleted._replace(stored=True),
    ]
    assert found.texts == 2


def test_each_kind_as_text(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        f"Nov 28 06:00:00 r ctrecord[7]: new segment /x/b, after a with last hash {BEFORE}",
        "ctrecord: new segment /x/a",
        f"ctrecord: closed /x/a: 3 rows, 400 bytes, last hash {HASH}",
        f"ctsqueeze: squeezed /x/a: 1 event; last hash {HASH}, before {BEFORE}",
        f"cttest: repaired /x/a: from /x/b, 3 rows, 0 gaps; last hash {HASH}, before {BEFORE}",
        f"ctexpire: deleted /x/a: too old; it contained 1 row; last hash {HASH}",
        f"sshd[1]: closed /x/a: 3 rows, 400 bytes, last hash {HASH}",
    )
    assert found.anchors == [
        Anchor("opened", "/x/b", "", BEFORE),
        Anchor("opened", "/x/a", "", ""),
        Anchor("closed", "/x/a", HASH, ""),
        ANCHOR,
        Anchor("repaired", "/x/a", HASH, BEFORE),
        Anchor("deleted", "/x/a", HASH, ""),
    ]
    assert found.texts == 6


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{" * 100_000,
        '{"MESSAGE_ID": []}',
        json.dumps({**ENTRY, "CTRECORDER_PATH": ""}),
        json.dumps({**ENTRY, "CTRECORDER_LAST_HASH": "xyz"}),
        json.dumps({**ENTRY, "CTRECORDER_LAST_HASH": [HASH, BEFORE]}),
        json.dumps({**ENTRY, "MESSAGE_ID": messages.GAP.id}),
    ],
)
def test_what_is_no_entry_about_a_segment(tmp_path: Path, line: str) -> None:
    assert load(tmp_path, line) == Logged()


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="missing: No such file"):
        logged.load(str(tmp_path / "missing"))
