"""Which segments can be sent, in which order, and with which names."""

from __future__ import annotations

from pathlib import Path

from ctrecorder.ctlog.header import Header, Replaced
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.shipping.waiting import examine
from tests.support.history import NOON, History, rows


def test_only_what_is_squeezed_unless_raw(tmp_path: Path) -> None:
    history = History(tmp_path / "log", crash=True)
    squeeze(str(history.paths[1]), SqueezeOptions())
    found = examine(str(history.folder), raw=False)
    assert [one.path for one in found.ready] == [str(history.paths[1])]
    assert found.later == 4
    raw = examine(str(history.folder), raw=True)
    assert [one.path for one in raw.ready] == list(map(str, history.paths))
    assert (raw.later, raw.troubles) == (0, [])


def test_the_name_has_chain_sequence_and_hash(tmp_path: Path) -> None:
    history = History(tmp_path / "log")
    before = examine(str(history.folder), raw=True).ready
    squeeze(str(history.paths[2]), SqueezeOptions())
    after = examine(str(history.folder), raw=True).ready
    chain, _, name = before[2].name.partition("/")
    assert len(chain) == 16
    assert name == f"00000003-{before[2].hashes[0][:16]}.ctlog"
    assert after[2].name != before[2].name
    assert after[2].replaced == (before[2].name,)
    assert after[2].hashes[1:] == before[2].hashes
    assert [one.name for one in after if one is not after[2]] == [
        one.name for one in before if one is not before[2]
    ]


def test_a_header_that_would_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    """A name goes to a shell of another machine."""
    strange = ["../../etc", "$(id)", "a b", "-rf", "0" * 17]
    for number, chain in enumerate(strange):
        header = Header(chain=chain, sequence=1)
        writer = SegmentWriter.create(str(tmp_path / f"{number}.ctlog"), header, time_ns=NOON)
        writer.append(rows(0, 5))
        writer.close()
    evil = Replaced("x", "; rm -rf ~ #", 1, 1, "closed", "")
    header = Header(chain="0" * 16, sequence=-7, replaces=(evil,))
    SegmentWriter.create(str(tmp_path / "minus.ctlog"), header, time_ns=NOON).close()
    header = Header(chain="0" * 16, sequence=1, replaces=(evil,))
    SegmentWriter.create(str(tmp_path / "evil.ctlog"), header, time_ns=NOON).close()
    found = examine(str(tmp_path), raw=True)
    assert [one.path for one in found.ready] == [str(tmp_path / "evil.ctlog")]
    assert found.ready[0].replaced == ()
    assert len(found.troubles) == len(strange) + 1


def test_a_file_of_the_c_ctrecorder_is_named(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "data" / "legacy" / "legacy-014-tcp.ct"
    (tmp_path / sample.name).write_bytes(sample.read_bytes())
    found = examine(str(tmp_path), raw=True)
    assert found.ready == []
    assert "ctsqueeze makes a segment of it" in found.troubles[0][1]
