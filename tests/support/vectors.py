"""The valid packets among the test vectors, the objects that they are of, and what builds them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import numpy as np

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.ranges import runs
from pgmlite.core.timing import (
    quantise_grtt,
)
from pgmlite.fec.codec import RandomLinear
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.derive import values
from pgmlite.wire.digests import digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import (
    ARCHIVE,
    HEADER,
    MANIFEST,
    MAX_MANIFEST,
    NAK_BODY,
    OPTION,
    POSITION,
    RELEASE,
    REPAIRS,
    REQUEST,
    SIGNATURE,
    SPM_BODY,
    Flag,
    ManifestOption,
    Order,
    PacketType,
    RequestForm,
    SpmOption,
)
from pgmlite.wire.manifest import Archive, Manifest, Rung, parse_manifest
from pgmlite.wire.request import (
    NAK_FIXED_SIZE,
    Counts,
    build_nak,
    build_request,
    parse_request,
)
from tests.support.builders import Sample, packet, spm_body, tree_of

TSI = 0x0123_4567_89AB_CDEF
NONCE = 0x0F1E_2D3C_4B5A_6978
REPAIRERS = (Endpoint("fd01::2", 28_776), Endpoint("192.0.2.7", 28_776))


def pattern(size: int) -> bytes:
    """Return bytes that count from 0 to 250, over and over."""
    return bytes(at % 251 for at in range(size))


def sample(
    size: int,
    symbol_size: int,
    block_symbols: int,
    name: str,
    repairers: tuple[Endpoint, ...] = (),
    **fec: Any,
) -> Sample:
    """Return an object of `pattern` bytes; `fec` are fields of its manifest."""
    data = pattern(size)
    tree = tree_of(data, symbol_size, block_symbols)
    manifest = Manifest(symbol_size, block_symbols, size, tree.root, name, repairers, **fec)
    return Sample(data, manifest, tree)


SMALL = sample(1_000, 64, 4, "small.bin")
"""16 symbols in 4 blocks; the last symbol has 40 bytes; the tree has three nodes."""

NAMED = sample(1_000, 64, 4, "named.bin", REPAIRERS)
LADDER = tuple(Rung(n * 1_000_000, Endpoint(f"ff15::{n}", 28_775)) for n in (2, 6, 14, 40))
IPV4_LADDER = (
    Rung(10_000, Endpoint("239.0.0.2", 9)),
    Rung((1 << 64) - 1, Endpoint("239.0.0.2", 10)),
)
CLIMBED = sample(1_000, 64, 4, "ladder.bin", ladder=LADDER)
"""An object on four channels."""

PORTS = sample(1_000, 64, 4, "ports.bin", ladder=IPV4_LADDER)

FOLDER = sample(2_048, 64, 8, "folder", archive=Archive(3, 512))
"""An object that says that it is an archive as full as can be; its bytes are none."""

EMPTY = sample(0, 1_404, 1_024, "empty")
MANY = sample(64 * 400, 64, 256, "many.bin")
CODED = sample(64 * 92 - 24, 64, 40, "coded.bin", repair_symbols=64, tile_blocks=2)
"""92 source symbols in 3 blocks, the last of 12; 64 repair symbols a block, in the last one 52."""

EXAMPLE = sample(3_000, 1_404, 3, "example.bin", repair_symbols=64)
"""That of section 3.7."""

REPAIR_FIELDS = {
    "nonce": NONCE,
    "grtt": quantise_grtt(20 * MS),
    "gsize": 0,
    "backoff_factor": 3,
    "repair_share": 50,
    "repair_port": 28_776,
}


def option(kind: int, value: bytes) -> bytes:
    """Return an option of an SPM or of a manifest."""
    return bytes(OPTION.build({"kind": kind, "value": value}))


def channel(rate: int, group: str, port: int = 28_775) -> bytes:
    """Return the option of a manifest that names a channel; it may break any rule."""
    address = ip_address(group)
    packed = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
    return option(ManifestOption.CHANNEL, rate.to_bytes(8) + packed + port.to_bytes(2))


def parts_of(body: bytes) -> list[bytes]:
    """Return the fixed part of an SPM and each of its options."""
    parsed = SPM_BODY.parse(body)
    options = [option(one.kind, one.value) for one in parsed.options]
    return [body[: -sum(map(len, options))], *options]


def header(of: Sample, **fields: int) -> dict[str, int]:
    """Return header fields of a packet of `of`."""
    return of.fields | {"tsi": TSI} | fields


def request(symbols: list[int], limit: int = 1_184) -> bytes:
    """Return the request for `symbols`."""
    return build_request(np.array(symbols, np.int64), limit)[0]


def nak(of: Sample, symbols: list[int], *, nonce: int = NONCE, **fields: int) -> bytes:
    """Return a NAK."""
    return asked(of, request(symbols), nonce=nonce, **fields)


def ncf(of: Sample, body: bytes, **fields: int) -> bytes:
    """Return an NCF with these bytes behind the header."""
    return packet(PacketType.NCF, body, **header(of, **fields))


def raw_request(form: int, base: int, items: bytes, count: int, flags: int = 0) -> bytes:
    """Return a request that may break any rule."""
    return bytes([form, flags]) + count.to_bytes(2) + base.to_bytes(4) + items


def counts_request(*items: tuple[int, int, int], count: int | None = None, base: int = 0) -> bytes:
    """Return a request with counts that may break any rule: block, first ESI, count."""
    packed = b"".join(struct.pack(">IHH", *item) for item in items)
    return raw_request(RequestForm.COUNTS, base, packed, len(items) if count is None else count)


def pair(start: int, length: int) -> bytes:
    """Return one range of a request."""
    return start.to_bytes(4) + length.to_bytes(4)


def stretches(symbols: Any) -> list[list[int]]:
    """Return first and last symbol of each stretch."""
    return [[int(symbols[start]), int(symbols[stop - 1])] for start, stop in runs(symbols)]


SPM_PARTS = (
    ("position", SpmOption.POSITION, POSITION),
    ("repairs", SpmOption.REPAIRS, REPAIRS),
    ("manifest", SpmOption.MANIFEST, MANIFEST),
)
"""The options of an SPM, as the vectors name them."""


def encoded(of: Sample, block: int, esi: int) -> bytes:
    """Return an encoding symbol of a block."""
    size, block_size = of.manifest.symbol_size, of.manifest.block_size
    content = of.data[block * block_size : (block + 1) * block_size]
    source = np.zeros((of.manifest.geometry.source(block), size), np.uint8)
    source.reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
    return RandomLinear().encode(source, np.array([esi], np.int64)).tobytes()


def coded(kind: int, block: int, esi: int, *, of: Sample = CODED, **fields: int) -> bytes:
    """Return a packet with a repair symbol."""
    named = {"flags": Flag.REPAIR_SYMBOL, "offset": block * of.manifest.block_size, "esi": esi}
    return packet(kind, encoded(of, block, esi), **header(of, **(named | fields)))


def asked(of: Sample, body: bytes, *, nonce: int = NONCE, **fields: int) -> bytes:
    """Return a NAK with this request."""
    body = build_nak(nonce, SECOND + 10 * MS, 0.2, body)
    return packet(PacketType.NAK, body, **header(of, **fields))


def count_items(of: Counts) -> list[list[int]]:
    """Return block, first ESI and count of each item."""
    items: list[list[int]] = np.stack([of.blocks, of.firsts, of.counts], axis=1).tolist()
    return items


def _named(found: dict[str, Any], body: bytes, total: int, oid: int) -> None:
    """Add what a request names."""
    rings = CODED.manifest.geometry.rings if oid == CODED.manifest.oid else None
    names = parse_request(body, total, rings)
    if isinstance(names, Counts):
        found["counts"] = count_items(names)
    else:
        found["symbols"] = stretches(names)


def _trusted(found: dict[str, Any], options: list[Any], own: list[Any]) -> None:
    """Add the signatures of an SPM, and the release and the archive in its manifest."""
    signatures = [one.value for one in options if one.kind == SpmOption.SIGNATURE]
    if signatures:
        parsed = [SIGNATURE.parse(value) for value in signatures]
        found["signatures"] = [values(SIGNATURE, one) for one in parsed]
    for one in own:
        if one.kind == ManifestOption.RELEASE:
            found["release"] = values(RELEASE, RELEASE.parse(one.value))
        if one.kind == ManifestOption.ARCHIVE:
            found["archive"] = values(ARCHIVE, ARCHIVE.parse(one.value))


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
            options = {option.kind: option.value for option in spm.options}
            for name, kind, struct in SPM_PARTS:
                if kind in options:
                    found[name] = values(struct, struct.parse(options[kind]))
            raw = options[SpmOption.MANIFEST]
            manifest = parse_manifest(raw)
            found["repairers"] = [list(one) for one in manifest.repairers]
            found["ladder"] = [[one.rate, *one.group] for one in manifest.ladder]
            _trusted(found, spm.options, MANIFEST.parse(raw).options)
        case PacketType.NCF:
            found["request"] = values(REQUEST, REQUEST.parse(body))
            _named(found, body, total, parsed.oid)
        case PacketType.NAK:
            nak_body = NAK_BODY.parse(body)
            found["nak"] = values(NAK_BODY, nak_body | {"request": b""})
            del found["nak"]["request"]
            found["request"] = values(REQUEST, nak_body.request)
            _named(found, body[NAK_FIXED_SIZE:], total, parsed.oid)
        case _:
            found["payload"] = body.hex()
    return found


def valid() -> Iterator[tuple[str, bytes]]:
    """Yield a name and a packet for every type and form."""
    yield "spm without repairs", SMALL.spm(tsi=TSI, sqn=0xFFFF_FFFE)
    body = spm_body(SMALL.manifest.raw, timestamp=SECOND, place=19, **REPAIR_FIELDS)
    yield "spm of a sender with repairs", packet(0, body, **header(SMALL, sqn=7))
    body = spm_body(NAMED.manifest.raw, timestamp=SECOND, **(REPAIR_FIELDS | {"repair_share": 100}))
    yield "spm of a stand-alone repairer, two repairers named", packet(0, body, **header(NAMED))
    for name, fields in (
        ("rounds, a sector", {"order": Order.ROUNDS, "sector": 1, "sectors": 2, "first": 1}),
        ("rounds, inside a sector", {"order": 1, "sector": 1, "sectors": 2, "first": 2}),
        ("rounds, long since they began", {"order": 1, "sectors": 2, "place": 1 << 40}),
        ("rounds, more sectors than visits", {"order": 1, "sector": 200, "sectors": 255}),
        ("random order", {"order": Order.RANDOM, "first": 0xFFFF_FFFF}),
        ("blocks, a sector of groups", {"order": 0, "sector": 1, "sectors": 2, "first": 1}),
        ("a territory", {"order": Order.TERRITORY, "sector": 1, "sectors": 2, "first": 4}),
        ("a territory of one visit", {"order": 3, "sector": 6, "sectors": 7, "first": 6}),
        ("an order of a later version", {"order": 4, "sector": 9, "sectors": 2, "first": 1 << 31}),
    ):
        body = spm_body(CODED.manifest.raw, **fields)
        yield f"spm with repair symbols: {name}", packet(0, body, **header(CODED))
    yield "spm of an object on four channels", CLIMBED.spm(tsi=TSI, channel=3)
    yield "spm of an object on two ports", PORTS.spm(tsi=TSI)
    yield "spm of an archive of a folder", FOLDER.spm(tsi=TSI)
    yield "spm of an empty object", packet(0, spm_body(EMPTY.manifest.raw), **header(EMPTY))
    for name, kind in (("", 0x7FFF), (", and of all others", 0xFFF)):
        raw = NAMED.manifest.raw + option(kind, b"later") * 2
        oid = int.from_bytes(digest(raw)[:8])
        body = spm_body(raw) + (option(kind, b"more") * 2 if name else b"")
        yield (
            f"spm with unknown options of the manifest{name}, none critical",
            packet(0, body, **header(NAMED, oid=oid)),
        )
    mixed = parts_of(spm_body(SMALL.manifest.raw, place=5, first=2, **REPAIR_FIELDS))
    yield (
        "spm with its options in another order",
        packet(0, mixed[0] + b"".join(mixed[:0:-1]), **header(SMALL)),
    )
    many = spm_body(SMALL.manifest.raw) + option(9, b"") * 30
    yield "spm with as many options as there may be", packet(0, many, **header(SMALL))
    largest = NAMED.manifest.raw + option(9, bytes(MAX_MANIFEST - 4 - len(NAMED.manifest.raw)))
    yield "spm with the largest manifest", with_manifest(largest, NAMED)
    root, first, last = SMALL.nodes(tsi=TSI)
    yield "tree, the root", root
    yield "tree, the first leaf", first
    yield "tree, the last leaf", last
    yield "odata", SMALL.odata([0], tsi=TSI, sqn=0xFFFF_FFFF)[0]
    yield "odata, short last symbol", SMALL.odata([15], tsi=TSI, sqn=0)[0]
    yield "odata of channel 3", SMALL.odata([2], tsi=TSI, channel=3)[0]
    repeated = header(SMALL, offset=64, esi=1, sqn=9)
    yield "rdata", packet(PacketType.RDATA, SMALL.data[64:128], **repeated)
    for kind in (PacketType.ODATA, PacketType.RDATA):
        yield f"{kind.name.lower()}, the first repair symbol of a block", coded(kind, 1, 40)
    yield "odata, the last repair symbol of a block", coded(PacketType.ODATA, 0, 103)
    yield "odata, the last repair symbol of the last block", coded(PacketType.ODATA, 2, 63)
    yield "ncf, one range", ncf(SMALL, request([3, 4, 5]), sqn=10)
    yield "ncf, bitmap", ncf(SMALL, request([1, 3, 4, 6, 11]), sqn=11)
    yield "ncf, ranges that touch", ncf(SMALL, raw_request(0, 2, pair(0, 2) + pair(2, 3), 2))
    yield "ncf, bitmap with zeros at the end", ncf(SMALL, raw_request(1, 14, b"\xc0\x00", 2))
    yield "ncf of 1232 bytes", ncf(SMALL, padded(1_232 - 48))
    yield "nak, two ranges", nak(MANY, [5, 6, 7, 300], sqn=8)
    yield "nak, bitmap", nak(MANY, [100, 102, 103, 105, 110], sqn=8)
    yield "nak, a whole object", nak(SMALL, list(range(16)))
    yield "nak, counts", asked(CODED, counts_request((0, 0, 5), (2, 0, 64)), sqn=8)
    yield "ncf, counts", ncf(CODED, counts_request((0, 103, 5), (1, 40, 3)), sqn=12, offset=30)


def replaced(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


def with_manifest(raw: bytes, of: Sample = SMALL, **fields: int) -> bytes:
    """Return an SPM whose oid is that of the manifest's bytes, whatever they are."""
    oid = int.from_bytes(digest(raw)[:8])
    return packet(0, spm_body(raw), **header(of, **({"oid": oid} | fields)))


def padded(size: int) -> bytes:
    """Return a request for symbol 0, a bitmap of `size` bytes with its fixed part."""
    return raw_request(1, 0, b"\x80" + bytes(size - 9), size - 8)
