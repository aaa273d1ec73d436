"""What waits for each target, as metrics."""

from __future__ import annotations

from pathlib import Path

from ctrecorder.ctlog.header import Header, Replaced
from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged
from ctrecorder.kept.acknowledged import Shipment
from ctrecorder.metrics.families import FAMILIES
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.shipping.metrics import ship_values
from ctrecorder.shipping.ship import Options, status
from ctrecorder.times import SECOND

CHAIN = "0123456789abcdef"
TARGETS = ("rsync://192.0.2.1/a", "rsync://192.0.2.2/b")
BEGUN = 1_700_000_000


def segment(folder: Path, number: int) -> str:
    """A segment that began at BEGUN + number; its last hash."""
    header = Header(chain=CHAIN, sequence=number)
    path = str(folder / f"{number}.ctlog")
    time_ns = (BEGUN + number) * SECOND
    return SegmentWriter.create(path, header, time_ns=time_ns).close().hex()


def shipment(to: str, last_hash: str, how: str, why: str = "") -> Shipment:
    return Shipment(to, last_hash, "router/name", "1.ctlog", 1, 1, how, why)


def test_what_waits_for_each_target(tmp_path: Path) -> None:
    hashes = [segment(tmp_path, number) for number in (1, 2, 3)]
    first, second = TARGETS
    with Folder(str(tmp_path)) as folder:
        acknowledged.add(
            folder,
            *(shipment(first, each, "checked") for each in hashes),
            shipment(second, hashes[0], "copied"),
            shipment(second, hashes[1], "", "the disk there is full"),
        )
    found = {
        (name, *labels): value
        for name, labels, value in ship_values(str(tmp_path), Options(TARGETS, "r", raw=True))
    }
    assert found == {
        ("ship_waiting_segments", first): 0,
        ("ship_waiting_oldest_timestamp_seconds", first): 0,
        ("ship_refused_segments", first): 0,
        ("shipped_sequence", first, CHAIN): 3,
        ("ship_waiting_segments", second): 2,
        ("ship_waiting_oldest_timestamp_seconds", second): BEGUN + 2,
        ("ship_refused_segments", second): 1,
        ("shipped_sequence", second, CHAIN): 1,
    }
    for name, *labels in found:
        assert len(FAMILIES[f"ctrecorder_{name}"].labels) == 1 + len(labels)


def test_what_cannot_be_sent_to_a_target_does_not_wait_for_it(tmp_path: Path) -> None:
    segment(tmp_path, 1)
    targets = ("ipfix://192.0.2.1", "clickhouse://192.0.2.2/log", "ssh://192.0.2.3:/a")
    values = ship_values(str(tmp_path), Options(targets, "r", raw=True))
    waiting = {labels[0]: value for name, labels, value in values if name.endswith("g_segments")}
    assert waiting == {"ipfix://192.0.2.1": 0, "clickhouse://192.0.2.2/log": 0, targets[2]: 1}
    assert not [name for name, _, _ in values if name == "shipped_sequence"]


def test_a_collector_has_what_was_sent_before_it_was_made_anew(tmp_path: Path) -> None:
    collector, store = "ipfix://192.0.2.1", "clickhouse://192.0.2.2/log"
    old = "00" * 16
    replaced = Replaced("4.ctlog", old, 0, 0, "closed", "ctsqueeze")
    header = Header(chain=CHAIN, sequence=4, squeezed={}, replaces=(replaced,))
    new = SegmentWriter.create(str(tmp_path / "4.ctlog"), header, time_ns=BEGUN * SECOND).close()
    options = Options((collector, store), "r")
    with Folder(str(tmp_path)) as folder:
        acknowledged.add(folder, *(shipment(to, old, "sent") for to in options.targets))
    assert new.hex() != old
    found = [one for one in ship_values(str(tmp_path), options) if one[2]]
    assert found == [
        ("shipped_sequence", (collector, CHAIN), 4),
        ("ship_waiting_segments", (store,), 1),
        ("ship_waiting_oldest_timestamp_seconds", (store,), BEGUN),
    ]
    said = "\n".join(status(str(tmp_path), options))
    assert "shipped: 1 segment" in said.split(store)[0]
    assert "waiting: 1 segment" in said.split(store)[1]
