"""Catalogues that are stale, damaged, exchanged or forged lose no segment and change no answer."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.archive import find, renew
from ctrecorder.holders import who
from ctrecorder.holders.who import WhoQuery
from ctrecorder.kept import catalogue
from ctrecorder.times import DAY
from tests.support import asked
from tests.support.slow_pairing import SECOND, T

CHAINS = ("0123456789abcdef", "00c0ffee00c0ffee")
ROUTERS = ("edge1", "edge2")
INTRUDER = 64_003  # the account of edge2
NOW = T + DAY


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two routers, of which an intruder controls the second one, with two recordings each."""
    monkeypatch.setattr(renew, "_MANY", 1)
    for number, router in enumerate(ROUTERS):
        for chain in CHAINS:
            place = tmp_path / router / chain
            place.mkdir(parents=True)
            asked.record(place, f"10.0.{number}.5", chain)
    time.sleep(0.2)  # what was just changed is in no catalogue
    renew.renew(str(tmp_path))
    return tmp_path


def answers(root: Path) -> list[object]:
    """What is found there, and what is answered."""
    spans = find.find([str(root)], spans=True).spans
    found: list[object] = [*sorted(spans)]
    for port, seconds in ((40001, 3670), (39999, 9000)):
        at = T + seconds * SECOND
        query = WhoQuery(who.parse_end(f"{asked.PUBLIC}:{port}"), at, at + SECOND)
        answer = who.answer([str(root)], query, NOW)
        holders = {
            (router, int(one))
            for router, table in zip(answer.routers, answer.tables, strict=True)
            for one in table["orig_src"]
        }
        found.append((holders, answer.verdict, sorted(answer.segments)))
    return found


def without(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The same without any catalogue."""
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "read", lambda folder, asked: None)
        return answers(root)


def catalogues(root: Path) -> list[Path]:
    return sorted(root.glob(f"*/*/{catalogue.NAME}"))


def forged(path: Path, chance: random.Random) -> bytes:
    """A whole catalogue of the folder as it is, that says that its segments are elsewhere."""
    known = catalogue._parse(path.read_bytes())
    assert known is not None
    numbers = known.numbers.copy()
    for column in ("begin", "end", "recorded"):
        numbers[:, catalogue._COLUMNS.index(column)] -= chance.randrange(1, 900) * DAY
    numbers[:, catalogue._COLUMNS.index("sequence")] = chance.randrange(9)
    gone = chance.randrange(len(known.names) + 1)
    facts = {
        "version": catalogue._VERSION,
        "names": known.names[gone:],
        "chains": known.chains[gone:],
    }
    body = json.dumps(facts).encode() + b"\n" + numbers[gone:].tobytes()
    return bytes(catalogue._digest(body) + body)


def attacks(root: Path, chance: random.Random) -> Iterator[None]:
    """One attack after another on the folders of the intruder, or on all by an accident."""
    evil = root / "edge2" / CHAINS[0] / catalogue.NAME
    for _ in range(2):
        evil.write_bytes(forged(evil, chance))
        os.chown(evil, INTRUDER, INTRUDER)
        yield
        evil.unlink()
        renew.renew(str(root))
    # It is root's, but anybody may write it.
    evil.write_bytes(forged(evil, chance))
    evil.chmod(0o666)
    yield
    # Those of other folders, by copy, by another name of one file, by link.
    source = root / "edge1" / CHAINS[0] / catalogue.NAME
    for put in (shutil.copy, os.link, os.symlink):
        evil.unlink()
        put(source, evil)
        yield
    evil.unlink()
    os.mkfifo(evil)
    yield
    evil.unlink()
    evil.mkdir()
    yield
    evil.rmdir()
    renew.renew(str(root))
    for path in catalogues(root):
        whole = path.read_bytes()
        for _ in range(1):
            cut = chance.randrange(len(whole))
            path.write_bytes(chance.choice([whole[:cut], whole[:cut] + b"?" + whole[cut + 1 :]]))
            yield
        path.write_bytes(whole)


def test_a_forged_or_damaged_one_changes_no_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(catalogues(root)) == 4
    right = without(root, monkeypatch)
    assert answers(root) == right
    for number, _ in enumerate(attacks(root, random.Random(15))):
        assert answers(root) == right, number


def test_a_stale_one_loses_no_segment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments come, go, are replaced and come back, and the catalogue stays the old one."""
    chance = random.Random(16)
    old = {path: path.read_bytes() for path in catalogues(root)}
    kept = root / "kept"
    shutil.copytree(root / "edge1", kept / "edge1")
    for _ in range(8):
        folder = root / "edge1" / chance.choice(CHAINS)
        name = f"0{chance.randrange(3)}.ctlog"
        source = kept / "edge1" / chance.choice(CHAINS) / f"0{chance.randrange(3)}.ctlog"
        match chance.randrange(4):
            case 0:
                (folder / name).unlink(missing_ok=True)
            case 1:
                shutil.copy(source, folder / f"more{chance.randrange(3)}.ctlog")
            case 2:
                shutil.copy(source, folder / name)
            case 3:
                shutil.copy(source, folder / "aside")
                os.replace(folder / "aside", folder / name)
        path = folder / catalogue.NAME
        path.write_bytes(old[path])
        assert answers(root) == without(root, monkeypatch)
        if chance.random() < 0.3:
            renew.renew(str(root))
            old = {one: one.read_bytes() for one in catalogues(root)}
            assert answers(root) == without(root, monkeypatch)
