"""The test vectors of the specification: what is in ``spec/vectors``, made by the code itself.

    python -m tests.generate

writes them; `test_vectors` fails when they and the code differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import numpy as np

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND, Transmit
from pgmlite.core.ranges import runs
from pgmlite.core.send.sender import Sender
from pgmlite.core.timing import (
    draw_backoff,
    grtt_of,
    gsize_of,
    quantise_grtt,
    quantise_gsize,
)
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import Manifest, parse_manifest
from pgmlite.wire.derive import values
from pgmlite.wire.digests import BlockTree, block_digest, digest, strip_digests
from pgmlite.wire.layout import (
    EXTENSION,
    HEADER,
    MANIFEST,
    NAK_BODY,
    REQUEST,
    SPM_BODY,
    Extension,
    PacketType,
)
from pgmlite.wire.request import build_nak, build_request, parse_request
from tests.support.builders import (
    Drive,
    Sample,
    Scripted,
    encode,
    packet,
    play,
    spm_body,
    tree_of,
)
from tests.support.nak_builders import Answering

TSI = 0x0123_4567_89AB_CDEF
NONCE = 0x0F1E_2D3C_4B5A_6978
REPAIRERS = (("fd01::2", 28_776), ("192.0.2.7", 28_776))


def pattern(size: int) -> bytes:
    """Return bytes that count from 0 to 250, over and over."""
    return bytes(at % 251 for at in range(size))


def sample(
    size: int,
    symbol_size: int,
    block_symbols: int,
    name: str,
    repairers: tuple[tuple[str, int], ...] = (),
) -> Sample:
    """Return an object of `pattern` bytes."""
    data = pattern(size)
    tree = tree_of(data, symbol_size, block_symbols)
    manifest = Manifest(symbol_size, block_symbols, size, tree.root, name, repairers)
    return Sample(data, manifest, tree)


SMALL = sample(1_000, 64, 4, "small.bin")
"""16 symbols in 4 blocks; the last symbol has 40 bytes; the tree has three nodes."""

NAMED = sample(1_000, 64, 4, "named.bin", REPAIRERS)
EMPTY = sample(0, 1_404, 1_024, "empty")
MANY = sample(64 * 400, 64, 256, "many.bin")

REPAIR_FIELDS = {
    "nonce": NONCE,
    "grtt": quantise_grtt(20 * MS),
    "gsize": 0,
    "backoff_factor": 3,
    "repair_share": 50,
    "repair_port": 28_776,
}


def header(of: Sample, **fields: int) -> dict[str, int]:
    """Return header fields of a packet of `of`."""
    return of.fields | {"tsi": TSI} | fields


def request(symbols: list[int], limit: int = 1_184) -> bytes:
    """Return the request for `symbols`."""
    return build_request(np.array(symbols, np.int64), limit)[0]


def nak(of: Sample, symbols: list[int], *, nonce: int = NONCE, **fields: int) -> bytes:
    """Return a NAK."""
    body = build_nak(nonce, SECOND + 10 * MS, 0.2, request(symbols))
    return packet(PacketType.NAK, body, **header(of, **fields))


def ncf(of: Sample, body: bytes, **fields: int) -> bytes:
    """Return an NCF with these bytes behind the header."""
    return packet(PacketType.NCF, body, **header(of, **fields))


def raw_request(form: int, base: int, items: bytes, count: int, flags: int = 0) -> bytes:
    """Return a request that may break any rule."""
    return bytes([form, flags]) + count.to_bytes(2) + base.to_bytes(4) + items


def pair(start: int, length: int) -> bytes:
    """Return one range of a request."""
    return start.to_bytes(4) + length.to_bytes(4)


def stretches(symbols: Any) -> list[list[int]]:
    """Return first and last symbol of each stretch."""
    return [[int(symbols[start]), int(symbols[stop - 1])] for start, stop in runs(symbols)]


def describe(one: bytes) -> dict[str, Any]:
    """Return the fields of a valid packet, as the vectors have them."""
    parsed = HEADER.parse(one)
    body = one[HEADER_SIZE:]
    total = -(-parsed.size // parsed.symbol_size)
    found: dict[str, Any] = {"header": values(HEADER, parsed)}
    match parsed.type:
        case PacketType.SPM:
            spm = SPM_BODY.parse(body)
            found["spm"] = values(SPM_BODY, spm)
            found["manifest"] = values(MANIFEST, MANIFEST.parse(spm.manifest))
            found["repairers"] = [list(one) for one in parse_manifest(spm.manifest).repairers]
        case PacketType.NCF:
            found["request"] = values(REQUEST, REQUEST.parse(body))
            found["symbols"] = stretches(parse_request(body, total))
        case PacketType.NAK:
            asked = NAK_BODY.parse(body)
            found["nak"] = values(NAK_BODY, asked | {"request": b""})
            del found["nak"]["request"]
            found["request"] = values(REQUEST, asked.request)
            found["symbols"] = stretches(parse_request(REQUEST.build(asked.request), total))
        case _:
            found["payload"] = body.hex()
    return found


def valid() -> Iterator[tuple[str, bytes]]:
    """Yield a name and a packet for every type and form."""
    yield "spm without repairs", SMALL.spm(tsi=TSI, sqn=0xFFFF_FFFE)
    body = spm_body(SMALL.manifest.raw, timestamp=SECOND, **REPAIR_FIELDS)
    yield "spm of a sender with repairs", packet(0, body, **header(SMALL, sqn=7, offset=192))
    body = spm_body(NAMED.manifest.raw, timestamp=SECOND, **(REPAIR_FIELDS | {"repair_share": 100}))
    yield "spm of a stand-alone repairer, two repairers named", packet(0, body, **header(NAMED))
    yield "spm of an empty object", packet(0, spm_body(EMPTY.manifest.raw), **header(EMPTY))
    raw = NAMED.manifest.raw + EXTENSION.build({"kind": 0x7FFF, "value": b"later"})
    oid = int.from_bytes(digest(raw)[:8])
    body = spm_body(raw)
    yield (
        "spm with an unknown extension that is not critical",
        packet(0, body, **header(NAMED, oid=oid)),
    )
    root, first, last = SMALL.nodes(tsi=TSI)
    yield "tree, the root", root
    yield "tree, the first leaf", first
    yield "tree, the last leaf", last
    yield "odata", SMALL.odata([0], tsi=TSI, sqn=0xFFFF_FFFF)[0]
    yield "odata, short last symbol", SMALL.odata([15], tsi=TSI, sqn=0)[0]
    yield "odata of channel 3", SMALL.odata([2], tsi=TSI, channel=3)[0]
    yield "rdata", packet(PacketType.RDATA, SMALL.data[64:128], **header(SMALL, offset=64, sqn=9))
    yield "ncf, one range", ncf(SMALL, request([3, 4, 5]), sqn=10)
    yield "ncf, bitmap", ncf(SMALL, request([1, 3, 4, 6, 11]), sqn=11)
    yield "ncf, ranges that touch", ncf(SMALL, raw_request(0, 2, pair(0, 2) + pair(2, 3), 2))
    yield "ncf, bitmap with zeros at the end", ncf(SMALL, raw_request(1, 14, b"\xc0\x00", 2))
    yield "ncf of 1232 bytes", ncf(SMALL, _padded(1_232 - 48))
    yield "nak, two ranges", nak(MANY, [5, 6, 7, 300], sqn=8)
    yield "nak, bitmap", nak(MANY, [100, 102, 103, 105, 110], sqn=8)
    yield "nak, a whole object", nak(SMALL, list(range(16)))


def _replaced(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


def _with_manifest(raw: bytes, of: Sample = SMALL, **fields: int) -> bytes:
    """Return an SPM whose oid is that of the manifest's bytes, whatever they are."""
    oid = int.from_bytes(digest(raw)[:8])
    return packet(0, spm_body(raw), **header(of, **({"oid": oid} | fields)))


