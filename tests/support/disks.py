"""Real disks that really fail: small file systems on loop devices and in memory, made and removed
by a test.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

FS_IOC_SHUTDOWN = 0x8004587D  # linux/fs.h, _IOR('X', 125, __u32)
# EXT4_GOING_FLAGS_DEFAULT: all that was written goes to the disk first; _NOLOGFLUSH: nothing does,
# as if the cable were pulled out
ALL_TO_DISK, NOTHING_TO_DISK = 0, 2


def run(*command: object) -> str:
    """Runs `command`; AssertionError with its stderr if it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


@contextlib.contextmanager
def mounted(folder: Path, *arguments: object) -> Iterator[Path]:
    """`mount ARGUMENTS folder`, until the end of the block."""
    folder.mkdir(exist_ok=True)
    run("mount", *arguments, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@contextlib.contextmanager
def loop(image: Path) -> Iterator[str]:
    """A loop device over the file `image`."""
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


@contextlib.contextmanager
def asked_by_page(device: str) -> Iterator[None]:
    """No request to the loop device is larger than a page, until the end of the block: then it is
    for others to use, as it was.
    """
    limit = Path("/sys/block", Path(device).name, "queue/max_sectors_kb")
    before = limit.read_text()
    limit.write_text(str(mmap.PAGESIZE // 1024))
    try:
        yield
    finally:
        limit.write_text(before)


def tmpfs(folder: Path, kbytes: int, inodes: int = 100) -> contextlib.AbstractContextManager[Path]:
    """A file system in memory of so many KiB and files."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={kbytes}k,nr_inodes={inodes}", "tmpfs")


class Ext4:
    """A small ext4 on a loop device, on `folder`, whose disk can break and be mounted anew.

    `by_page`: the disk is asked for a page at a time.  Where what is under a loop device is full,
    this is a must: the device of Linux 6.18 takes a write that was cut short for a whole one and
    says nothing, to fsync(2) neither (measured); a page is never cut.

    `bare`: while the disk is away, the folder under it takes files, as a mount point does by
    default.  Else it is read-only: how long the disk is away depends on the machine's load, and
    files there would be hidden when it is back.
    """

    def __init__(
        self,
        folder: Path,
        kbytes: int = 8192,
        options: str = "errors=remount-ro",
        journal: bool = True,
        by_page: bool = False,
        bare: bool = False,
    ) -> None:
        self.folder = folder
        self.image = folder.with_suffix(".img")
        self._options, self._by_page = options, by_page
        self._stack = contextlib.ExitStack()
        run("truncate", "-s", f"{kbytes}K", self.image)
        block = ("-b", mmap.PAGESIZE) if by_page else ()
        run(
            "mkfs.ext4",
            "-q",
            "-F",
            "-m",
            0,
            *block,
            "-O",
            "has_journal" if journal else "^has_journal",
            self.image,
        )
        if not bare:
            self._stack.enter_context(mounted(folder, "-t", "tmpfs", "-o", "ro", "tmpfs"))
        self.mount()

    def mount(self) -> None:
        """Mount it by a loop device of its own: a file system that is shut down stays so while it
        is in use.
        """
        self.device = self._stack.enter_context(loop(self.image))
        if self._by_page:
            self._stack.enter_context(asked_by_page(self.device))
        self._stack.enter_context(mounted(self.folder, "-o", self._options, self.device))

    def __enter__(self) -> Ext4:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.image.unlink(missing_ok=True)

    def error(self) -> None:
        """The kernel finds the file system damaged, and makes it read-only."""
        Path("/sys/fs/ext4", Path(self.device).name, "trigger_fs_error").write_text("a test")

    def cut_power(self, first: int = NOTHING_TO_DISK) -> None:
        """Nothing reaches the disk any more, and every call fails with EIO."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", first))
        finally:
            os.close(folder)

    def remove(self) -> None:
        """The disk is gone from its folder."""
        run("umount", "--lazy", self.folder)

    def replace(self) -> None:
        """The disk is checked and mounted again, as an operator or a reboot would do."""
        self.remove()
        self.come_back()

    def come_back(self) -> None:
        """The disk that was removed is checked and mounted again."""
        done = subprocess.run(["e2fsck", "-p", "-f", self.image], capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        self.mount()


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the file system of `folder` with one file, but for `leave` bytes.

    Remove it to make room.
    """
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        os.fsync(file.fileno())
        if leave:
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - leave)
    return filler
