"""Damaged compressed files of the C ctrecorder: never squeezed.

gzip, bzip2, xz and zstd themselves are the oracle.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ctrecorder.archive.open import open_segment
from ctrecorder.check.repair import repair
from ctrecorder.cli import ctsqueeze, cttest
from ctrecorder.columns import concat
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import FormatError
from ctrecorder.listing import ctlist
from ctrecorder.segment.recording import Recording
from tests.support import c_ctrecorder as old

# More than a block of bzip2, 900 kB: of a damaged first block nothing can be read.
EVENTS = 60_000
DATA = old.header() + b"".join(event.pack() for event in old.traffic(EVENTS))
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
TOOLS = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}
# Offset from the end at which the checksum of the data is stored.
CHECKSUM = {"gz": 8, "bz2": 4, "xz": 40, "zst": 4}


def oracle(kind: str, packed: bytes) -> tuple[bool, bytes]:
    """Whether the format's own tool takes `packed`, and what it unpacks of it."""
    done = subprocess.run([TOOLS[kind], "-dc"], input=packed, capture_output=True, check=False)
    return done.returncode == 0, done.stdout


def damage(packed: bytes, offset: int) -> bytes:
    return packed[:offset] + bytes([packed[offset] ^ 0x10]) + packed[offset + 1 :]


def rows(segment: Recording) -> int:
    return len(concat([segment.read(block) for block in segment.blocks_of(Kind.EVENTS)]))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["checksum", "middle", "garbage behind"])
@pytest.mark.parametrize("kind", PACKERS)
def test_damage_is_never_squeezed(
    kind: str, place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packed = PACKERS[kind](DATA)
    assert oracle(kind, packed) == (True, DATA)
    offset = len(packed) - CHECKSUM[kind] if place == "checksum" else len(packed) // 2
    packed = packed + b"garbage" if place == "garbage behind" else damage(packed, offset)
    if (kind, place) != ("bz2", "garbage behind"):  # bzip2 only warns
        assert not oracle(kind, packed)[0]
    path = tmp_path / f"tcp.ct.{kind}"
    path.write_bytes(packed)
    for options in (
        [str(tmp_path)],
        ["-f", str(path)],
        ["-f", str(path), "-o", str(tmp_path / "new")],
    ):
        assert ctsqueeze.main(options) == 1
        assert f"{path}: at byte " in capfd.readouterr().err
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == packed
    assert cttest.main([str(path)]) == 1
    assert f"{path}: damaged, 1 finding" in capfd.readouterr().out
    assert ctlist.main([str(path)]) == 2
    assert f"{path}: at byte " in capfd.readouterr().err


@pytest.mark.slow
def test_a_gzip_file_whose_checksum_fails_gives_all_that_zcat_gives(tmp_path: Path) -> None:
    packed = PACKERS["gz"](DATA)
    path = tmp_path / "tcp.ct.gz"
    path.write_bytes(damage(packed, len(packed) - CHECKSUM["gz"]))
    taken, unpacked = oracle("gz", path.read_bytes())
    assert (taken, unpacked) == (False, DATA)
    with open_segment(str(path)) as segment:
        assert rows(segment) == EVENTS
    repaired = repair(str(path), str(tmp_path / "saved"))
    assert (repaired.rows, repaired.holes) == (EVENTS, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_no_flipped_bit_passes_for_a_crash(kind: str, tmp_path: Path) -> None:
    """Whatever bit is flipped: what the tool refuses is damage.  What it takes is all there."""
    data = DATA[: 256 + 33 * 40]
    packed = PACKERS[kind](data)
    path = tmp_path / "old"
    for offset in range(len(packed)):
        for bit in range(8):
            changed = packed[:offset] + bytes([packed[offset] ^ 1 << bit]) + packed[offset + 1 :]
            path.write_bytes(changed)
            try:
                with open_segment(str(path)) as segment:
                    if segment.torn is None and not segment.findings:
                        assert rows(segment) == 40
                        continue
                    assert any(finding is not segment.torn for finding in segment.findings), (
                        offset,
                        bit,
                    )
            except FormatError:
                pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_a_missing_end_is_a_crash_only_of_gzip(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenWrt's recorder writes gzip itself; the others are made of finished files."""
    whole = PACKERS[kind](DATA)
    for length in (len(whole) - 1, len(whole) - 9, len(whole) * 2 // 3):
        path = tmp_path / f"{length}.ct.{kind}"
        path.write_bytes(whole[:length])
        assert not oracle(kind, whole[:length])[0]
        code = 0 if kind == "gz" else 1
        assert cttest.main([str(path)]) == code
        assert ctsqueeze.main(["-f", str(path)]) == code
        assert f"{path}: " in capfd.readouterr().out
        assert (path.read_bytes() == whole[:length]) == bool(code)
