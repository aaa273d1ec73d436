"""Letters of people who mean harm: scripts, formulas, escapes and bidi marks, in every format."""

from __future__ import annotations

import csv
import email
import hashlib
import io
import json
from email.policy import default
from pathlib import Path

import pytest

from ctrecorder.asking import ctwho
from tests.support.inquiries import log
from tests.unit.cases.test_letter import AT, PUBLIC, flow

# What a terminal, a spreadsheet, a browser or a mail program would act on.
MARKS = "\x1b]0;x\x07\x1b[2J\u202e\u2066</script><script>alert(1)</script>\"'"
FORMS = ("text", "json", "csv", "html")
MAIL = f"""From: =cmd|' /C calc'!A0 {MARKS} <a@example.net>
Message-ID: <{MARKS}@x>
Subject: {MARKS}
Date: Tue, 14 Nov 2023 23:00:00 +0000
Content-Type: text/plain; charset=utf-8

Notice ID: =1+1{MARKS}
Infringer's IP Address: {PUBLIC}
Infringer's Port: 40002
Initial Infringement Timestamp: {AT.replace("2023-11-14", "14 Nov 2023")} GMT
"""
TABLE = (
    "src_ip,src_port,dst_ip,timestamp,note\n"
    f"{PUBLIC},40002,,{AT}Z,=HYPERLINK({MARKS!r})\n"
    f"{PUBLIC},40001,,{AT}Z,\t@SUM(1)\n"
)


@pytest.fixture(params=["mail.eml", "table.csv", "nothing.eml"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A letter, in a file whose name does harm too."""
    folder = tmp_path / f"=x{MARKS.replace('/', '')}"
    folder.mkdir()
    name = str(request.param)
    text = {"mail.eml": MAIL, "table.csv": TABLE}.get(name, f"From: {MARKS}\n\n{PUBLIC} {MARKS}\n")
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dry", [False, True])
def test_no_format_does_what_a_letter_says(
    path: str, form: str, dry: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if dry and form not in ("text", "json"):
        return
    folder, draft = log(tmp_path / "log", flow(3, 40002)), tmp_path / "reply.eml"
    words = ["--dry-run"] if dry else ["-d", str(folder), "--reply", str(draft)]
    case = f"=1{MARKS}"
    ctwho.main(["--letter", path, "--format", form, "--case", case, "--reason", case, *words])
    out, err = capfd.readouterr()
    assert out
    for line in (out + err).splitlines():
        assert line.isprintable(), line
    if form == "json":
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert json.loads(out)["letter"]["sha256"] == digest
        assert out.isascii()
    if form == "html":
        assert "<script" not in out.lower()
    if form == "csv":
        for row in csv.reader(io.StringIO(out)):
            assert not [cell for cell in row if cell[:1] in ("=", "+", "-", "@", "\t")]
    if not dry:
        reply = email.message_from_bytes(draft.read_bytes(), policy=default)
        assert set(reply.keys()) <= {
            *("To", "Subject", "In-Reply-To", "References", "X-Unsent"),
            *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
        }
        assert all(line.isprintable() for line in reply.get_content().splitlines())
