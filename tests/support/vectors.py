"""The valid packets among the test vectors, the objects that they are of, and what builds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pgmlite.core.machine import MS, SECOND
from pgmlite.core.ranges import runs
from pgmlite.core.timing import (
    quantise_grtt,
)
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import Manifest, parse_manifest
from pgmlite.wire.derive import values
from pgmlite.wire.digests import digest
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import (
    HEADER,
    MANIFEST,
    MAX_MANIFEST,
    NAK_BODY,
    OPTION,
    POSITION,
    REPAIRS,
    REQUEST,
    SPM_BODY,
    PacketType,
    SpmOption,
)
from pgmlite.wire.request import build_nak, build_request, parse_request
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


def option(kind: int, value: bytes) -> bytes:
    """Return an option of an SPM or of a manifest."""
    return bytes(OPTION.build({"kind": kind, "value": value}))


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


SPM_PARTS = (
    ("position", SpmOption.POSITION, POSITION),
    ("repairs", SpmOption.REPAIRS, REPAIRS),
    ("manifest", SpmOption.MANIFEST, MANIFEST),
)
"""The options of an SPM, as the vectors name them."""


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
            found["repairers"] = [list(one) for one in parse_manifest(raw).repairers]
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
    body = spm_body(SMALL.manifest.raw, timestamp=SECOND, offset=192, esi=3, **REPAIR_FIELDS)
    yield "spm of a sender with repairs", packet(0, body, **header(SMALL, sqn=7))
    body = spm_body(NAMED.manifest.raw, timestamp=SECOND, **(REPAIR_FIELDS | {"repair_share": 100}))
    yield "spm of a stand-alone repairer, two repairers named", packet(0, body, **header(NAMED))
    yield "spm of an empty object", packet(0, spm_body(EMPTY.manifest.raw), **header(EMPTY))
    for name, kind in (("", 0x7FFF), (", and of all others", 0xFFF)):
        raw = NAMED.manifest.raw + option(kind, b"later") * 2
        oid = int.from_bytes(digest(raw)[:8])
        body = spm_body(raw) + (option(kind, b"more") * 2 if name else b"")
        yield (
            f"spm with unknown options of the manifest{name}, none critical",
            packet(0, body, **header(NAMED, oid=oid)),
        )
    mixed = parts_of(spm_body(SMALL.manifest.raw, offset=320, esi=1, **REPAIR_FIELDS))
    yield (
        "spm with its options in another order",
        packet(0, mixed[0] + b"".join(mixed[:0:-1]), **header(SMALL)),
    )
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
    yield "ncf, one range", ncf(SMALL, request([3, 4, 5]), sqn=10)
    yield "ncf, bitmap", ncf(SMALL, request([1, 3, 4, 6, 11]), sqn=11)
    yield "ncf, ranges that touch", ncf(SMALL, raw_request(0, 2, pair(0, 2) + pair(2, 3), 2))
    yield "ncf, bitmap with zeros at the end", ncf(SMALL, raw_request(1, 14, b"\xc0\x00", 2))
    yield "ncf of 1232 bytes", ncf(SMALL, padded(1_232 - 48))
    yield "nak, two ranges", nak(MANY, [5, 6, 7, 300], sqn=8)
    yield "nak, bitmap", nak(MANY, [100, 102, 103, 105, 110], sqn=8)
    yield "nak, a whole object", nak(SMALL, list(range(16)))


def replaced(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


def with_manifest(raw: bytes, of: Sample = SMALL, **fields: int) -> bytes:
    """Return an SPM whose oid is that of the manifest's bytes, whatever they are."""
    oid = int.from_bytes(digest(raw)[:8])
    return packet(0, spm_body(raw), **header(of, **({"oid": oid} | fields)))


def padded(size: int) -> bytes:
    """Return a request for symbol 0, a bitmap of `size` bytes with its fixed part."""
    return raw_request(1, 0, b"\x80" + bytes(size - 9), size - 8)
