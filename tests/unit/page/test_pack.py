"""The pack of evidence: whole, checkable with sha256sum, and the same each time."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.page import answer, mail_text, pack, redact, twin
from tests.support import page_twins

DATA = b"From: abuse@agency.example\n\n198.51.100.1:40000 \xff 203.0.113.9\n"
LETTER = pack.Letter("/mail/../not ice\x1b.eml", DATA)


def answered() -> Any:
    """The answer to LETTER."""
    digest = hashlib.sha256(DATA).hexdigest()
    return {**page_twins.of_letter(), "letter": {"file": LETTER.file, "sha256": digest}}


def files(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = {entry.name: archive.extractfile(entry) for entry in archive}
        return {
            name.removeprefix("ctwho-answer/"): entry.read()
            for name, entry in entries.items()
            if entry is not None
        }


def test_all_that_is_needed_is_in_it() -> None:
    whole = answered()
    found = files(pack.pack(whole, LETTER, {"ledgers": [{"file": "seal-1.ledger"}]}))
    assert sorted(found) == [
        *("MANIFEST.json", "README.txt", "SHA256SUMS", "answer.html", "answer.json", "answer.txt"),
        *("coverage.json", "letter.eml", "seals.json"),
    ]
    assert found["letter.eml"] == DATA
    assert found["answer.html"] == answer.html(whole).encode()
    assert found["answer.txt"] == mail_text.text(whole).encode()
    assert twin.read(found["answer.json"].decode().removesuffix("\n")) == whole
    coverage = json.loads(found["coverage.json"])["questions"]
    assert [one["complete"] for one in coverage if "complete" in one].count(True) == 2
    assert coverage[1]["holes"] == [page_twins.hole()]
    assert coverage[0]["since"] == "2026-11-24T05:00:04.000000000Z"
    seals = json.loads(found["seals.json"])
    assert seals["questions"][0]["segments"][0] == page_twins.segment(17)
    assert seals["ledgers"] == [{"file": "seal-1.ledger"}]
    manifest = json.loads(found["MANIFEST.json"])
    assert manifest["verdicts"] == list(twin.VERDICTS)
    assert manifest["letter"] == "letter.eml"
    assert manifest["twin_sha256"] == hashlib.sha256(found["answer.json"]).hexdigest()
    assert {one["name"] for one in manifest["files"]} == set(found) - {
        "MANIFEST.json",
        "SHA256SUMS",
    }
    assert b"ctwho --verify answer.html /var/log/ctrecorder\n" in found["README.txt"]
    assert max(map(len, found["README.txt"].decode().split("\n"))) <= 80


def test_sha256sum_finds_a_changed_file(tmp_path: Path) -> None:
    (tmp_path / "e.tar").write_bytes(pack.pack(answered(), LETTER, {}))
    subprocess.run(["tar", "-xf", "e.tar", "--warning=no-timestamp"], cwd=tmp_path, check=True)
    folder = tmp_path / "ctwho-answer"
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK\n") == 8
    with (folder / "letter.eml").open("ab") as file:
        file.write(b"x")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "letter.eml: FAILED" in done.stdout


def test_the_same_answer_gives_the_same_bytes() -> None:
    first, second = (pack.pack(answered(), LETTER, {}) for _ in range(2))
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    (times, owners) = {entry.mtime for entry in entries}, {entry.uid for entry in entries}
    assert times == {1_795_851_000}
    assert owners == {0}


def test_another_letter_is_refused() -> None:
    with pytest.raises(UsageError, match="has changed since it was read"):
        pack.pack(page_twins.of_letter(), LETTER, {})
    with pytest.raises(UsageError, match="is not the letter of this answer"):
        pack.pack(page_twins.answer(), LETTER, {})


def test_without_remote_ends_the_letter_is_left_out() -> None:
    data = pack.pack(redact.redact(answered()), LETTER, {})
    found = files(data)
    assert not [name for name in found if name.startswith("letter")]
    assert b"203.0.113.9" not in data
    manifest = json.loads(found["MANIFEST.json"])
    assert (manifest["redacted"], manifest["letter"]) == (True, None)


@pytest.mark.parametrize("name", ["-", "x", "a.eml/..", "x.e ml", "x.\u202elme", "x." + "e" * 99])
def test_a_letter_has_a_plain_name(name: str) -> None:
    whole = answered()
    assert "letter" in files(pack.pack(whole, pack.Letter(name, DATA), {}))
