"""The last line of cttest: each segment counted once; findings about chain and anchors apart."""

from __future__ import annotations

from pathlib import Path

from ctrecorder.check import anchors, verify
from ctrecorder.check.collect import check_segment
from ctrecorder.ctlog.frame import NO_HASH, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.writer import SegmentWriter
from tests.support.tables import NOON

HASH = "0123456789abcdef" * 2


def make(folder: Path, count: int) -> list[Path]:
    """A chain of `count` closed segments."""
    paths = [folder / f"{number}.ctlog" for number in range(count)]
    name, last_hash = None, NO_HASH
    for number, path in enumerate(paths):
        header = {"chain": "c", "sequence": number + 1, "previous": name}
        writer = SegmentWriter.create(
            str(path), Header.from_json(header), last_hash, time_ns=NOON + number
        )
        writer.mark(Mark.at(NOON + number, "heartbeat"))
        name, last_hash = path.name, writer.close()
    return paths


def damage(path: Path) -> None:
    """Change one byte of the payload of the header."""
    data = bytearray(path.read_bytes())
    data[80] ^= 1
    path.write_bytes(data)


def check(folder: Path, *log: str) -> tuple[int, list[str]]:
    """Exit code and lines of a check against the lines `log`."""
    lines: list[str] = []
    source = folder.with_name("log")
    source.write_text("".join(f"{line}\n" for line in log))
    compare = anchors.against(str(source), [str(folder)]) if log else None
    return verify.check([str(folder)], lines.append, compare=compare), lines


def closed(path: Path, last_hash: str) -> str:
    """The line that ctrecord logs when it closes a segment."""
    return f"ctrecord[7]: closed {path}: 1 rows, 10 bytes, last hash {last_hash}"


def last_hash(path: Path) -> str:
    return check_segment(str(path)).link.hashes[0]


def test_one_damaged_segment_and_one_log_line_without_its_segment(tmp_path: Path) -> None:
    """It was "1 segment checked: -1 whole, 2 damaged"."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (path,) = make(folder, 1)
    lines_of_log = closed(path, last_hash(path)), closed(folder / "gone.ctlog", HASH)
    damage(path)
    code, lines = check(folder, *lines_of_log)
    assert code == verify.DAMAGED
    assert lines[-1] == "1 segment checked: 0 whole, 1 damaged; anchors: 1 finding"


def test_a_finding_about_a_folder_has_no_byte(tmp_path: Path) -> None:
    """It was "FOLDER: at byte 0: gone.ctlog was logged ..."."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (path,) = make(folder, 1)
    code, lines = check(folder, closed(path, last_hash(path)), closed(folder / "gone.ctlog", HASH))
    assert code == verify.DAMAGED
    (line,) = [line for line in lines if "gone.ctlog" in line]
    assert line.startswith(f"{folder}: gone.ctlog was logged with last hash {HASH}, is not here")
    assert lines[-1] == "1 segment checked: 1 whole, 0 damaged; anchors: 1 finding"


def test_a_file_that_is_called_whole_is_not_counted_as_damaged(tmp_path: Path) -> None:
    """The segment in the middle is missing: the two others are whole, the chain is not."""
    paths = make(tmp_path, 3)
    paths[1].unlink()
    code, lines = check(tmp_path)
    assert code == verify.DAMAGED
    assert sum(": whole, closed: " in line for line in lines) == 2
    assert lines[-1] == "2 segments checked: 2 whole, 0 damaged; chain: 1 finding"


def test_two_findings_in_one_segment_are_one_damaged_segment(tmp_path: Path) -> None:
    paths = make(tmp_path, 2)
    data = bytearray(paths[0].read_bytes())
    data[80] ^= 1
    data[-30] ^= 1
    paths[0].write_bytes(data)
    code, lines = check(paths[0])
    assert code == verify.DAMAGED
    assert sum(line.startswith(f"{paths[0]}: at byte ") for line in lines) >= 2
    assert lines[-1] == "1 segment checked: 0 whole, 1 damaged"


def test_a_segment_that_is_not_the_logged_one(tmp_path: Path) -> None:
    """The finding is about the file, not about one of its bytes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    first, second = make(folder, 2)
    code, lines = check(folder, closed(first, last_hash(first)), closed(second, HASH))
    assert code == verify.DAMAGED
    said = f"{second}: is not what was logged: it ends with {last_hash(second)}"
    assert any(line.startswith(said) for line in lines)
    assert lines[-1] == "2 segments checked: 2 whole, 0 damaged; anchors: 2 findings"
