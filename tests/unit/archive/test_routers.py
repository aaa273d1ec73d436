"""A folder of many routers: which folders belong to it, and that the folder names the router."""

from __future__ import annotations

from pathlib import Path

from ctrecorder.archive import find
from ctrecorder.archive.open import open_placed, open_segment
from ctrecorder.archive.routers import folders_below, router_of
from tests.support import asked

CHAIN = "0123456789abcdef"


def test_the_folders_of_routers(tmp_path: Path) -> None:
    for name in (
        f"edge1/{CHAIN}",
        f"edge2/{CHAIN}",
        f"edge2/.ctship/{CHAIN}",
        f"edge2/{CHAIN}0",
        f"replaced/{CHAIN}",
        f".hidden/{CHAIN}",
        f"deep/er/{CHAIN}",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "edge3").symlink_to(tmp_path / "edge1")
    (tmp_path / "edge1" / "fedcba9876543210").symlink_to(tmp_path / "edge2" / CHAIN)
    found = [f"{tmp_path}/{name}/{CHAIN}" for name in ("edge1", "edge2")]
    assert list(folders_below(str(tmp_path))) == found
    assert list(folders_below(str(tmp_path / "edge1"))) == found[:1]
    assert list(folders_below(found[0])) == []


def test_the_router_is_the_folder(tmp_path: Path) -> None:
    assert router_of(f"/srv/edge1/{CHAIN}/1.ctlog") == "edge1"
    assert router_of("/srv/edge1/log/1.ctlog") == ""
    assert router_of("1.ctlog") == ""
    place = tmp_path / "edge2" / CHAIN
    place.mkdir(parents=True)
    path = asked.record(place)[0]
    with open_segment(path) as plain, open_placed(path) as placed:
        assert (plain.header.host, plain.header.chain) == ("gate1", "c0ffee")
        assert (placed.header.host, placed.header.chain) == ("edge2", "edge2/c0ffee")
        assert placed.header.boot_id == "edge2/b"
        assert placed.pairing_key != plain.pairing_key
    spans = find.find([str(tmp_path)], spans=True).spans
    assert {span.chain for span in spans} == {"edge2/c0ffee"}


def test_readers_find_all_and_maintenance_only_its_own(tmp_path: Path) -> None:
    for name in ("edge1", "edge2"):
        place = tmp_path / name / CHAIN
        place.mkdir(parents=True)
        asked.record(place)
    assert len(find.find([str(tmp_path)]).segments) == 6
    assert len(find.find([str(tmp_path / "edge1")]).segments) == 3
    assert len(find.find([str(tmp_path / "edge1" / CHAIN)]).segments) == 3
    assert find.find([str(tmp_path)], routers=False).segments == []