def malformed() -> Iterator[tuple[str, bytes, str]]:
    """Yield a name, a packet that is wrong by itself, and the reason."""
    good = SMALL.odata([0], tsi=TSI)[0]
    spm = SMALL.spm(tsi=TSI)
    payload = SMALL.data[:64]
    h = header(SMALL)
    yield "nothing", b"", "short"
    yield "one byte less than a header", good[:47], "short"
    yield "other magic", _replaced(good, 0, b"\x70\x68"), "magic"
    yield "version 0", _replaced(good, 2, b"\x00"), "version"
    yield "version 2", _replaced(good, 2, b"\x02"), "version"
    yield "version before type", _replaced(good, 2, b"\x02\x01"), "version"
    yield "unknown type", _replaced(good, 3, b"\x01"), "type"
    yield "flags", _replaced(good, 5, b"\x80"), "reserved"
    for size in (0, 60, 66, 65_460):
        yield (
            f"symbol size {size}",
            packet(4, payload, **(h | {"symbol_size": size})),
            "symbol_size",
        )
    yield "odata without payload", good[:48], "length"
    yield "odata longer than a symbol", good + b"\0", "length"
    yield "node without payload", packet(7, b"", **h), "length"
    yield "node longer than a symbol", packet(7, bytes(96), **h), "length"
    yield "node that ends in a digest", packet(7, bytes(63), **h), "length"
    yield "rdata without payload", packet(5, b"", **h), "length"
    yield (
        "a block that begins before the object",
        packet(4, payload, **(h | {"esi": 1 << 30})),
        "esi",
    )
    yield "esi of an spm", _replaced(spm, 44, b"\0\0\0\1"), "esi"
    yield "offset between symbols", packet(4, payload, **(h | {"offset": 32})), "offset"
    yield "node number past 2^63", packet(7, payload, **(h | {"offset": 1 << 63})), "offset"
    yield "node of another tree", packet(7, payload, **(h | {"esi": 1})), "esi"
    yield "short symbol in the middle", packet(4, payload[:40], **(h | {"offset": 64})), "offset"
    yield "symbol past the end", packet(4, payload, **(h | {"offset": 1_024})), "offset"
    yield "whole symbol at the end", packet(4, payload, **(h | {"offset": 960})), "offset"
    far = ((1 << 63) - 1) // 64 * 64
    yield "end past 2^63", packet(4, payload, **(h | {"offset": far})), "offset"
    yield "offset past 2^63", packet(4, payload, **(h | {"offset": 1 << 63})), "offset"
    yield "size past 2^63", packet(4, payload, **(h | {"size": 1 << 63})), "offset"
    yield "spm without body", spm[:48], "spm"
    yield "spm cut", spm[:-1], "spm"
    yield "spm with a byte too many", spm + b"\0", "spm"
    yield "spm without a manifest", packet(0, spm_body(b""), **h), "manifest"
    yield "manifest of another oid", packet(0, spm_body(NAMED.manifest.raw), **h), "manifest"
    raw = SMALL.manifest.raw
    for name, at, new in (
        ("magic", 0, b"PGLN"),
        ("version 2", 4, b"\x02"),
        ("digest algorithm 2", 5, b"\x02"),
        ("FEC scheme 1", 6, b"\x01"),
        ("reserved byte", 7, b"\x01"),
        ("symbol size 66", 8, b"\x00\x42"),
        ("no symbols in a block", 10, b"\x00\x00"),
        ("4097 symbols in a block", 10, b"\x10\x01"),
        ("control character in the name", 53, b"\x1b"),
        ("name that is not UTF-8", 53, b"\xff"),
    ):
        yield f"manifest: {name}", _with_manifest(_replaced(raw, at, new)), "manifest"
    yield "manifest: no name", _with_manifest(raw[:52] + b"\0"), "manifest"
    yield "manifest: cut in the name", _with_manifest(raw[:-1]), "manifest"
    yield "manifest: half an extension", _with_manifest(raw + b"\0\2\0"), "manifest"
    critical = EXTENSION.build({"kind": 0x8001, "value": b""})
    yield "manifest: unknown critical extension", _with_manifest(raw + critical), "manifest"
    for name, value in (("17 bytes", bytes(15) + b"\1\1"), ("port 0", bytes(18))):
        endpoint = EXTENSION.build({"kind": Extension.REPAIRER, "value": value})
        yield f"manifest: repairer with {name}", _with_manifest(raw + endpoint), "manifest"
    long = raw + EXTENSION.build({"kind": 1_000, "value": bytes(1_024 - len(raw) - 3)})
    yield "manifest: 1025 bytes", _with_manifest(long), "manifest"
    yield "manifest: other size than the header", _with_manifest(raw, size=999), "manifest"
    yield (
        "manifest: other symbol size than the header",
        _with_manifest(raw, symbol_size=128),
        "manifest",
    )


