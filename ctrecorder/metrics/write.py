"""The files of metrics, one for each writer, where the collector textfile of node_exporter reads
them.

They are in /run: no flash is worn.  A file is written aside and renamed, so a scrape never reads a
part of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ctrecorder.errors import ArchiveError, GoneError, why
from ctrecorder.folder import Folder
from ctrecorder.metrics.text import Sample, text_of
from ctrecorder.service import config

# No recorded connections are in it: every user may read it.
_MODE = 0o644


def folder_of(path: str | None = None) -> str:
    """The setting `directory` of [metrics]; "" for none.

    `path`: of the configuration; None: the default file.  A file that is wrong is the business of
    who uses the other sections.
    """
    return str(config.read(path).choose("metrics").values["directory"] or "")


def write(writer: str, samples: Iterable[Sample], folder: str) -> str:
    """Replace the file of `writer`; returns what failed, "" for nothing.

    `writer`: such as "ctexpire-/var/log/ctrecorder"; another name is another file.  `folder`: as
    `folder_of` has it; nothing is written if it is "" or not there, as where no recorder runs.
    """
    name = f"{_file_name(writer)}.prom"
    aside = f".{name}.{os.getpid()}"
    try:
        if not folder:
            return ""
        text = text_of(samples)
        with Folder(folder) as opened:
            opened.remove(aside)
            descriptor = opened.create(aside, _MODE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            try:
                opened.rename(aside, name)
            except OSError:
                opened.remove(aside)
                raise
    except GoneError:
        return ""
    except ArchiveError as error:
        return f"no metrics: {error}"
    except OSError as error:
        return f"no metrics: {folder}/{name}: {why(error)}"
    return ""


def remove(writer: str, folder: str) -> None:
    """Remove the file of `writer`, if there is one."""
    try:
        with Folder(folder) as opened:
            opened.remove(f"{_file_name(writer)}.prom")
    except (ArchiveError, OSError):
        pass


def _file_name(writer: str) -> str:
    """`writer` as a name of a file: a "/" becomes "-", and what is neither a letter, a digit nor
    one of "_.", becomes its code, so that two writers never have one file.
    """
    command, found, path = writer.partition("-")
    return command + found + "".join(map(_in_name, path.strip("/")))


def _in_name(character: str) -> str:
    if character.isascii() and (character.isalnum() or character in "_."):
        return character
    return "-" if character == "/" else "".join(f"%{byte:02x}" for byte in os.fsencode(character))
