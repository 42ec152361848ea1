"""Releases of one stream on the loopback interface, and receivers that are to install them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from pgmlite.core.tiles import tiles_of
from pgmlite.storage.floors import FloorFiles
from pgmlite.storage.keys import load_public_keys
from tests.support.loopback import Endpoint, raw_sender
from tests.support.signed import STREAM, SignedSample, make_signed, private_key

SIZE = 30_000
CREATED = 1_700_000_000


@lru_cache
def release(number: int, keys: tuple[int, ...] = (0,), stream: str = STREAM) -> SignedSample:
    """Return an object that is signed as a release; each number has bytes of its own."""
    return make_signed(
        SIZE,
        release=number,
        keys=keys,
        stream=stream,
        created=CREATED,
        seed=number,
        name=f"router-{number}.bin",
    )


def pem(folder: Path, *numbers: int) -> Path:
    """Write the public halves of keys of the tests into a folder of theirs."""
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    for number in numbers:
        (keys / f"{number}.pem").write_bytes(
            private_key(number)
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return keys


def cycle(sample: SignedSample) -> list[bytes]:
    """Return all packets of an object, in an order in which each can be used at once."""
    tiles = tiles_of(sample.manifest.geometry)
    nodes = range(tiles.tree.nodes + tiles.count)
    return [sample.spm(), *sample.nodes(), *sample.tile_nodes(nodes), *sample.all_odata()]


@contextmanager
def on_air(place: Endpoint, *samples: SignedSample, pause: float = 0.02) -> Iterator[None]:
    """Send objects one after the other, over and over, while the context lasts."""
    ended = threading.Event()

    def loop() -> None:
        with raw_sender(place) as sock:
            while not ended.is_set():
                for packet in packets:
                    sock.send(packet)
                time.sleep(pause)

    packets = [packet for sample in samples for packet in cycle(sample)]
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def floor_of(state: Path, keys: Path) -> int:
    """Return the highest release that is remembered for keys; -1: none is.

    Raises:
        DiskError: A file can't be used.
    """
    ids = [key.key_id for key in load_public_keys([keys])]
    return max((one.release for one in FloorFiles(state, ids).of(STREAM)), default=-1)