def _padded(size: int) -> bytes:
    """Return a request for symbol 0, a bitmap of `size` bytes with its fixed part."""
    return raw_request(1, 0, b"\x80" + bytes(size - 9), size - 8)


def bad_requests() -> Iterator[tuple[str, bytes]]:
    """Yield a name and a request that is wrong for an object of 16 symbols."""
    yield "nothing", b""
    yield "cut in its fixed part", raw_request(0, 0, b"", 0)[:7]
    yield "unknown form", raw_request(2, 0, pair(0, 1), 1)
    yield "flags", raw_request(0, 0, pair(0, 1), 1, flags=1)
    yield "no ranges", raw_request(0, 0, b"", 0)
    yield "fewer ranges than the count", raw_request(0, 0, pair(0, 1), 2)
    yield "a byte too many", raw_request(0, 0, pair(0, 1) + b"\0", 1)
    yield "empty range", raw_request(0, 0, pair(0, 1) + pair(3, 0), 2)
    yield "ranges that overlap", raw_request(0, 0, pair(0, 3) + pair(2, 1), 2)
    yield "ranges that descend", raw_request(0, 0, pair(5, 1) + pair(0, 1), 2)
    yield "range past the object", raw_request(0, 10, pair(0, 7), 1)
    yield "range of 2^32 - 1 symbols", raw_request(0, 0, pair(0, 0xFFFF_FFFF), 1)
    yield "base past the object", raw_request(0, 0xFFFF_FFFF, pair(0xFFFF_FFFF, 1), 1)
    yield "bitmap without bits", raw_request(1, 0, b"\0\0", 2)
    yield "bitmap without bytes", raw_request(1, 0, b"", 0)
    yield "bitmap past the object", raw_request(1, 9, b"\x01", 1)


