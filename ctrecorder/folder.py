"""A folder that is opened once; all that is made, renamed, linked or removed in it goes by its
descriptor.

A command that root runs works in folders that belong to the recorder's user, who may exchange any
name in them at any moment.  So no name is followed twice: a file is changed by its descriptor,
never by its name, and no symbolic link is followed below the folder.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

from ctrecorder.errors import ArchiveError, GoneError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Paths that lead to one folder or nowhere: device and inode.
_pinned: dict[str, tuple[int, int]] = {}
_LOOK = os.O_PATH | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotAFileError(OSError):
    """It is no regular file."""

    def __init__(self) -> None:
        super().__init__(errno.EPERM, "is not a file")


def open_file(
    path: str,
    flags: int = os.O_RDONLY,
    mode: int = 0,
    *,
    within: int | None = None,
    follow: bool = False,
) -> int:
    """Open the regular file `path`; returns its descriptor.  Raises OSError, NotAFileError.

    `within`: descriptor of its folder.  `follow`: also by a symbolic link.  It is looked at first:
    a pipe would let a reader wait, and to open a device can do anything, such as start a watchdog.
    """
    flags |= _FILE
    if not flags & os.O_EXCL:
        try:
            look = os.open(path, _LOOK if follow else _LOOK | os.O_NOFOLLOW, dir_fd=within)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        else:
            try:
                kind = os.fstat(look).st_mode
                if stat.S_ISLNK(kind):
                    raise OSError(errno.ELOOP, "is a symbolic link")
                if not stat.S_ISREG(kind):
                    raise NotAFileError
                return os.open(f"/proc/self/fd/{look}", flags & ~(os.O_NOFOLLOW | os.O_CREAT))
            finally:
                os.close(look)
    return os.open(path, flags, mode, dir_fd=within)


class Folder:
    """The open folder `path`; `descriptor`: of it.

    Names are those of entries, without a slash.  The methods raise OSError.
    """

    def __init__(self, path: str, *, within: Folder | None = None) -> None:
        """Open the folder `path`.  `within`: `path` is a name in that folder, and no symbolic link.

        Raises GoneError if it does not exist, ArchiveError if it cannot be opened.
        """
        self.path: str = path if within is None else os.path.join(within.path, path)
        try:
            if within is None:
                self.descriptor = os.open(path or ".", _FOLDER)
            else:
                self.descriptor = os.open(path, _FOLDER | os.O_NOFOLLOW, dir_fd=within.descriptor)
        except FileNotFoundError as error:
            raise GoneError(f"{self.path}: {error.strerror}") from error
        except OSError as error:
            # O_NOFOLLOW with O_DIRECTORY: a link is "not a directory".
            planted = within is not None and error.errno in (errno.ELOOP, errno.ENOTDIR)
            why = (
                "is a symbolic link or a file, not a folder: remove it"
                if planted
                else error.strerror
            )
            raise ArchiveError(f"{self.path}: {why}") from error
        pinned = _pinned.get(self.path)
        if pinned is not None and pinned != self._identity:
            self.close()
            raise ArchiveError(
                f"{self.path}: was exchanged for another folder meanwhile: not worked on"
            )

    @property
    def _identity(self) -> tuple[int, int]:
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino

    def pin(self) -> str:
        """Returns the real path of this folder.  From now on, this process and those that it starts
        open no other folder by that path.

        Raises ArchiveError if the folder has no path any more.
        """
        path = os.readlink(f"/proc/self/fd/{self.descriptor}")
        _pinned[path] = self._identity
        Folder(path).close()  # a removed folder has a path that is none
        return path

    @classmethod
    def of(cls, path: str) -> Folder:
        """The folder that the file `path` is in.  Raises as the constructor does."""
        return cls(os.path.dirname(path))

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        """Open the regular file `name`; returns its descriptor.  Follows no link."""
        return open_file(name, flags, mode, within=self.descriptor)

    def create(self, name: str, mode: int, owner: os.stat_result | None = None) -> int:
        """Make the file `name`, which must not exist; returns its descriptor.

        `owner`: whose owner and group it gets; None: the caller's.  Nobody else can open the file
        before it has them.
        """
        descriptor = self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            made = os.fstat(descriptor)
            if owner is not None and (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, mode)
        except BaseException:
            os.close(descriptor)
            self.remove(name)
            raise
        return descriptor

    def create_own(self, name: str, mode: int) -> int:
        """Make the file `name`, which must not exist, for the owner of this folder."""
        return self.create(name, mode, os.fstat(self.descriptor) if os.geteuid() == 0 else None)

    def open_own(self, name: str, mode: int) -> int:
        """Open a file of the owner of this folder for reading and appending, or make it.

        Of one that is there, neither owner nor mode is changed: it could be somebody else's file
        that was moved or linked here.  Such a file is refused.
        """
        try:
            return self.create_own(name, mode)
        except FileExistsError:
            descriptor = self.open(name, os.O_RDWR | os.O_APPEND)
        status, owner = os.fstat(descriptor), os.fstat(self.descriptor).st_uid
        if status.st_nlink != 1:
            why = "has another name (a hard link): remove it"
        elif os.geteuid() == 0 and status.st_uid != owner:
            why = (
                f"belongs to uid {status.st_uid}, its folder to uid {owner}: "
                "give it to the owner of the folder, or remove it"
            )
        else:
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EPERM, why)

    def replace(self, name: str, data: bytes, mode: int) -> None:
        """Put a new file of `data` in the place of `name`: of a link, not of what it leads to."""
        aside = f".{name}.{os.getpid()}"
        self.remove(aside)
        descriptor = self.create(aside, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            self.rename(aside, name)
        except BaseException:
            self.remove(aside)
            raise

    def exists(self, name: str) -> bool:
        """If there is anything with this name."""
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def has(self, name: str, status: os.stat_result) -> bool:
        """If `name` is a name of the file of `status`."""
        try:
            return os.path.samestat(
                os.stat(name, dir_fd=self.descriptor, follow_symlinks=False), status
            )
        except OSError:
            return False

    def link(self, descriptor: int, name: str) -> None:
        """Give the open file `descriptor` the name `name`, which must be free."""
        # Without a dir_fd Python calls link(2), which does not follow /proc/self/fd.
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=self.descriptor)

    def rename(self, name: str, new: str) -> None:
        """Rename `name` to `new`, over what is there."""
        os.rename(name, new, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        """Remove the name `name`."""
        os.unlink(name, dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove the name `name`, if it is there and can be removed."""
        try:
            self.unlink(name)
        except OSError:
            pass

    def below(self, name: str, mode: int) -> Folder:
        """The folder `name` in this one, made if it is missing.  Raises ArchiveError."""
        try:
            os.mkdir(name, mode, dir_fd=self.descriptor)
        except FileExistsError:
            pass
        except OSError as error:
            raise ArchiveError(
                f"{os.path.join(self.path, name)}: cannot be made: {error.strerror}"
            ) from error
        return Folder(name, within=self)

    def sync(self) -> None:
        """Have the names in it on the disk."""
        os.fsync(self.descriptor)
