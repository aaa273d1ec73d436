"""The uses of the key beside the recorder's: a segment that is replaced or deleted, a hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctrecorder.sealing.epoch import Clocks, exclusive
from ctrecorder.sealing.header import begun_in, sealed_by
from ctrecorder.sealing.live import last_seal
from ctrecorder.sealing.locate import find_state
from ctrecorder.sealing.recorded import broken_link, doubt
from ctrecorder.sealing.state import NoKeyError, SealError
from ctrecorder.seals.block import is_right
from ctrecorder.seals.ledger import Json, file_name
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording
from ctrecorder.segment.writer import SegmentWriter


@dataclass(frozen=True)
class KeyUser:
    """A command that uses keys.

    `named`, `wrong`: as of `locate.folder_for_use`.  If the setting is wrong, only a key that is
    found without it can be used.

    Methods raise SealError; NoKeyError if the key is not on this machine.
    """

    named: str | None = None
    clocks: Clocks = field(default_factory=Clocks)
    wrong: str = ""

    def find(self, key_id: str) -> str:
        """The folder with the key `key_id`."""
        try:
            return find_state(key_id, self.named)
        except NoKeyError as error:
            if self.wrong:  # it may be in the folder that was meant
                raise SealError(f"{self.wrong}; {error}") from error
            raise

    def close(
        self,
        writer: SegmentWriter,
        old: Recording,
        totals: Mapping[str, Any] | None = None,
        what: str = "squeeze",
    ) -> None:
        """Close the successor of `old`: with a seal, if `old` is sealed.  Raises WriteError too.

        `what`: of the ledger's line.
        """
        key_id = sealed_by(old)
        if not key_id or not isinstance(old, Segment):
            writer.close(totals)
            return
        if what == "squeeze":
            self.refuse_changed(old)
        writer.sync()  # all but the end, before the key is locked
        folder, name = os.path.split(old.path)
        with exclusive(self.find(key_id), folder, self.clocks) as key:
            found = last_seal(old)
            if found is not None:
                last, head = found
                key.reach(last.epoch, lambda ahead: is_right(last, head, ahead))
                since = last.since
            else:
                since = begun_in(old)
            writer.seal(key.key, key.epoch, min(since, key.epoch), self.clocks.wall())
            last_hash = writer.close(totals).hex()
            facts = {
                "segment": name,
                "last_hash": last_hash,
                "replaced": old.last_hash.hex(),
            }
            key.note(what, facts)

    def has_key_of(self, old: Recording) -> bool:
        """Whether `old` is sealed, with a key that is on this machine."""
        try:
            return bool(sealed_by(old) and self.find(sealed_by(old)))
        except NoKeyError:
            return False

    def doubt(self, old: Segment) -> str:
        """Why the ledger contradicts `old`, which is sealed; "" if it does not."""
        return doubt(old, os.path.join(os.path.dirname(old.path), file_name(sealed_by(old))))

    def refuse_changed(self, old: Recording) -> None:
        """Raise SealError if `old` is sealed and is not what the recorder wrote: it would get a
        right seal.
        """
        if not sealed_by(old) or not isinstance(old, Segment):
            return
        if why := self.doubt(old) or broken_link(old):
            raise SealError(
                f"{old.path}: {why}: it is not sealed anew, and stays as it is: check the folder "
                "with cttest --seals"
            )

    def refuse_unknown(self, old: Recording) -> None:
        """Raise SealError if `old` is sealed with a key whose folder a wrong setting hides."""
        with contextlib.suppress(NoKeyError):
            if sealed_by(old):
                self.find(sealed_by(old))

    def note(self, key_id: str, folder: str, what: str, facts: Json) -> None:
        """Note a use of the key in the ledger in `folder`."""
        with exclusive(self.find(key_id), folder, self.clocks) as key:
            key.note(what, facts)
