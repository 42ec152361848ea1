"""What is in ``spec/vectors``, made by the code itself.

    python -m tests.generate

writes it; `test_vectors` fails when it and the code differ.
"""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import Any, Self

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Transmit
from pgmlite.core.send.sender import Sender
from pgmlite.core.timing import (
    draw_backoff,
    grtt_of,
    gsize_of,
    quantise_grtt,
    quantise_gsize,
)
from pgmlite.errors import RefusedPacket
from pgmlite.wire.digests import BlockTree, block_digest, digest, strip_digests
from tests.support.answering import Answering
from tests.support.archive_vectors import archive_file
from tests.support.builders import Drive, Sample, Scripted, encode, play
from tests.support.count_vectors import RINGS, counts, read_counts
from tests.support.fec_vectors import fec_file
from tests.support.invalid_vectors import invalid
from tests.support.ring_vectors import rings_file
from tests.support.signed_vectors import signed_file, valid_signed
from tests.support.vectors import (
    CODED,
    EMPTY,
    EXAMPLE,
    SMALL,
    TSI,
    count_items,
    describe,
    pattern,
    sample,
    valid,
)


def packets_file() -> dict[str, Any]:
    """Return ``packets.json``."""
    return {
        "about": "Valid packets of every type with their fields. 64-bit fields and bytes are "
        "hexadecimal. symbols: first and last number of each stretch that a request names.",
        "packets": [
            {"name": name, "hex": one.hex(), **describe(one)}
            for name, one in (*valid(), *valid_signed())
        ],
    }


def invalid_file() -> dict[str, Any]:
    """Return ``invalid.json``."""
    return {
        "about": "Packets to refuse, and the reason of section 3.8. at: a receiver that was given "
        "the packets in before and nothing else, or a repairer of the object of object.json whose "
        "session has this tsi and these nonces.",
        "packets": list(invalid()),
    }


def cycle(of: Sample, repair: RepairConfig | None = None) -> list[dict[str, Any]]:
    """Return every packet of one cycle with the time at which it may leave."""
    rng = Scripted(tsi=TSI, sqn=0xFFFF_FFFE)
    config = SenderConfig(rate=1_000_000, packet_overhead=48, cycles=1)
    sender = Sender(config, of.manifest, of.tree, repair=repair, rng=rng)
    sender.start(SECOND)
    bursts = takewhile(lambda step: isinstance(step[1], Transmit), play(sender))
    return [
        {"at": now, "hex": one.hex()}
        for now, burst in bursts
        if isinstance(burst, Transmit)
        for one in encode(burst, of.data)
    ]


def object_file() -> dict[str, Any]:
    """Return ``object.json``."""
    manifest = SMALL.manifest
    size = manifest.symbol_size
    block = manifest.block_size
    objects = []
    for of in (SMALL, EMPTY, sample(3_000, 1_404, 2, "example.bin"), EXAMPLE, CODED):
        raw = of.manifest.raw
        objects.append(
            {
                "name": of.manifest.name,
                "size": of.manifest.size,
                "symbol_size": of.manifest.symbol_size,
                "block_symbols": of.manifest.block_symbols,
                "repair_symbols": of.manifest.repair_symbols,
                "tile_blocks": of.manifest.tile_blocks,
                "tree": [of.tree.node(n).hex() for n in range(of.tree.shape.nodes)],
                "tree_digest": of.manifest.tree_digest.hex(),
                "manifest": raw.hex(),
                "manifest_digest": digest(raw).hex(),
                "oid": f"{of.manifest.oid:016x}",
            }
        )
    return {
        "about": "Objects of bytes that count from 0 to 250 over and over. The first one in full: "
        "its symbols, its blocks, and all packets of one cycle of a sender with this tsi and rate; "
        "at is when each may leave, in ns of the sender's clock, which began at 1 s.",
        "objects": objects,
        "data": SMALL.data.hex(),
        "symbols": [
            {"offset": at, "hex": SMALL.data[at : at + size].hex()}
            for at in range(0, manifest.size, size)
        ],
        "blocks": [
            {
                "offset": at,
                "length": len(SMALL.data[at : at + block]),
                "strips": strip_digests(SMALL.data[at : at + block], size).hex(),
                "digest": block_digest(SMALL.data[at : at + block], size).hex(),
            }
            for at in range(0, manifest.size, block)
        ],
        "tsi": f"{TSI:016x}",
        "rate": 1_000_000,
        "packet_overhead": 48,
        "cycle": cycle(SMALL),
    }


def digests_file() -> dict[str, Any]:
    """Return ``digests.json``."""
    lengths = (0, 1, 32, 63, 64, 65, 1_023, 1_024, 1_025, 3_000, 65_536, 1_437_696)
    shapes = ((64, 1), (64, 1_024), (64, 1_025), (1_404, 22_465), (1_404, 1_437_696))
    trees = ((64, 0), (64, 1), (64, 2), (64, 3), (64, 9), (1_404, 43), (1_404, 44), (1_404, 1_850))
    return {
        "about": "BLAKE3-256 of inputs whose bytes count from 0 to 250 over and over; digests of "
        "blocks of such bytes (TREE-1); trees whose block b has the digest of the number b in 8 "
        "bytes, big-endian: nodes of each level from the root on, and the root's digest (TREE-2).",
        "digests": [{"length": n, "digest": digest(pattern(n)).hex()} for n in lengths],
        "blocks": [
            {"symbol_size": size, "length": n, "digest": block_digest(pattern(n), size).hex()}
            for size, n in shapes
        ],
        "trees": [_tree(size, blocks) for size, blocks in trees],
    }


