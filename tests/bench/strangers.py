"""What a receiver spends on one packet that a stranger made up, beside what a true one costs.

    python -m tests.bench.strangers [TURNS]

A receiver of an object of 1 GiB is in the middle of it, and packets come one by one: true ODATA,
and of each type and shape what a stranger can send. The figure is the processor time of one, from
its bytes to the machine's answer, divided by that of a true ODATA packet between them: the median
of TURNS turns, 15 by default. Beside it stands what the looks of NAK repair take, which packets
lead to and whose number is bounded (NAK-3): a millisecond passes with each pair. Objects of up to
1 TiB are announced to a receiver that has one, and to others that wait for one, which adopt it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from statistics import median

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import MS, SECOND, Decode, Held, Prepare, Verify
from pgmlite.core.receive.receiver import Receiver
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import MAX_REQUESTED, Counts, build_counts, build_request
from tests.support.builders import Sample, batches, make_object, packet, spm_body

SYMBOL = 1_404
BLOCK = 1_024
SENDER, STRANGER = Endpoint("S", 5_000), Endpoint("X", 1)
PACKETS = 64
"""Packets of a shape in one turn; each is another one."""


def huge(size: int, repairs: int, seed: int = 0) -> Sample:
    """Return an object that nobody has."""
    manifest = Manifest(
        SYMBOL, BLOCK, size, seed.to_bytes(32, "big"), "huge", repair_symbols=repairs
    )
    return Sample(b"", manifest, make_object(64).tree)


@dataclass
class Bench:
    """A receiver in the middle of an object, and the time that it takes."""

    sample: Sample
    machine: Receiver = field(init=False)
    now: int = SECOND
    next: int = 0
    sqn: int = 0

    def __post_init__(self) -> None:
        self.machine = Receiver(ReceiverConfig(), rng=Random(0))
        self.give(self.spm())
        for _ in range(3_000):
            self.give(self.odata())
            self.tick()

    def spm(self, **fields: int) -> bytes:
        """Return the sender's SPM."""
        body = spm_body(
            self.sample.manifest.raw,
            order=Order.BLOCKS,
            place=self.next,
            repair_port=9,
            grtt=100,
            repair_share=50,
            backoff_factor=3,
            rate=50_000_000,
        )
        self.sqn += 1
        return packet(PacketType.SPM, body, **(self.sample.fields | {"sqn": self.sqn}))

    def odata(self) -> bytes:
        """Return the next packet of the carousel: one of a hundred is lost before it."""
        self.next += 2 if self.next % 100 == 50 else 1
        self.sqn += 1
        return self.symbol(self.next, sqn=self.sqn)

    def symbol(self, number: int, **fields: int) -> bytes:
        """Return a source symbol that is made of nothing."""
        esi = number % BLOCK
        values = self.sample.fields | {"offset": number * SYMBOL, "esi": esi} | fields
        return packet(values.pop("type", PacketType.ODATA), bytes(SYMBOL), **values)

    def give(self, octets: bytes, source: Endpoint = SENDER) -> float:
        """Let a packet come; return the seconds that it took."""
        began = time.process_time()
        for batch in batches([octets], source=source, refused=self.machine.counters.refused):
            self._answer(self.machine.receive(self.now, batch))
        return time.process_time() - began

    def tick(self) -> float:
        """Let a millisecond pass; return the seconds that what was due took."""
        self.now += MS
        began = time.process_time()
        deadline = self.machine.deadline
        while deadline is not None and deadline <= self.now:
            self._answer(self.machine.tick(self.now))
            deadline = self.machine.deadline
        return time.process_time() - began

    def _answer(self, actions: list) -> None:
        while actions:
            action = actions.pop()
            match action:
                case Prepare():
                    actions += self.machine.resume(action.oid, Held())
                case Verify():
                    actions += self.machine.verified(action.oid, action.block, ok=True)
                case Decode():
                    actions += self.machine.decoded(action.oid, action.block, ok=True)


