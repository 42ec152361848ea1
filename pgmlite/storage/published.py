"""What a follower has put in place, in the state folder (spec: FOL-3).

A file of JSON for each output, written before an object gets its name there: whatever ends the
machine, what is in place is known to have been. It guards nothing, it keeps a follower from going
back and forth between objects: one that can't be used is begun anew, and one that can't be written
is a warning.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from pgmlite.storage.record import OID_DIGITS
from pgmlite.storage.system import (
    close_quietly,
    make_anew,
    make_folder,
    parse_fields,
    reason,
    sync_all,
    sync_folder,
    write_all,
)
from pgmlite.wire.digests import digest

MAX_FILE = 64 << 10
"""Bytes; ours have half of it, however long the path."""

FIELDS = {"output": str, "oids": list}


def file_name(output: str) -> str:
    """Return the name of the file for an output, given its whole path."""
    return f"follow-{digest(os.fsencode(output))[:8].hex()}.json"


class Published:
    """The objects that were put in place at one output.

    Attributes:
        oids: Theirs, the latest last.
    """

    def __init__(
        self, folder: Path | None, output: str, most: int, warn: Callable[[str], None]
    ) -> None:
        """
        Args:
            folder: Made when something is noted; None: there is none, it is kept in memory alone.
            output: Its whole path.
            most: Objects that are remembered; the oldest makes room.
            warn: Told why the file is not used, or can't be written.
        """
        self.oids: list[int] = []
        self._output = output
        self._most = most
        self._warn = warn
        self._path = None if folder is None else folder / file_name(output)
        if self._path is None:
            return
        try:
            self.oids = _parse(_read(self._path), output)[-most:]
        except FileNotFoundError:
            pass
        except OSError as error:
            warn(f"state {self._path}: {reason(error)}; begun anew")
        except ValueError as error:
            warn(f"state {self._path}: is damaged: {error}; begun anew")

    def note(self, oid: int) -> None:
        """Note for good that an object is about to be in place."""
        if self.oids[-1:] == [oid]:
            return
        if oid in self.oids:
            self.oids.remove(oid)
        self.oids.append(oid)
        del self.oids[: -self._most]
        if self._path is None:
            return
        try:
            self._write(self._path)
        except OSError as error:
            self._warn(
                f"state {self._path}: {reason(error)}; after a restart it is not known that "
                f"object {oid:0{OID_DIGITS}x} was in place"
            )

    def _write(self, path: Path) -> None:
        """
        Raises:
            OSError: As the system says; the file is the old one or the new one.
        """
        make_folder(path.parent)
        fresh = path.with_name(f"{path.name}~")
        oids = [f"{oid:0{OID_DIGITS}x}" for oid in self.oids]
        fd = make_anew(fresh)
        try:
            write_all(fd, json.dumps({"output": self._output, "oids": oids}, indent=1).encode())
            sync_all(fd)
        finally:
            close_quietly(fd)
        fresh.rename(path)
        sync_folder(path.parent)


def _read(path: Path) -> bytes:
    """
    Raises:
        ValueError: It is no file of ours.
        OSError: It can't be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a regular file")
        return os.read(fd, MAX_FILE + 1)
    finally:
        close_quietly(fd)


def _parse(raw: bytes, output: str) -> list[int]:
    """
    Raises:
        ValueError: It is no file of ours, or of another output.
    """
    values = parse_fields(raw, MAX_FILE, FIELDS)
    if values["output"] != output:
        raise ValueError("it is of another output")
    oids = values["oids"]
    if len(set(map(str, oids))) != len(oids):
        raise ValueError("an object is there twice")
    for oid in oids:
        if not isinstance(oid, str) or not re.fullmatch(f"[0-9a-f]{{{OID_DIGITS}}}", oid):
            raise ValueError(f"its oids are not {OID_DIGITS} hexadecimal digits")
    return [int(oid, 16) for oid in oids]
