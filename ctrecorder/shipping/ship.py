"""One run of ctship: the waiting segments of an archive to each target, oldest first.

An error with one segment is noted, and the next ones are sent; an error with a target ends the work
for that target, and the others get theirs.  What a target acknowledged is on the disk before the
next batch is sent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctrecorder.check.collect import check_segment
from ctrecorder.errors import CtrecorderError, ExitCode, GoneError
from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged
from ctrecorder.kept.acknowledged import Acknowledged, Shipment
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.shipping.clickhouse import Store
from ctrecorder.shipping.collector import Exporter
from ctrecorder.shipping.parquet import Files
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.rsync import Sender
from ctrecorder.shipping.target import Target, parse
from ctrecorder.shipping.waiting import Examined, Waiting, examine
from ctrecorder.terminal import count

# A batch costs three logins: with fewer segments a first run takes hours.  With more, an
# interruption sends more again, and more of them are open at once.
_BATCH_SEGMENTS, _BATCH_BYTES = 64, 256 << 20


@dataclass(frozen=True)
class Options:
    """What is sent, and how.

    `targets`: as they are written.  `router`: the folder of this router at each target.
    `raw`: also segments that are not squeezed.  `key`, `bytes_per_second`: as in Sender.
    `password_file`: as in Store.
    """

    targets: tuple[str, ...]
    router: str
    raw: bool = False
    key: str = ""
    bytes_per_second: int = 0
    password_file: str = ""


@dataclass
class Shipping:
    """A run over the archive `folder`."""

    folder: str
    options: Options
    log: Log
    _damaged: dict[str, str] = field(default_factory=dict)

    def run(self) -> int:
        """Send what waits; returns the exit code: OK, NO if a segment was refused, FAILED if a
        target could not be used or a segment not be read.  Raises ArchiveError.
        """
        with Folder(self.folder) as folder:
            lock = acknowledged.take_lock(folder)
            if lock is None:
                what = f"{self.folder}: another ctship sends these segments"
                self.log.send(messages.SKIPPED, what, path=self.folder, error=what)
                return ExitCode.OK
            try:
                return self._run(folder)
            finally:
                lock.release()

    def _run(self, folder: Folder) -> int:
        examined = examine(self.folder, raw=self.options.raw)
        for path, why in examined.troubles:
            self.log.send(messages.SKIPPED, why, path=path, error=why)
        known = acknowledged.read(folder)
        _forget_deleted(folder, known, examined)
        codes = {ExitCode.FAILED if examined.troubles else ExitCode.OK}
        for target in map(parse, self.options.targets):
            codes.add(self._ship(folder, known, target, examined.ready))
        return max(codes, key=(ExitCode.OK, ExitCode.NO, ExitCode.FAILED).index)

    def _ship(
        self, folder: Folder, known: Acknowledged, target: Target, ready: Sequence[Waiting]
    ) -> ExitCode:
        waiting = waiting_for(target, ready, known)
        try:
            sender = _sender(target, self.options)
        except TargetError as error:
            self._tell(target, error)
            return ExitCode.FAILED

        def note(one: Waiting, result: Result) -> None:
            acknowledged.add(folder, self._shipment(target, one, result))

        code = ExitCode.OK
        with _progress_bar(target.text, sum(one.bytes for one in waiting)) as bar:
            for batch in _batches(waiting):
                whole = [one for one in batch if not self._is_damaged(one)]
                results = {
                    one.name: Result("", self._damaged[one.path])
                    for one in batch
                    if one not in whole
                }
                problem: TargetError | None = None
                try:
                    if isinstance(sender, Exporter):
                        results |= sender.send(whole, note)
                    else:
                        results |= sender.send(whole)
                except TargetError as error:
                    results |= error.known
                    problem = error
                with bar.external_write_mode(file=sys.stderr):
                    code = max(code, self._note(folder, target, batch, results))
                bar.update(sum(one.bytes for one in batch))
                if problem is not None:
                    self._tell(target, problem)
                    return ExitCode.FAILED
        return code

    def _tell(self, target: Target, problem: TargetError) -> None:
        what = f"{problem}: the rest waits"
        self.log.send(messages.TARGET_FAILED, what, to=target.text, error=str(problem))

    def _is_damaged(self, one: Waiting) -> bool:
        """If the segment is damaged here: a target would refuse it, or keep it unseen."""
        if one.path not in self._damaged:
            try:
                findings = check_segment(one.path).findings
                self._damaged[one.path] = f"damaged here: {findings[0]}" if findings else ""
            except GoneError:
                self._damaged[one.path] = ""
            except CtrecorderError as error:
                self._damaged[one.path] = f"cannot be checked here: {error}"
        return bool(self._damaged[one.path])

    def _note(
        self, folder: Folder, target: Target, batch: Sequence[Waiting], results: dict[str, Result]
    ) -> ExitCode:
        """Note and log what became of a batch."""
        shipments = [
            self._shipment(target, one, results[one.name]) for one in batch if one.name in results
        ]
        if shipments:
            acknowledged.add(folder, *shipments)
        for one in shipments:
            path = os.path.join(self.folder, one.path)
            if one.is_acknowledged:
                what = f"shipped {path} to {target.text}: {one.bytes:,} bytes, {_TOLD[one.how]}"
                facts = {"bytes": one.bytes, "name": one.name, "how": one.how}
                self.log.send(messages.SHIPPED, what, path=path, to=target.text, **facts)
            else:
                what = f"{path}: not shipped to {target.text}: {one.why}"
                self.log.send(messages.NOT_SHIPPED, what, path=path, to=target.text, error=one.why)
        return ExitCode.OK if all(one.is_acknowledged for one in shipments) else ExitCode.NO

    def _shipment(self, target: Target, one: Waiting, result: Result) -> Shipment:
        return Shipment(
            target.text,
            one.hashes[0],
            f"{self.options.router}/{one.name}",
            os.path.basename(one.path),
            one.bytes,
            time.time_ns(),
            result.how,
            result.why,
        )


_TOLD = {
    "checked": "checked there",
    "copied": "copied, not checked there",
    "stored": "stored as rows",
    "sent": "sent as flows, nothing acknowledges them",
}


def waiting_for(target: Target, ready: Sequence[Waiting], known: Acknowledged) -> list[Waiting]:
    """The segments that can be sent to `target`, and that it has not yet."""
    return [
        one
        for one in ready
        if not is_there(target, one, known) and (one.is_squeezed or not target.takes_rows)
    ]


def is_there(target: Target, one: Waiting, known: Acknowledged) -> bool:
    """If `target` acknowledged the segment.

    A collector of flows would count those of a segment that was made anew again.
    """
    return known.has(target.text, one.hashes if target.is_collector else one.hashes[:1])


def _sender(target: Target, options: Options) -> Sender | Store | Exporter | Files:
    """What sends segments to `target`.  Raises TargetError if it needs what is not here."""
    if target.kind == "file":
        return Files(target, options.router)
    if target.is_collector:
        return Exporter(target, options.router, options.bytes_per_second)
    if target.kind == "clickhouse":
        return Store(target, options.router, options.password_file)
    return Sender(target, options.router, options.key, options.bytes_per_second)


def dry_run(folder: str, options: Options) -> Iterator[str]:
    """What would be sent, a line each.  Raises ArchiveError."""
    with Folder(folder) as opened:
        known = acknowledged.read(opened)
    examined = examine(folder, raw=options.raw)
    for target in map(parse, options.targets):
        for one in waiting_for(target, examined.ready, known):
            what = f"{options.router}/{one.name}"
            yield f"would ship {one.path}, {one.bytes:,} bytes, to {target.text} as {what}"


def status(folder: str, options: Options) -> Iterator[str]:
    """What each target has, and what waits, as lines.  Raises ArchiveError."""
    with Folder(folder) as opened:
        known = acknowledged.read(opened)
    examined = examine(folder, raw=options.raw)
    for path, why in examined.troubles:
        yield f"{path}: cannot be shipped: {why}"
    for text in options.targets:
        yield from _status(text, known, examined)


def _status(text: str, known: Acknowledged, examined: Examined) -> Iterator[str]:
    target = parse(text)
    waits = waiting_for(target, examined.ready, known)
    has = [one for one in examined.ready if is_there(target, one, known)]
    shipments = [[known.last.get((text, each)) for each in one.hashes] for one in has]
    how = [next(each.how for each in tries if each and each.how) for tries in shipments]
    size = sum(one.bytes for one in has)
    kinds = {"checked": "checked there", "stored": "stored", "copied": "copied", "sent": "sent"}
    counts = {told: how.count(kind) for kind, told in kinds.items()}
    told = ", ".join(f"{number:,} {told}" for told, number in counts.items() if number)
    yield text
    yield f"  shipped: {count(len(has), 'segment')}, {size:,} bytes{f': {told}' if told else ''}"
    later = f"; {examined.later:,} not closed or not squeezed yet" if examined.later else ""
    yield (
        f"  waiting: {count(len(waits), 'segment')}, {sum(one.bytes for one in waits):,} bytes"
        f"{later}"
    )
    refused = {one.hashes[0]: known.last.get((text, one.hashes[0])) for one in waits}
    for one in waits:
        last = refused[one.hashes[0]]
        if last is not None:
            yield f"  refused: {one.path}: {last.why}"


def _forget_deleted(folder: Folder, known: Acknowledged, examined: Examined) -> None:
    """Forget the shipments of segments that are not in the archive any more."""
    if examined.troubles:
        return  # one that cannot be read now may be readable later
    here = {each for one in examined.ready for each in one.hashes}
    names = {one.path for one in known.last.values() if folder.exists(one.path)}
    acknowledged.rewrite(folder, known, lambda one: one.hash in here or one.path in names)


def _batches(waiting: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """The segments in order, as many together as a batch may have."""
    batch: list[Waiting] = []
    for one in waiting:
        size = sum(each.bytes for each in batch)
        if batch and (len(batch) == _BATCH_SEGMENTS or size + one.bytes > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _progress_bar(text: str, total: int) -> Any:
    """A progress bar over bytes on stderr; it shows nothing if stderr is no terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=text,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
        leave=False,
        file=sys.stderr,
    )