Shape = Callable[[Bench, int], tuple[bytes, Endpoint]]


def tib(repairs: int, number: int, **fields: int) -> bytes:
    """Return an SPM of an object of 1 TiB."""
    sample = huge(1 << 40, repairs, number)
    return packet(PacketType.SPM, spm_body(sample.manifest.raw, **fields), **sample.fields)


def ncf(bench: Bench, request: bytes, number: int, tsi: int) -> bytes:
    """Return an NCF."""
    fields = bench.sample.fields | {"tsi": tsi, "sqn": number, "offset": 100}
    return packet(PacketType.NCF, request, **fields)


def names(bench: Bench, number: int, form: str) -> bytes:
    """Return a request of the object as large as there are, in one form."""
    geometry = bench.sample.manifest.geometry
    first = 500 * (number % 1_000)
    if geometry.is_coded:
        blocks = np.arange(147, dtype=np.int64) * 3
        ones = np.full(147, 1 + number % 400, np.int64)
        return build_counts(Counts(blocks, ones, ones), 1_184)[0]
    if form == "one run":
        return build_request(np.arange(first, first + MAX_REQUESTED), 1_184)[0]
    step = 2 if form == "bitmap" else 400
    return build_request(np.arange(first, first + 60_000, step, np.int64), 1_184)[0]


def own(bench: Bench, kind: PacketType, body: bytes, **fields: int) -> bytes:
    """Return a packet of the object that is received, of the sender's session."""
    return packet(kind, body, **(bench.sample.fields | fields))


def position(
    bench: Bench, tsi: int, place: int, sectors: int, order: Order, timestamp: int
) -> bytes:
    """Return an SPM of the object that is received."""
    body = spm_body(
        bench.sample.manifest.raw,
        order=order,
        place=place,
        sectors=sectors,
        repair_port=9,
        grtt=0,
        backoff_factor=1,
        repair_share=50,
        timestamp=timestamp,
    )
    return own(bench, PacketType.SPM, body, tsi=tsi)


