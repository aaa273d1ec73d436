"""Segments written as Parquet files, where pyarrow is: no Debian has it.

A segment is a file of its own beside the one that is named: PATH-CHAIN-SEQUENCE-HASH.parquet.  It
gets its name when it is whole, so each segment is there once, whatever interrupts it.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrecorder.archive.open import open_segment
from ctrecorder.columns import ADDRESSES, PORTS, Array, Source, Table
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import CtrecorderError, why
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.target import Target
from ctrecorder.shipping.waiting import Waiting
from ctrecorder.times import MICROSECOND
from ctrecorder.uapi import AF_INET

_HOW_TO_GET = (
    "Parquet needs pyarrow, which Debian does not have: pip install --target DIR pyarrow, and run "
    "ctship with PYTHONPATH=DIR"
)
_NUMBERS = (
    *("l4proto", *PORTS, "status", "zone", "orig_zone", "reply_zone", "mark", "orig_packets"),
    *("orig_bytes", "reply_packets", "reply_bytes", "tcp_state", "start_source", "end_source"),
    *("seen", "present", "id"),
)
_SUFFIX = ".parquet"
_MODE = 0o640


@dataclass(frozen=True)
class Files:
    """Writes segments of `router` beside the file of `target`.

    Raises TargetError without pyarrow.
    """

    target: Target
    router: str

    def __post_init__(self) -> None:
        _modules(self.target.text)

    def send(self, batch: Sequence[Waiting]) -> dict[str, Result]:
        """Write `batch`; returns what became of each segment, by name.

        Raises TargetError if nothing can be written.
        """
        done: dict[str, Result] = {}
        for one in batch:
            try:
                self._write(one)
                done[one.name] = Result("stored")
            except OSError as error:
                raise TargetError(f"{self.target.text}: {why(error)}", done) from error
            except CtrecorderError as error:
                done[one.name] = Result("", str(error))
        return done

    def _write(self, one: Waiting) -> None:
        arrow, parquet = _modules(self.target.text)
        stem = self.target.folder.removesuffix(_SUFFIX)
        path = f"{stem}-{one.name.removesuffix('.ctlog').replace('/', '-')}{_SUFFIX}"
        if os.path.exists(path):
            return
        with open_segment(one.path) as segment:
            tables = [segment.read(block) for block in segment.blocks_of(Kind.CONNECTIONS)]
            if segment.is_damaged:
                raise CtrecorderError(f"damaged here: {segment.findings[0]}")
        part = f"{path}.part"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # what an interrupted run left
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            empty = _columns(Table(AF_INET, 0, {}), arrow, self.router)
            with parquet.ParquetWriter(file, empty.schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(_columns(table, arrow, self.router))
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, path)
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _modules(text: str) -> tuple[Any, Any]:
    """pyarrow and its Parquet.  Raises TargetError without them."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise TargetError(f"{text}: {_HOW_TO_GET}") from None


def _columns(table: Table, arrow: Any, router: str) -> Any:
    """Connections as a table of pyarrow: times in us UTC or null, addresses as text."""
    columns: dict[str, Any] = {"router": arrow.array([router] * len(table), arrow.string())}
    for name in ("start", "end"):
        unknown = table[f"{name}_source"] == Source.UNKNOWN
        times = arrow.array(table[name] // MICROSECOND, arrow.int64(), mask=np.asarray(unknown))
        columns[name] = times.cast(arrow.timestamp("us", "UTC"))
    for name in ADDRESSES:
        columns[name] = arrow.array(_texts(table[name], table.family), arrow.string())
    columns |= {name: arrow.array(np.ascontiguousarray(table[name])) for name in _NUMBERS}
    return arrow.table(columns)


def _texts(column: Array, family: int) -> list[str]:
    """Addresses as text; of each the text is made once."""
    found, number = np.unique(column, return_inverse=True)
    size = 4 if family == AF_INET else 16
    data = found.astype(">u4").tobytes() if size == 4 else found.astype("S16").tobytes()
    each = [str(ipaddress.ip_address(data[at : at + size])) for at in range(0, len(data), size)]
    return [each[at] for at in number]
