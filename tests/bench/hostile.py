"""One transfer while a stranger sends hostile datagrams to its group, on this machine alone.

    python -m tests.bench.hostile [COUNT]

prints what the receiver refused, by reason, and its memory; a million datagrams by default.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random

from tests.support.loopback import (
    BLOCK,
    HEADER,
    ODATA,
    SPM,
    TREE,
    Ended,
    Endpoint,
    endpoint,
    environment,
    make_file,
    raw_receiver,
    raw_sender,
    receiving,
    sending,
)

RATE = 10_000
"""Hostile datagrams a second: a share of what a default receive buffer takes beside the file."""

LARGEST = 65_507


class Stranger:
    """Makes datagrams out of packets that it overheard, and out of nothing."""

    def __init__(self, overheard: list[bytes], seed: int) -> None:
        self._rng = Random(seed)
        self._overheard = overheard
        self._odata = next(packet for packet in overheard if packet[3] == ODATA)
        self._spm = next(packet for packet in overheard if packet[3] == SPM)
        self._noise = self._rng.randbytes(2 * LARGEST)
        kinds: dict[Callable[[], bytes], int] = {
            self.noise: 20,
            self.magic_noise: 5,
            self.truncated: 20,
            self.flipped: 20,
            self.empty: 8,
            self.large: 2,
            self.foreign: 15,
            self.announcement: 9,
            self.poison: 1,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def __iter__(self) -> Iterator[bytes]:
        while True:
            for kind in self._rng.choices(self._kinds, self._weights, k=1_000):
                yield kind()

    def _junk(self, length: int) -> bytes:
        start = self._rng.randrange(LARGEST)
        return self._noise[start : start + length]

    def noise(self) -> bytes:
        """Bytes without any sense."""
        return self._junk(self._rng.randrange(1, 1_500))

    def magic_noise(self) -> bytes:
        """The right beginning, then nonsense."""
        cut = self._rng.randrange(2, 9)
        return self._odata[:cut] + self._junk(self._rng.randrange(1, 1_500))

    def truncated(self) -> bytes:
        """The beginning of a real packet."""
        packet = self._rng.choice(self._overheard)
        return packet[: self._rng.randrange(1, len(packet))]

    def flipped(self) -> bytes:
        """A real packet with some bits wrong, most of them in the header."""
        packet = bytearray(self._rng.choice(self._overheard))
        for _ in range(self._rng.randrange(1, 5)):
            reach = self._rng.choice((HEADER.size, len(packet)))
            packet[self._rng.randrange(reach)] ^= 1 << self._rng.randrange(8)
        return bytes(packet)

    def empty(self) -> bytes:
        """Nothing."""
        return b""

    def large(self) -> bytes:
        """As much as UDP carries, with or without a real header."""
        head = self._rng.choice((b"", self._odata[: HEADER.size], self._spm[: HEADER.size]))
        return head + self._junk(self._rng.randrange(9_000, LARGEST - HEADER.size))

    def foreign(self) -> bytes:
        """A valid packet of another object, size, session or symbol size."""
        rng = self._rng
        symbol_size = 4 * rng.randrange(16, 360)
        symbols = rng.randrange(1, 10_000_000)
        fields = list(HEADER.unpack_from(self._odata))
        fields[2], fields[3] = rng.choice((ODATA, TREE)), rng.randrange(256)
        fields[5], fields[6] = symbol_size, rng.getrandbits(64)
        fields[7] = rng.choice((fields[7], rng.getrandbits(64)))
        fields[8], fields[9] = symbols * symbol_size, rng.randrange(symbols) * symbol_size
        fields[10] = rng.getrandbits(32)
        return HEADER.pack(*fields) + self._junk(symbol_size)

    def announcement(self) -> bytes:
        """An SPM whose manifest is junk, or is not the one that its oid names."""
        body = bytearray(self._spm[HEADER.size :])
        match self._rng.randrange(3):
            case 0:
                body[34:] = self._junk(self._rng.randrange(1_200))
            case 1:
                body[32:34] = self._rng.randbytes(2)
            case _:
                body[self._rng.randrange(34, len(body))] ^= 0xFF
        fields = list(HEADER.unpack_from(self._spm))
        fields[7] = self._rng.choice((fields[7], self._rng.getrandbits(64)))
        return HEADER.pack(*fields) + body

    def poison(self) -> bytes:
        """A packet of the object in every respect but its content."""
        fields = list(HEADER.unpack_from(self._odata))
        symbol_size, size = fields[5], fields[8]
        fields[9] = self._rng.randrange(size // symbol_size) * symbol_size
        return HEADER.pack(*fields) + self._junk(symbol_size)


def overhear(place: Endpoint) -> list[bytes]:
    """Join the group and keep some packets of every kind."""
    kept: list[bytes] = []
    with raw_receiver(place) as tap:
        while len(kept) < 200 or {packet[3] for packet in kept} != {SPM, ODATA, TREE}:
            kept.append(tap.recv(65_536))
    return kept


def flood(place: Endpoint, count: int, seconds: float) -> int:
    """Send `count` hostile datagrams in `seconds`; return how many went out in twice that."""
    stranger = Stranger(overhear(place), seed=count)
    print("ready", flush=True)
    sent = 0
    start = time.monotonic()
    with raw_sender(place) as sock:
        for datagram in islice(stranger, count):
            sock.send(datagram)
            sent += 1
            if sent % 20:
                continue
            passed = time.monotonic() - start
            if passed > 2 * seconds:
                break
            time.sleep(max(0, sent / count * seconds - passed))
    return sent


@dataclass
class Attack:
    """What became of a transfer under attack."""

    sent: int
    ended: Ended
    is_equal: bool
    peak_kib: int
    seconds: float
    memory_kib: list[int] = field(default_factory=list)
    """Resident memory twice a second during the flood."""

    @property
    def growth_kib(self) -> int:
        """How much more memory the last quarter of the flood took than the second one."""
        quarter = len(self.memory_kib) // 4
        return max(self.memory_kib[-quarter:]) - max(self.memory_kib[quarter : 2 * quarter])


def attack(folder: Path, count: int, seconds: float) -> Attack:
    """Transfer a file while `count` hostile datagrams come in about `seconds`."""
    place = endpoint()
    source, copy = make_file(folder / "source", 4 * BLOCK), folder / "copy"
    started = time.monotonic()
    with sending(source, place, rate="30M") as sender:
        sender.event("start")
        command = [sys.executable, __file__, "--flood", place.group, str(place.port)]
        with subprocess.Popen(
            [*command, str(count), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as stranger:
            try:
                assert stranger.stdout
                assert stranger.stdout.readline() == "ready\n"
                # It joins a group that is under attack already.
                with receiving(copy, place, "--timeout", 3 * seconds + 60) as receiver:
                    memory = []
                    while stranger.poll() is None and receiver.is_running:
                        memory.append(receiver.memory_kib())
                        time.sleep(0.5)
                    # Until the last packet is dealt with there is nothing to compare.
                    sent = int(stranger.stdout.read())
                    while receiver.is_running:
                        receiver.memory_kib()
                        time.sleep(0.1)
                    ended = receiver.end()
            finally:
                stranger.kill()
    equal = copy.exists() and copy.read_bytes() == source.read_bytes()
    passed = time.monotonic() - started
    return Attack(sent, ended, equal, receiver.peak_kib, passed, memory)


def main(count: int) -> None:
    """Attack, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        result = attack(Path(folder), count, count / RATE)
    last = result.ended.last
    memory = result.memory_kib
    print(f"exit code {result.ended.code}, copy equal: {result.is_equal}")
    print(f"{result.sent} hostile datagrams in {result.seconds:.0f} s with all that surrounds them")
    print(f"{last['packets']} packets taken, {last['kernel_drops']} dropped by the system,")
    print(f"{last['damaged']} blocks fetched again, {last['cycles']:.1f} cycles; refused:")
    for reason, number in last["refused"].items():
        print(f"  {reason:12} {number:8}")
    print(
        f"resident memory {memory[1] / 1024:.0f} MiB after half a second, "
        f"{memory[-1] / 1024:.0f} MiB at the end, highest ever {result.peak_kib / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flood"]:
        group, port, number, time_limit = sys.argv[2:]
        print(flood(Endpoint(group, int(port)), int(number), float(time_limit)))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