def _tree(symbol_size: int, blocks: int) -> dict[str, Any]:
    """Return what ``digests.json`` says of a tree."""
    digests = b"".join(digest(block.to_bytes(8)) for block in range(blocks))
    tree = BlockTree(digests, symbol_size)
    return {
        "symbol_size": symbol_size,
        "blocks": blocks,
        "levels": list(tree.shape.levels),
        "root": tree.root.hex(),
    }


class _Uniform(Scripted):
    """Draws what it was told."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def __new__(cls, _: float) -> Self:
        return super().__new__(cls)

    def random(self) -> float:
        return self._value


def timing_file() -> dict[str, Any]:
    """Return ``timing.json``."""
    uniforms = (0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
    backoffs = [
        {
            "longest": longest,
            "gsize": gsize,
            "u": u,
            "ns": draw_backoff(_Uniform(u), longest, gsize),
        }
        for longest, gsize in ((120 * MS, 10), (120 * MS, 1_000), (12 * MS, 500_000_000))
        for u in uniforms
    ]
    around = {round(base * factor) for base in map(grtt_of, range(256)) for factor in (1, 1.03)}
    times = sorted({0, 1, 999, 1_000, 1_001, 32_999, 33_000, 2 * MS, 20 * MS, 2 * SECOND} | around)
    sizes = sorted({1, 10, 11, 50, 51, 99, 100, 101, 999, 5_000, 10**6, 5 * 10**8, 10**9})
    return {
        "about": "Back-offs: ns from u, evenly drawn from 0 to 1 (NAK-4). GRTT: ns to 8 bits, and "
        "back (REP-6). Group sizes: to 4 bits, and back. Times that come from logarithms may "
        "differ by 1 ns, a quantised value at a boundary by 1.",
        "backoff": backoffs,
        "grtt_quantise": [[ns, quantise_grtt(ns)] for ns in times],
        "grtt_of": [grtt_of(q) for q in range(256)],
        "gsize_quantise": [[size, quantise_gsize(size)] for size in sizes],
        "gsize_of": [gsize_of(q) for q in range(16)],
    }


def counts_file() -> dict[str, Any]:
    """Return ``counts.json``."""
    taken, refused = [], []
    for name, at, body in counts():
        try:
            asked = read_counts(at, body)
        except RefusedPacket:
            refused.append({"name": name, "at": at, "hex": body.hex()})
        else:
            taken.append({"name": name, "at": at, "hex": body.hex(), "items": count_items(asked)})
    return {
        "about": "Requests with counts, of an object with repair symbols: rings says how many "
        "blocks it has, and how many source and repair symbols are in each of them and in the last "
        "one. at: in a NAK or in an NCF. items: block, first ESI, count. Those of refused are "
        "refused as request.",
        "rings": RINGS._asdict(),
        "taken": taken,
        "refused": refused,
    }


FILES = {
    "archive.json": archive_file,
    "counts.json": counts_file,
    "fec.json": fec_file,
    "packets.json": packets_file,
    "invalid.json": invalid_file,
    "object.json": object_file,
    "digests.json": digests_file,
    "rings.json": rings_file,
    "signed.json": signed_file,
    "timing.json": timing_file,
}
"""What is in ``spec/vectors``, by file."""


def refusals(case: dict[str, Any]) -> Counter[str]:
    """Return what our own machines refuse of an invalid vector, by reason."""
    one = bytes.fromhex(case["hex"])
    if case["at"] == "receiver":
        drive = Drive(oid=int(case["asked"], 16) if "asked" in case else None)
        drive.give(bytes.fromhex(given) for given in case["before"])
        drive.machine.counters.refused.clear()
        if not one:
            # An empty datagram never gets as far as the machine: drivers count it.
            return Counter({"short": 1})
        drive.give([one])
        return drive.machine.counters.refused
    rng = Numbers(int(case["tsi"], 16), int(case["nonces"][0], 16))
    answering = Answering(SMALL, repair=RepairConfig(port=9), rng=rng)
    answering.give(one)
    return answering.machine.refused


class Numbers(Scripted):
    """Gives a sender its tsi, and after that the same nonce for ever."""

    def __new__(cls, *_: int) -> Self:
        return super().__new__(cls)

    def __init__(self, tsi: int, nonce: int) -> None:
        super().__init__(tsi=tsi)
        self._nonce = nonce

    def getrandbits(self, bits: int) -> int:
        drawn = super().getrandbits(bits)
        if bits == 64:
            self._values[64] = self._nonce
        return drawn
