"""The attacks of cttest(1) on files: without pytest, so that a booted router can make them too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrecorder.archive import chain
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.kept.retention import HOLDS, RECEIPTS, Receipt
from ctrecorder.sealing.epoch import exclusive
from ctrecorder.seals.block import Seal, parse_seal
from ctrecorder.seals.ledger import pack_line, parse_line
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.history import blocks_of

if TYPE_CHECKING:
    from tests.support.attacked import Attacked

# What each attacker's segment has too many: a connection that never was.
ROWS = 7


def present(site: Attacked) -> tuple[bytes, int]:
    """The present key, as its user finds it."""
    ours = site.ours
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as key:
        return key.key, key.epoch


def put(
    site: Attacked, old: Path, seals: list[tuple[bytes, int, int]] | None = None, **members: Any
) -> SegmentWriter:
    """Put a segment with other rows in the place of `old`, as one that replaces it unless `members`
    says otherwise.

    `seals`: the key, epoch and `since` of each seal.
    """
    with Segment(str(old)) as segment:
        claimed: dict[str, Any] = {"replaces": chain.successor(segment), "squeezed": {}, **members}
        header = replace(segment.header, **claimed)
        new = SegmentWriter.create(
            f"{old}.new", header, segment.previous_hash, time_ns=int(segment.index["time_min"][0])
        )
    new.append(site.ours.rows(ROWS))
    for key, epoch, since in seals or []:
        new.seal(key, epoch, since, site.ours.clock.wall)
    new.close()
    os.rename(new.path, old)
    return new


def put_with_key(site: Attacked, old: Path, since: int) -> None:
    """Put a segment in the place of `old` with the present key, and a line in the ledger."""
    if not site.sealed:
        put(site, old)
        return
    key, epoch = present(site)
    with Segment(str(old)) as segment:
        replaced = segment.last_hash.hex()
    new = put(site, old, [(key, epoch, since)])
    facts = {"segment": old.name, "last_hash": new.last_hash.hex(), "replaced": replaced}
    ours = site.ours
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as use:
        use.note("squeeze", facts)


def remove_with_receipt(site: Attacked, path: Path) -> str:
    """Remove a segment, and write its receipt; returns its last hash."""
    with Segment(str(path)) as one:
        hashes = list(chain.link(one).hashes)
        before, ended = site.paths[0].name, one.previous_hash.hex()
        since, until = one.times
        now, size = site.ours.clock.wall, one.size
        receipt = Receipt(path.name, since, until, 1, size, hashes, before, ended, now, "too old")
    path.unlink()
    with (site.folder / RECEIPTS).open("a") as file:
        file.write(json.dumps(asdict(receipt)) + "\n")
    return hashes[0]


def ledger_lines(site: Attacked) -> list[bytes]:
    return site.ours.ledger.read_bytes().splitlines(keepends=True) if site.sealed else []


def cut_back(site: Attacked, what: str, number: int) -> None:
    """Remove the last segment, and all lines behind the last but `number` of `what`."""
    site.paths[-1].unlink()
    (site.folder / HOLDS).unlink()
    if lines := ledger_lines(site):
        ends = [at for at, line in enumerate(lines, 1) if parse_line(line).what == what]
        site.ours.ledger.write_bytes(b"".join(lines[: ends[-1 - number]]))


def seals_of(segment: Segment) -> list[Seal]:
    """The seals of a segment."""
    return [
        parse_seal(segment.file.payload(block.offset, segment.frame(block)))
        for block in segment.blocks_of(Kind.SEAL)
    ]


def resign(site: Attacked, key: bytes, epoch: int, facts: dict[str, str]) -> None:
    """Write the lines of the present epoch anew, that of a closed segment with other `facts`."""
    lines, made, last = map(parse_line, ledger_lines(site)), [], None
    for line in lines:
        if line.epoch < epoch:
            made.append(line.text + b"\t" + line.seal + b"\n")
            last = line
            continue
        assert last is not None
        changed = {**line.facts, **(facts if line.what == "close" else {})}
        made.append(pack_line(key, epoch, line.time, line.what, last.hash, changed))
        last = parse_line(made[-1])
    site.ours.ledger.write_bytes(b"".join(made))


def cut(site: Attacked) -> None:
    """Cut a squeezed segment at the end of a block."""
    blocks = blocks_of(site.paths[1].read_bytes())
    site.paths[1].write_bytes(b"".join(blocks[:-1]))


def cut_last(site: Attacked) -> None:
    """Cut the last segment at the end of a block."""
    blocks = blocks_of(site.paths[-1].read_bytes())
    site.paths[-1].write_bytes(b"".join(blocks[: len(blocks) // 2]))


def change_last(site: Attacked) -> None:
    """Record the last segment anew."""
    put(site, site.paths[-1], replaces=(), squeezed=None)


def slip_in(site: Attacked) -> None:
    """Slip in a file with the header of a C file."""
    new = SegmentWriter.create(
        str(site.folder / "slipped.ctlog"), Header(legacy={}), time_ns=site.ours.clock.wall
    )
    new.append(site.ours.rows(ROWS))
    new.close()


def insert(site: Attacked) -> None:
    """Slip in a segment with a template and a chain of its own."""
    header = Header(chain="feed" * 8, sequence=1, host="router")
    new = SegmentWriter.create(
        str(site.folder / "inserted.ctlog"), header, time_ns=site.ours.clock.wall
    )
    new.append(site.ours.rows(ROWS))
    new.close()


def remove_ledger(site: Attacked) -> None:
    """Remove the ledger."""
    for path in site.folder.glob("*.ledger"):
        path.unlink()


def swap_raw(site: Attacked) -> None:
    """Replace a segment that is not squeezed yet by one that is."""
    raw = site.paths[3]
    with Segment(str(raw)) as segment:
        assert not segment.header.is_squeezed
    put_with_key(site, raw, present(site)[1] - 1 if site.sealed else 0)


def replace_with_key(site: Attacked) -> None:
    """Replace a squeezed segment, with the present key and a line."""
    with Segment(str(site.paths[0])) as segment:
        since = max((at.since for at in seals_of(segment)), default=0)
    put_with_key(site, site.paths[0], since)


def backdate(site: Attacked) -> None:
    """Record a segment anew with seals of epochs whose keys are gone."""
    path = site.paths[3]
    with Segment(str(path)) as segment:
        claimed = seals_of(segment)
    key = present(site)[0] if site.sealed else b""
    seals = [(key, one.epoch, one.since) for one in claimed]
    put(site, path, seals, replaces=(), squeezed=None)


def last_epoch(site: Attacked) -> None:
    """Record the present epoch anew."""
    path = site.paths[-1]
    if not site.sealed:
        put(site, path, replaces=(), squeezed=None)
        return
    key, epoch = present(site)
    with Segment(str(path)) as segment:
        assert {one.epoch for one in seals_of(segment)} == {epoch}
    new = put(site, path, [(key, epoch, epoch)], replaces=(), squeezed=None)
    resign(site, key, epoch, {"last_hash": new.last_hash.hex()})


def wipe(site: Attacked) -> None:
    """Delete all."""
    for path in site.folder.iterdir():
        path.unlink()


def remove_first(site: Attacked) -> None:
    """Remove a segment that others follow."""
    site.paths[1].unlink()


def remove_last(site: Attacked) -> None:
    """Remove the last segment."""
    site.paths[-1].unlink()


def change_byte(site: Attacked) -> None:
    """Change a byte of a segment."""
    data = bytearray(site.paths[0].read_bytes())
    data[len(data) // 2] ^= 0x10
    site.paths[0].write_bytes(data)


def replace_without_key(site: Attacked) -> None:
    """Replace a squeezed segment by one that says to replace it."""
    put(site, site.paths[1], seals=None)


def name_key(site: Attacked) -> None:
    """Slip in a segment that names the key in its header, as a crash leaves it."""
    with Segment(str(site.paths[-1])) as segment:
        header, time_ns = segment.header, int(segment.index["time_min"][0])
    header = replace(header, chain="feed" * 8, sequence=1, template="other")
    new = SegmentWriter.create(str(site.folder / "named.ctlog"), header, time_ns=time_ns)
    new.append(site.ours.rows(ROWS))
    new.sync()
    new.abandon()


def remove_with_its_receipt(site: Attacked) -> None:
    """Remove a segment and write its receipt."""
    remove_with_receipt(site, site.paths[1])


def change_hold(site: Attacked) -> None:
    """Change the reason of a hold."""
    path = site.folder / HOLDS
    text = path.read_text()
    assert "case 17" in text
    path.write_text(text.replace("case 17", "case 71"))


def empty_ledger(site: Attacked) -> None:
    """Empty the ledger."""
    for path in site.folder.glob("*.ledger"):
        path.write_bytes(b"")


def remove_line(site: Attacked) -> None:
    """Remove a line of the ledger."""
    if lines := ledger_lines(site):
        del lines[1]
        site.ours.ledger.write_bytes(b"".join(lines))


# By the names of `claims`: those that a process alone can make.
ATTACKS: dict[str, Callable[[Attacked], None]] = {
    "byte": change_byte,
    "removed": remove_first,
    "removed-last": remove_last,
    "cut": cut,
    "cut-last": cut_last,
    "changed-last": change_last,
    "replaced": replace_without_key,
    "slipped-in": slip_in,
    "inserted": insert,
    "key-named": name_key,
    "receipt": remove_with_its_receipt,
    "hold": change_hold,
    "ledger": remove_ledger,
    "ledger-emptied": empty_ledger,
    "ledger-line": remove_line,
    "cut-back": lambda site: cut_back(site, "stop", 1),
    "swapped": swap_raw,
    "key-replaced": replace_with_key,
    "key-backdated": backdate,
    "last-epoch": last_epoch,
    "wiped": wipe,
}
