"""Outputs with a command of ``--on-complete`` that notes its attempts, and what else hooks need."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgmlite.storage.record import Publication, PublishedRecord, identity_of, parse
from tests.support.builders import make_object
from tests.support.loopback import Ended, Endpoint, Inside


def is_alive(pid: int | str) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not, nor does none."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
    return False


@dataclass
class Site:
    """An output, and a command that notes its attempts beside it."""

    folder: Path
    inside: Inside

    def __post_init__(self) -> None:
        self.output = self.folder / "out"
        self.record = self.folder / "out.pgmlite"

    def hook(self, script: str = "") -> str:
        """Return a command; `script` goes on in the folder."""
        text = f'cd {self.folder}; echo "$PGMLITE_ATTEMPT" >> calls; {script}'
        return shlex.join(["sh", "-c", text, "sh"])

    @property
    def attempts(self) -> list[int]:
        """How the command was called, time after time."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in (self.folder / "calls").read_text().split()]
        return []

    def has(self, name: str) -> bool:
        """Whether a script left something."""
        return (self.folder / name).exists()

    def publication(self) -> Publication:
        """Return what the record says."""
        return parse(self.record.read_bytes())

    def publish(self, name: str = "old", attempts: int = 0) -> Publication:
        """Leave what an earlier `recv` would."""
        sample = make_object(1_000, name=name)
        self.output.write_bytes(sample.data)
        publication = Publication.of(sample.manifest, identity_of(self.output.stat()))
        for _ in range(attempts):
            publication = publication.start()
        record = PublishedRecord(self.output, pytest.fail)
        record.write(publication)
        record.close()
        return publication

    def receive(self, place: Endpoint, script: str = "", *options: object) -> Ended:
        """Run `recv` to its end, with the command that goes on with `script`."""
        hook = ("--on-complete", self.hook(script))
        return self.inside.receive(self.output, place, *hook, *options)

    def without_network(self, script: str = "") -> Ended:
        """Start `recv` where its interface does not exist."""
        flags = ("-g", "239.1.2.3", "-i", "nosuch0", "--json")
        ended = self.inside("recv", "-o", self.output, *flags, "--on-complete", self.hook(script))
        assert ended.code == 3, ended.stderr
        return ended


def last_hook(ended: Ended) -> dict[str, Any]:
    """Return the last event of the hook."""
    return [event for event in ended.events if event["event"] == "hook"][-1]


def phases(ended: Ended) -> list[tuple[str, int]]:
    """Return what the events say of the command."""
    return [(e["phase"], e["attempt"]) for e in ended.events if e["event"] == "hook"]
