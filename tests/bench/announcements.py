"""A receiver with a key under forged announcements, on the loopback interface.

    python -m tests.bench.announcements [RATE [SECONDS]]

A stranger at the sender's own address sends RATE announcements a second, 1000 by default, which say
to be signed by the key that the receiver has. They are other manifests, or the true one with other
signatures, each sent once or twice, or an old release that is truly signed. After SECONDS, 10 by
default, the sender begins to send one announcement a second. Prints the receiver's CPU time as a
share of a core, and how many announcements of the sender it took until one was adopted. If one
flood takes more than 20%, or has more than two sent, or anything else is adopted, the exit code
is 1.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from pgmlite.storage.floors import FloorFiles
from pgmlite.wire.control import Signature
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Release, manifest_oid
from tests.support.builders import packet
from tests.support.loopback import Running, endpoint, raw_sender
from tests.support.releases import pem, release
from tests.support.signed import STREAM, key_id, private_key, signed_spm

MOST_CPU = 0.2
MOST_ANNOUNCEMENTS = 2
TICK = 0.01
"""Seconds from burst to burst."""

TRUE = release(6)
OLD = release(4)


def announcement(raw: bytes, signature: Signature) -> bytes:
    """Return an SPM; its oid is that of the manifest."""
    fields = TRUE.fields | {"oid": manifest_oid(raw)}
    return packet(PacketType.SPM, signed_spm(raw, [signature]).build(), **fields)


def other_manifests(rng: Random) -> Iterator[bytes]:
    """Make manifests up, with the true signature."""
    while True:
        raw = replace(TRUE.manifest, name=f"{rng.getrandbits(64):x}").raw
        yield announcement(raw, TRUE.signatures[0])


def other_signatures(rng: Random) -> Iterator[bytes]:
    """Make signatures up, of the true manifest."""
    (own,) = TRUE.signatures
    while True:
        yield announcement(TRUE.manifest.raw, Signature(own.key_id, rng.randbytes(64)))


def old_release(_: Random) -> Iterator[bytes]:
    """Repeat what was signed once."""
    return itertools.repeat(OLD.spm())


def twice(made: Callable[[Random], Iterator[bytes]]) -> Callable[[Random], Iterator[bytes]]:
    """Send each twice."""
    return lambda rng: (one for one in made(rng) for _ in range(2))


FLOODS: dict[str, Callable[[Random], Iterator[bytes]]] = {
    "nothing": lambda _: iter(()),
    "other manifests": other_manifests,
    "other manifests, each twice": twice(other_manifests),
    "other signatures": other_signatures,
    "other signatures, each twice": twice(other_signatures),
    "an old release": old_release,
}


def cpu_time(pid: int) -> float:
    """Return the seconds that a process has worked."""
    # Not by its clock ticks: it wakes up with them, and would be found at work too often.
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def flood(folder: Path, name: str, rate: int, seconds: float) -> bool:
    """Try one flood; return whether all was well."""
    forged, place = FLOODS[name](Random(1)), endpoint()
    state = folder / "state"
    FloorFiles(state, [key_id(private_key())]).install(
        Release(STREAM, 5), 5, [TRUE.signatures[0].key_id]
    )
    flags = ("recv", "-o", folder / "out", *place.flags, "--json", "--key", pem(folder, 0))
    with (
        Running(*flags, "--timeout", 600, env={"PGMLITE_STATE": str(state)}) as receiver,
        raw_sender(place) as sock,
    ):
        receiver.event("start")
        time.sleep(0.5)
        began, before, sent, announced = time.monotonic(), cpu_time(receiver.pid), 0, 0
        share = 0.0
        while True:
            now = time.monotonic() - began
            if now < seconds:
                share = (cpu_time(receiver.pid) - before) / max(now, TICK)
            elif now >= seconds + announced:
                if announced:
                    time.sleep(TICK)
                if receiver.has_said("manifest"):
                    break
                sock.send(TRUE.spm())
                announced += 1
            for one in itertools.islice(forged, max(0, int(now * rate) - sent)):
                sock.send(one)
            sent = max(sent, int(now * rate))
            time.sleep(TICK)
        event = receiver.event("manifest")
    is_good = (
        share <= MOST_CPU
        and announced <= MOST_ANNOUNCEMENTS
        and event["oid"] == f"{TRUE.manifest.oid:016x}"
    )
    print(
        f"{name}: {share:.1%} of a core, adopted {event['release']} at announcement {announced}"
        f"{'' if is_good else '  TOO MUCH'}",
        flush=True,
    )
    return is_good


def main(rate: int = 1_000, seconds: int = 10) -> int:
    """Try all floods; return 1 if one does too much."""
    results = []
    for name in FLOODS:
        with tempfile.TemporaryDirectory() as folder:
            results.append(flood(Path(folder), name, rate, seconds))
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