def invalid() -> Iterator[dict[str, Any]]:
    """Yield the invalid packets, each with what comes before it and the reason."""
    known = [SMALL.spm(tsi=TSI).hex()]
    for name, one, reason in malformed():
        yield {"name": name, "at": "receiver", "before": [], "hex": one.hex(), "reason": reason}

    def later(name: str, one: bytes, reason: str, *before: bytes) -> dict[str, Any]:
        first = known + [given.hex() for given in before]
        return {"name": name, "at": "receiver", "before": first, "hex": one.hex(), "reason": reason}

    yield later("nak at a receiver", nak(SMALL, [1]), "type")
    for name, body in bad_requests():
        yield later(f"ncf: {name}", ncf(SMALL, body), "request")
    yield later("ncf of 1233 bytes", ncf(SMALL, _padded(1_233 - 48)), "request")
    other = sample(1_000, 64, 4, "other.bin")
    yield later("another object", other.odata([0], tsi=TSI)[0], "object")
    yield later("another size", packet(4, bytes(64), **header(SMALL, size=1_064)), "object")
    resized = packet(4, SMALL.data[:128], **header(SMALL, symbol_size=128))
    yield later("another symbol size", resized, "object")
    yield later("announcement of another object", other.spm(tsi=TSI), "object")
    yield later(
        "another manifest of the same oid",
        _with_manifest(other.manifest.raw, oid=SMALL.manifest.oid),
        "manifest",
    )
    root, leaf, _ = SMALL.nodes(tsi=TSI)
    yield later("root that is not the manifest's", root[:48] + bytes(64), "tree")
    yield later("leaf that is not what the root says", leaf[:48] + bytes(64), "tree", root)
    yield later("node of another length", root[:48] + bytes(32), "tree")
    yield later("node past the last", _replaced(leaf, 39, b"\3"), "tree", root)
    yield from _at_repairer()


