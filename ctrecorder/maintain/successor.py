"""The file of a new segment before it takes the place of the old one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ctrecorder.archive import lock
from ctrecorder.archive.lock import BusyError, Held
from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder

# Where --keep puts the segment as it was recorded: out of the folder that is read as the archive.
KEPT_FOLDER = "replaced"


@dataclass
class Successor:
    """A segment under a hidden name in `folder`, the successor of the segment `held`.

    `path`: of the hidden name.
    `descriptor`: of its file; -1 until the file is created.
    """

    held: Held
    folder: Folder
    path: str
    descriptor: int = -1

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    def replace(self, path: str, *, keep: bool) -> None:
        """Rename the successor over the old segment `path`, and sync the folder.

        `keep`: the old segment gets a second name in KEPT_FOLDER first.  Raises ArchiveError.
        """
        folder, held = self.folder, self.held
        try:
            if keep:
                self._keep_old()
            if not self._is_at(self.name):
                raise ArchiveError(
                    f"{self.path}: was replaced or removed by another program while it was "
                    "written; the segment was not replaced"
                )
            if not held.is_there():
                raise BusyError(f"{path}: has just been replaced or removed")
            folder.rename(self.name, held.name)
            if not self._is_at(held.name):
                raise ArchiveError(
                    f"{path}: another program replaced the new segment by something else: "
                    "check who may write to this folder"
                )
            folder.sync()
        except OSError as error:
            raise ArchiveError(f"{path}: cannot be replaced: {error.strerror}") from error

    def publish(self, output: str) -> None:
        """Name the successor `output`, which must not exist, and sync the folder.

        Raises ArchiveError.
        """
        try:
            self.folder.link(self.descriptor, os.path.basename(output))
            self.folder.unlink(self.name)
            self.folder.sync()
        except FileExistsError as error:
            raise ArchiveError(f"{output}: exists already, and is never overwritten") from error
        except OSError as error:
            raise ArchiveError(f"{output}: cannot be created: {error.strerror}") from error

    def _is_at(self, name: str) -> bool:
        """True if `name` is a name of the successor's file."""
        return self.folder.has(name, os.fstat(self.descriptor))

    def _keep_old(self) -> None:
        """Give the old segment a second name, unless an interrupted run did.

        Raises OSError, ArchiveError.
        """
        held = self.held
        with held.folder.below(KEPT_FOLDER, 0o750) as kept:
            try:
                kept.link(held.descriptor, held.name)
            except FileExistsError:
                if not kept.has(held.name, held.status):
                    raise
            kept.sync()

    def _remove_leftover(self) -> None:
        """Remove a file that an interrupted run left under the name.  Raises ArchiveError.

        The lock of the old segment ensures that no other run writes it now.
        """
        try:
            self.folder.unlink(self.name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ArchiveError(f"{self.path}: cannot be removed: {error.strerror}") from error

    def _close(self) -> None:
        """Remove the name, if it is still there, and close the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.folder.remove(self.name)


@contextlib.contextmanager
def successor_of(held: Held, path: str, output: str | None) -> Iterator[Successor]:
    """The successor of the segment `path`, whose lock is `held`; its file is not created yet.

    `output`: the path that it gets; None: that of the old segment.  Its hidden name is removed when
    the context is left.  Raises ArchiveError.
    """
    with contextlib.ExitStack() as stack:
        folder = held.folder if output is None else stack.enter_context(Folder.of(output))
        hidden = lock.successor_path(path if output is None else output, held.status)
        successor = Successor(held, folder, hidden)
        successor._remove_leftover()
        stack.callback(successor._close)
        yield successor
