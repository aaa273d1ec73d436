"""Where the key of a recording is: a folder for each recording in the StateDirectory of the units.

A recording is sealed if there is a key in its folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from ctrecorder.errors import CtrecorderError, UsageError
from ctrecorder.sealing.state import KEY, NoKeyError, SealError, SealState
from ctrecorder.seals.ledger import key_of
from ctrecorder.service.config import DEFAULT_PATH, read

DEFAULT_ROOT = "/var/lib/ctrecorder"


def state_path(
    named: str | None, configured: str | None, config: str | None, netns: str | None = None
) -> str:
    """The folder for the key of a recording.

    `named`: by an option.  `configured`: by the configuration `config`.  Otherwise it is a folder
    in DEFAULT_ROOT with the name of the network namespace or of the configuration file.
    """
    if named:
        return os.path.abspath(named)
    if configured:
        return configured
    name = os.path.basename(netns) if netns else _stem(config or DEFAULT_PATH)
    return os.path.join(DEFAULT_ROOT, name)


def configured_state(config: str | None) -> str | None:
    """The folder that the configuration names; None: keys are found by their id.

    Raises UsageError.
    """
    choice = read(config).choose("seal", needed=["state"])
    choice.raise_refusals()
    return choice.texts["state"] or None


def folder_for_use(named: str | None, config: str | None) -> tuple[str | None, str]:
    """The folder of the key for a command beside the recorder: that of an option (`named`), or that
    of the configuration; None: keys are found by their id.  And what is wrong with the setting.

    Raises UsageError if there is no such configuration.
    """
    if named:
        return named, ""
    choice = read(config).choose("seal", needed=["state"])
    return choice.texts.get("state") or None, "; ".join(choice.refusals)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def live_state(
    named: str | None, seal: Mapping[str, object], config: str | None, netns: str | None
) -> str | None:
    """The folder with the key for a recorder that starts; None: it does not seal.

    `seal`: the settings of [seal] in `config`.

    Raises UsageError, SealError: a folder that is named must have a key.
    """
    configured = str(seal["state"]) if seal["state"] else None
    path = state_path(named, configured, config, netns)
    is_named = bool(named or configured)
    try:
        found = has_key(path)
    except SealError:  # somebody else's folder; a recording that is sealed does not go on without
        if is_named:
            raise
        found = False
    if not found:
        if is_named:
            raise NoKeyError(path)
        return None
    if seal["key"]:
        raise UsageError(
            f"[seal] key names a static key, and {path} has one that is hashed forward: "
            "a recording has one of the two"
        )
    return path


def has_key(path: str) -> bool:
    """Whether there is a key in the folder `path`.  Raises SealError if that cannot be seen."""
    try:
        os.stat(os.path.join(path, KEY), follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SealError(f"{path}: {error.strerror}") from error
    return True


def find_state(key_id: str, named: str | None) -> str:
    """The folder with the key `key_id`: `named`, or one in DEFAULT_ROOT.

    Raises SealError; NoKeyError if no folder has it.
    """
    if named:
        if _id_of(named) != key_id:
            raise NoKeyError(named, f"has not the key {key_id}")
        return named
    try:
        with os.scandir(DEFAULT_ROOT) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise SealError(f"{DEFAULT_ROOT}: {error.strerror}") from error
    for name in names:
        with contextlib.suppress(CtrecorderError):
            if _id_of(path := os.path.join(DEFAULT_ROOT, name)) == key_id:
                return path
    raise NoKeyError(DEFAULT_ROOT, f"no folder has the key {key_id} (see --seal-state)")


def any_key() -> bool:
    """Whether any recording of this machine is sealed, as far as this user can see."""
    try:
        with os.scandir(DEFAULT_ROOT) as entries:
            return any(has_key(entry.path) for entry in entries)
    except (OSError, SealError):
        return False


def may_have_key(key_id: str) -> bool:
    """Whether this machine has the key, as far as this user can see."""
    try:
        find_state(key_id, None)
    except NoKeyError:
        return False
    except SealError:
        pass
    return True


def _id_of(path: str) -> str:
    with contextlib.closing(SealState(path)) as state:
        return state.read().id


def ledgers(folder: str) -> dict[str, str]:
    """The ledgers in a folder of segments: the id of each key, and the path.  Raises OSError."""
    names = os.listdir(folder or ".")
    return {key: os.path.join(folder or ".", name) for name in names if (key := key_of(name))}
