"""Objects on the air one after another, and receivers that follow them, on loopback."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pgmlite.core.tiles import tiles_of
from tests.support.builders import Sample, make_object
from tests.support.loopback import Ended, Endpoint, Running, endpoint, raw_sender
from tests.support.signed import SignedSample

SIZE = 20_000
SYMBOL = 1_404

PAUSE = 0.01
"""Seconds."""


def version(number: int, *, size: int = SIZE) -> Sample:
    """Return an object; each number has bytes and a name of its own."""
    return make_object(size, symbol_size=SYMBOL, seed=number, name=f"v{number}")


def packets_of(sample: Sample) -> list[bytes]:
    """Return all packets of an object, in an order in which each can be used at once."""
    packets = [sample.spm(), *sample.nodes()]
    if isinstance(sample, SignedSample):
        tiles = tiles_of(sample.manifest.geometry)
        packets += sample.tile_nodes(range(tiles.tree.nodes + tiles.count))
    return [*packets, *sample.all_odata()]


class Air(threading.Thread):
    """Sends objects, those that it is told to, until it is closed."""

    def __init__(self, place: Endpoint, *samples: Sample, most: int | None = None) -> None:
        """
        Args:
            most: Packets of each that are sent; None: all.
        """
        super().__init__(daemon=True)
        self.sent = 0
        """Packets."""

        self._place = place
        self._most = most
        self._bursts: Sequence[list[bytes]] = []
        self.send(*samples)
        self._ended = threading.Event()

    def send(self, *samples: Sample) -> None:
        """Send these from now on."""
        self._bursts = [packets_of(one)[: self._most] for one in samples]

    def run(self) -> None:
        """Send."""
        with raw_sender(self._place) as sock:
            while not self._ended.is_set():
                for burst in self._bursts:
                    for packet in burst:
                        sock.send(packet)
                    self.sent += len(burst)
                time.sleep(PAUSE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self.join()


class Site:
    """An output that is followed, and what its command noted."""

    def __init__(self, folder: Path) -> None:
        self.place = endpoint()
        self.output = folder / "out"
        self.state = folder / "state"
        self.notes = folder / "notes"
        self._hook = folder / "hook"

    def hook(self, script: str = "") -> str:
        """Return a command that notes what it is run for, and goes on with `script`."""
        self._hook.write_text(f'#!/bin/sh\necho "$PGMLITE_NAME" >> {self.notes}\n{script}\n')
        self._hook.chmod(0o755)
        return str(self._hook)

    @property
    def hooked(self) -> list[str]:
        """The names of the objects that it was run for."""
        return self.notes.read_text().split() if self.notes.exists() else []

    def follow(self, *options: object, env: dict[str, str] | None = None) -> Running:
        """Start a receiver that follows."""
        return Running(
            *("recv", "-o", self.output, *self.place.flags, "--follow", "--json", *options),
            env={"PGMLITE_STATE": str(self.state)} | (env or {}),
        )


def completed(ended: Ended) -> list[str]:
    """Return the names of the objects that were put in place."""
    return [one["name"] for one in ended.events if one["event"] == "complete"]


def is_of(sample: Sample) -> Callable[[dict[str, object]], bool]:
    """Return what picks the events of an object."""
    return lambda event: event.get("oid") == f"{sample.manifest.oid:016x}"


class Manager:
    """A service manager's end of a socket.

    Attributes:
        said: What it was told, line by line.
    """

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self.said: list[str] = []
        self._socket = sock

    def hears(self, wanted: str, seconds: float = 60.0) -> str:
        """Wait until something is said that begins so; return it."""
        end = time.monotonic() + seconds
        place = 0
        while True:
            for line in self.said[place:]:
                if line.startswith(wanted):
                    return line
            place = len(self.said)
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            self.said += self._socket.recv(4_096).decode().splitlines()


@contextmanager
def service_manager(folder: Path | None = None) -> Iterator[Manager]:
    """Listen as a service manager does, at a path, or at a name that is none."""
    address = f"@pgmlite-test-{os.urandom(8).hex()}" if folder is None else str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        yield Manager(sock, address)