def shapes(bench: Bench) -> Iterator[tuple[str, Shape]]:
    """Yield what strangers send, by name."""
    manifest = bench.sample.manifest
    symbols, geometry = manifest.symbols, manifest.geometry
    other = huge(1 << 40, 0)
    yield "noise", lambda b, n: (bytes([n % 256]) * 1_400, STRANGER)
    yield "header only", lambda b, n: (b.symbol(n)[:48], STRANGER)
    for kind in (PacketType.ODATA, PacketType.RDATA, PacketType.TREE):
        fields = other.fields | {"type": kind, "offset": 0, "esi": 0}
        yield f"{kind.name}, another object", lambda b, n, f=fields: (b.symbol(0, **f), STRANGER)
    yield "ODATA, a symbol that is there", lambda b, n: (b.symbol(n + 10), STRANGER)
    yield (
        "RDATA, a symbol that is there",
        lambda b, n: (
            b.symbol(n + 10, type=PacketType.RDATA, tsi=n),
            STRANGER,
        ),
    )
    yield (
        "ODATA, far away, new sessions",
        lambda b, n: (
            b.symbol(symbols - 2 - 2_000 * (n % 300), tsi=n),
            STRANGER,
        ),
    )
    yield (
        "TREE, forged",
        lambda b, n: (
            own(b, PacketType.TREE, bytes(32 * 43), offset=1 + n % 3, tsi=n),
            STRANGER,
        ),
    )
    yield (
        "TREE of tiles, forged",
        lambda b, n: (
            own(b, PacketType.TREE, bytes(32 * 43), offset=n, esi=1, tsi=n),
            STRANGER,
        ),
    )
    yield "NAK", lambda b, n: (own(b, PacketType.NAK, bytes(24) + names(b, n, "one run")), STRANGER)
    for repairs in (0, 512):
        yield (
            f"SPM, another object of 1 TiB, M {repairs}",
            lambda b, n, r=repairs: (
                tib(r, n + 1, place=n << 20),
                STRANGER,
            ),
        )
    yield (
        "SPM, wrong manifest",
        lambda b, n: (
            packet(PacketType.SPM, spm_body(manifest.raw + bytes(n + 1)), **b.sample.fields),
            STRANGER,
        ),
    )
    yield "SPM, junk", lambda b, n: (own(b, PacketType.SPM, bytes(1_184)), STRANGER)
    for order in (Order.ROUNDS, Order.BLOCKS):
        yield (
            f"SPM, same object, {order.name}, far place",
            lambda b, n, o=order: (
                position(b, 99, (n % 79 + 1) * symbols // 80, 1, o, n),
                STRANGER,
            ),
        )
        yield (
            f"SPM, same object, {order.name}, new sessions and rings",
            lambda b, n, o=order: (
                position(b, n, n * 1_000, 1 + n % 16, o, n),
                STRANGER,
            ),
        )
        yield (
            f"SPM, same object, {order.name}, it stands",
            lambda b, n, o=order: (
                position(b, 98, 5, 1, o, n),
                STRANGER,
            ),
        )
        yield (
            f"SPM, the sender's session, {order.name}, far place",
            lambda b, n, o=order: (
                position(b, 1, (n % 79 + 1) * symbols // 80, 1, o, n),
                SENDER,
            ),
        )
    for form in ["one run"] if geometry.is_coded else ["one run", "many runs", "bitmap"]:
        yield (
            f"NCF, {form}, new sessions",
            lambda b, n, f=form: (
                ncf(b, names(b, n, f), n, 1_000 + n),
                STRANGER,
            ),
        )
        yield (
            f"NCF, {form}, the sender's session",
            lambda b, n, f=form: (
                ncf(b, names(b, n, f), n, int(b.sample.fields["tsi"])),
                SENDER,
            ),
        )


def measure(size: int, repairs: int, turns: int) -> None:
    """Print what each shape costs a receiver of an object of `size` bytes."""
    sample = huge(size, repairs)
    names_ = [name for name, _ in shapes(Bench(sample))]
    for number, name in enumerate(names_):
        ratios, ticks, cost = [], 0.0, 0.0
        bench = Bench(sample)
        _, shape = list(shapes(bench))[number]
        for turn in range(turns):
            true, forged = 0.0, 0.0
            for one in range(PACKETS):
                true += bench.give(bench.odata())
                octets, source = shape(bench, turn * PACKETS + one)
                forged += bench.give(octets, source)
                ticks += bench.tick()
            ratios.append(forged / true)
            cost = true / PACKETS * 1e6
        share = ticks / (turns * PACKETS * MS / SECOND)
        print(
            f"  {name:58} {median(ratios):6.2f}  (true {cost:.0f} us; looks {share:.1%})",
            flush=True,
        )


def adopt(size: int, repairs: int) -> None:
    """Print what an SPM costs that is adopted by a receiver that waits."""
    took = []
    for number in range(20):
        bench = Bench.__new__(Bench)
        bench.sample, bench.now, bench.next, bench.sqn = huge(size, repairs, number), SECOND, 0, 0
        bench.machine = Receiver(ReceiverConfig(), rng=Random(0))
        took.append([bench.give(bench.spm()) for _ in range(3)])
    first, again, third = (median(times) * 1e6 for times in zip(*took, strict=True))
    print(f"  M {repairs}: the first {first:.0f} us, the same again {again:.0f}, {third:.0f} us")


def main(turns: int = 15) -> None:
    """Print the ratios."""
    for size in (1 << 30, 1 << 40):
        for repairs in (0, 512):
            print(f"an object of {size >> 30} GiB, M {repairs}: times a true ODATA packet")
            measure(size, repairs, turns)
    print("an SPM of 1 TiB, adopted")
    for repairs in (0, 512):
        adopt(1 << 40, repairs)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
