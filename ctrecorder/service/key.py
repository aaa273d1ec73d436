"""The key of a sealed recording: from a file that its owner alone can read, or from a systemd
credential.

With a key the hashes of blocks are keyed BLAKE2b: who has not got it can neither make nor change a
block, and cannot check one. Who checks needs the same key, so he could have forged it too: the key
proves something to those who share it, and to nobody else.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b

from ctrecorder.errors import UsageError
from ctrecorder.service.config import load

CREDENTIAL = "credential:"
# 128 bits that nobody can guess; what MAKE makes is twice that.
LEAST_BYTES = 16
MOST_BYTES = 4096
MAKE = "head -c 32 /dev/urandom | base64"


def read_key(where: str | None) -> bytes:
    """The key that the setting `key` names: a path, or credential:NAME; b"" if it is empty.  Raises
    UsageError.

    Any bytes will do; a line's end at their end does not count.  The key is their BLAKE2b, 64
    bytes: no content is too long for it.
    """
    if not where:
        return b""
    if where.startswith(CREDENTIAL):
        content = _read(
            os.path.join(_credentials(where), where.removeprefix(CREDENTIAL)), private=False
        )
    else:
        content = _read(where, private=True)
    content = content.rstrip(b"\r\n")
    if len(content) < LEAST_BYTES:
        raise UsageError(
            f"{where}: a key of {len(content)} bytes can be guessed: make one with `{MAKE}`"
        )
    return blake2b(content).digest()


def find_key(named: str | None, config_path: str | None) -> bytes:
    """The key that an option named, otherwise the one of the configuration; b"" if there is none.

    Raises UsageError.
    """
    configured = load(config_path, "seal")["key"]
    return read_key(named or (str(configured) if configured else None))


def find_key_for_reading(named: str | None, config_path: str | None) -> tuple[bytes, str]:
    """`find_key` for who only reads: b"", and why, if the configured key is not for this process, a
    credential or another user's file.

    Raises UsageError for a key that was named, and for one that is none.
    """
    configured = str(load(config_path, "seal")["key"] or "")
    if named or not configured:
        return read_key(named), ""
    absent = configured.startswith(CREDENTIAL) and not os.environ.get("CREDENTIALS_DIRECTORY")
    if absent or not (configured.startswith(CREDENTIAL) or os.access(configured, os.R_OK)):
        return (
            b"",
            f"the key of the configuration is not at hand ({configured}): seals are not checked; name its file with --key",
        )
    return read_key(configured), ""


def _credentials(where: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise UsageError(
            f"{where}: there are no credentials here: the unit must have LoadCredential={where.removeprefix(CREDENTIAL)}:FILE"
        )
    return folder


def _read(path: str, private: bool) -> bytes:
    """The content of a key file.

    `private`: nobody but its owner, who is root or this user, may read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: is no key: not a file")
        if private and (status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid())):
            raise UsageError(
                f"{path}: is no secret: others may read it, or own it; chown root {path}; chmod 600 {path}"
            )
        content = os.read(descriptor, MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path}: is no key: longer than {MOST_BYTES} bytes")
    return content
