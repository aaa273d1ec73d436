"""The key of a sealed recording: from a file that only its owner can read, or from a systemd
credential.

The hashes of sealed blocks are keyed BLAKE2b: without the key nobody can make, change or check a
block.  A check needs the same key that forging needs, so it proves something only to those who
share the key.
"""

from __future__ import annotations

import os
from hashlib import blake2b

from ctrecorder.errors import UsageError
from ctrecorder.folder import NotAFileError, open_file
from ctrecorder.service.config import read

CREDENTIAL = "credential:"
# 128 bits that nobody can guess; GENERATE makes twice as many.
MIN_BYTES = 16
MAX_BYTES = 4096
GENERATE = "head -c 32 /dev/urandom | base64"


def read_key(where: str | None) -> bytes:
    """The key at `where`, a path or credential:NAME; b"" if `where` is empty.

    The file can contain any bytes; a newline at the end is ignored.  The key is their BLAKE2b hash,
    64 bytes.  Raises UsageError.
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
    if len(content) < MIN_BYTES:
        raise UsageError(
            f"{where}: a key of {len(content)} bytes is too short: make one with `{GENERATE}`"
        )
    return blake2b(content).digest()


def read_secret(path: str) -> bytes:
    """The content of a file that only its owner, who is root or this user, can read.

    Raises UsageError.
    """
    return _read(path, private=True)


def find_key(named: str | None, config_path: str | None) -> bytes:
    """The key of an option (`named`), otherwise that of the configuration; b"" if there is none.

    Raises UsageError.
    """
    if named:
        return read_key(named)
    choice = read(config_path).choose("seal", needed=["key"])
    choice.raise_refusals()
    return read_key(choice.texts["key"])


def find_key_for_reading(named: str | None, config_path: str | None) -> tuple[bytes, str]:
    """The key as `find_key`, for commands that only read, and "".

    If this process cannot read the configured key (a credential, or another user's file): b"" and
    the reason.  Raises UsageError if the key that was named cannot be read, and for a bad key.
    """
    if named:
        return read_key(named), ""
    choice = read(config_path).choose("seal", needed=["key"])
    if choice.refusals:
        why = f"{choice.refusals[0]}: seals are not checked; give the file of the key with --key"
        return b"", why
    configured = choice.texts["key"]
    if not configured:
        return b"", ""
    absent = configured.startswith(CREDENTIAL) and not os.environ.get("CREDENTIALS_DIRECTORY")
    if absent or not (configured.startswith(CREDENTIAL) or os.access(configured, os.R_OK)):
        return (
            b"",
            f"the configured key cannot be read here ({configured}): seals are not checked; "
            "give its file with --key",
        )
    return read_key(configured), ""


def _credentials(where: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise UsageError(
            f"{where}: this process has no credentials: the unit needs "
            f"LoadCredential={where.removeprefix(CREDENTIAL)}:FILE"
        )
    return folder


def _read(path: str, private: bool) -> bytes:
    """The content of a key file.

    `private`: only its owner, who is root or this user, may be able to read it.
    """
    try:
        descriptor = open_file(path)
    except NotAFileError as error:
        raise UsageError(f"{path}: is not a key: not a regular file") from error
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if private and (status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid())):
            raise UsageError(
                f"{path}: is not secret: other users can read it, or own it; "
                f"chown root {path}; chmod 600 {path}"
            )
        content = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path}: is not a key: longer than {MAX_BYTES} bytes")
    return content
