"""The key of a sealed recording: which files are one, and what is said of those that are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.service.key import find_key, find_key_for_reading, read_key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef")
    path.chmod(0o600)
    return path


def test_no_key() -> None:
    assert read_key(None) == read_key("") == b""


def test_a_key_is_64_bytes_and_the_end_of_its_line_does_not_count(key: Path) -> None:
    """An editor adds a newline, base64 too."""
    first = read_key(str(key))
    assert len(first) == 64
    key.write_bytes(b"0123456789abcdef\n")
    assert read_key(str(key)) == first
    key.write_bytes(b"0123456789abcdeF")
    assert read_key(str(key)) != first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o660])
def test_what_others_can_read_is_no_secret(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(UsageError, match=r"other users can read it.*chmod 600"):
        read_key(str(key))


def test_another_users_file_is_no_secret(key: Path) -> None:
    os.chown(key, 12345, 12345)
    with pytest.raises(UsageError, match="other users can read it, or own it"):
        read_key(str(key))


def test_what_is_no_file(key: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key)
    os.mkfifo(tmp_path / "fifo")
    others = (
        (tmp_path, "not a regular file"),
        (tmp_path / "fifo", "not a regular file"),
        (tmp_path / "x", "No such file"),
    )
    for path, says in ((link, "cannot be read"), *others):
        with pytest.raises(UsageError, match=says):
            read_key(str(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "0 bytes is too short"), (b"short\n\n", "5 bytes"), (b"x" * 5000, "longer than 4096")],
)
def test_what_is_no_key(key: Path, content: bytes, says: str) -> None:
    key.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_key(str(key))


def test_a_credential(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd keeps it from others in its own way: its mode is not ours to judge."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(UsageError, match="LoadCredential=key:FILE"):
        read_key("credential:key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    first = read_key(str(key))
    key.chmod(0o440)
    assert read_key("credential:key") == first


def test_the_option_goes_over_the_configuration(key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"fedcba9876543210")
    other.chmod(0o600)
    conf = tmp_path / "conf"
    conf.write_text(f"[seal]\nkey = {key}\n")
    assert find_key(None, str(conf)) == read_key(str(key))
    assert find_key(str(other), str(conf)) == read_key(str(other))


def test_who_only_reads_goes_on_without_a_key_that_is_not_for_him(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    conf = tmp_path / "conf"
    conf.write_text("[seal]\nkey = credential:key\n")
    nothing, why = find_key_for_reading(None, str(conf))
    assert nothing == b""
    assert "cannot be read here (credential:key)" in why
    assert find_key_for_reading(str(key), str(conf)) == (read_key(str(key)), "")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find_key_for_reading(None, str(conf)) == (read_key(str(key)), "")
    conf.write_text(f"[seal]\nkey = {tmp_path / 'gone'}\n")
    assert "gone" in find_key_for_reading(None, str(conf))[1]
    key.chmod(0o644)
    conf.write_text(f"[seal]\nkey = {key}\n")
    with pytest.raises(UsageError, match="is not secret"):
        find_key_for_reading(None, str(conf))
    conf.write_text("")
    assert find_key_for_reading(None, str(conf)) == (b"", "")