def _at_repairer() -> Iterator[dict[str, Any]]:
    """Yield NAKs that the repairer of SMALL with tsi TSI and nonce NONCE refuses."""

    def case(name: str, one: bytes, reason: str) -> dict[str, Any]:
        facts = {"name": name, "at": "repairer", "before": [], "hex": one.hex(), "reason": reason}
        return facts | {"tsi": f"{TSI:016x}", "nonces": [f"{NONCE:016x}"]}

    good = nak(SMALL, [1])
    yield case("nak for another session", nak(SMALL, [1], tsi=TSI + 1), "session")
    yield case("nak for another object", nak(SMALL, [1], oid=1), "object")
    yield case("nak with another size", nak(SMALL, [1], size=1_064), "object")
    yield case("nak with a wrong nonce", nak(SMALL, [1], nonce=NONCE + 1), "nonce")
    yield case("nak without body", good[:48], "nonce")
    yield case("nak cut behind the nonce", good[:60], "request")
    yield case("nak with its reserved word", _replaced(good, 48 + 18, b"\0\1"), "request")
    fixed = good[: 48 + 20]
    yield case("nak of 1233 bytes", fixed + _padded(1_233 - 68), "request")
    for name, body in bad_requests():
        yield case(f"nak: {name}", fixed + body, "request")


def packets_file() -> dict[str, Any]:
    """Return ``packets.json``."""
    return {
        "about": "Valid packets of every type with their fields. 64-bit fields and bytes are "
        "hexadecimal. symbols: first and last number of each stretch that a request names.",
        "packets": [{"name": name, "hex": one.hex(), **describe(one)} for name, one in valid()],
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
    for of in (SMALL, EMPTY, sample(3_000, 1_404, 2, "example.bin")):
        raw = of.manifest.raw
        objects.append(
            {
                "name": of.manifest.name,
                "size": of.manifest.size,
                "symbol_size": of.manifest.symbol_size,
                "block_symbols": of.manifest.block_symbols,
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
    shapes = (
        (64, 1),
        (64, 1_023),
        (64, 1_025),
        (1_404, 22_464),
        (1_404, 22_465),
        (1_404, 1_437_696),
    )
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
        "trees": [_tree_vector(size, blocks) for size, blocks in trees],
    }


def _tree_vector(symbol_size: int, blocks: int) -> dict[str, Any]:
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

    def __new__(cls, _: float) -> _Uniform:
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


FILES = {
    "packets.json": packets_file,
    "invalid.json": invalid_file,
    "object.json": object_file,
    "digests.json": digests_file,
    "timing.json": timing_file,
}
"""What is in ``spec/vectors``, by file."""


def refusals(case: dict[str, Any]) -> Counter[str]:
    """Return what our own machines refuse of an invalid vector, by reason."""
    one = bytes.fromhex(case["hex"])
    if case["at"] == "receiver":
        drive = Drive()
        drive.give(bytes.fromhex(given) for given in case["before"])
        drive.machine.counters.refused.clear()
        if not one:
            # An empty datagram never gets as far as the machine: drivers count it.
            return Counter({"short": 1})
        drive.give([one])
        return drive.machine.counters.refused
    rng = _Numbers(int(case["tsi"], 16), int(case["nonces"][0], 16))
    answering = Answering(SMALL, repair=RepairConfig(port=9), rng=rng)
    answering.give(one)
    return answering.queue.refused


class _Numbers(Scripted):
    """Gives a sender its tsi, and after that the same nonce for ever."""

    def __new__(cls, *_: int) -> _Numbers:
        return super().__new__(cls)

    def __init__(self, tsi: int, nonce: int) -> None:
        super().__init__(tsi=tsi)
        self._nonce = nonce

    def getrandbits(self, bits: int) -> int:
        drawn = super().getrandbits(bits)
        if bits == 64:
            self._values[64] = self._nonce
        return drawn
