"""The packets among the test vectors that are to be refused, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgmlite.wire.layout import (
    MAX_MANIFEST,
    ManifestOption,
    RequestForm,
    SpmOption,
)
from pgmlite.wire.manifest import REFUSED_RANGES
from tests.support.builders import packet, spm_body
from tests.support.signed_vectors import malformed_signed
from tests.support.vectors import (
    CODED,
    EMPTY,
    NAMED,
    NONCE,
    REPAIR_FIELDS,
    SMALL,
    TSI,
    channel,
    header,
    nak,
    ncf,
    option,
    padded,
    pair,
    parts_of,
    raw_request,
    replaced,
    sample,
    with_manifest,
)


def malformed() -> Iterator[tuple[str, bytes, str]]:
    """Yield a name, a packet that is wrong by itself, and the reason."""
    good = SMALL.odata([0], tsi=TSI)[0]
    spm = SMALL.spm(tsi=TSI)
    payload = SMALL.data[:64]
    h = header(SMALL)
    yield "nothing", b"", "short"
    yield "one byte less than a header", good[:47], "short"
    yield "other magic", replaced(good, 0, b"\x70\x68"), "magic"
    yield "version 0", replaced(good, 2, b"\x00"), "version"
    yield "version 1", replaced(good, 2, b"\x01"), "version"
    yield "version 3", replaced(good, 2, b"\x03"), "version"
    yield "version before type", replaced(good, 2, b"\x03\x01"), "version"
    yield "unknown type", replaced(good, 3, b"\x01"), "type"
    yield "flags", replaced(good, 5, b"\x80"), "reserved"
    yield "an spm that is a repair symbol", replaced(spm, 5, b"\x01"), "reserved"
    yield "a node that is a repair symbol", packet(7, payload, **h, flags=1), "reserved"
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
    yield "node that ends inside a digest", packet(7, bytes(63), **h), "length"
    yield "rdata without payload", packet(5, b"", **h), "length"
    yield (
        "a block that begins before the object",
        packet(4, payload, **(h | {"esi": 1 << 30})),
        "esi",
    )
    yield "esi of an spm", replaced(spm, 44, b"\0\0\0\1"), "esi"
    yield "node of a third tree", packet(7, payload, **(h | {"esi": 2})), "esi"
    yield "offset between symbols", packet(4, payload, **(h | {"offset": 32})), "offset"
    yield "node number past 2^63", packet(7, payload, **(h | {"offset": 1 << 63})), "offset"
    yield "short symbol in the middle", packet(4, payload[:40], **(h | {"offset": 64})), "offset"
    yield "symbol past the end", packet(4, payload, **(h | {"offset": 1_024})), "offset"
    yield "whole symbol at the end", packet(4, payload, **(h | {"offset": 960})), "offset"
    coded = h | {"flags": 1, "esi": 4}
    yield "short repair symbol", packet(4, payload[:40], **(coded | {"offset": 960})), "offset"
    yield "repair symbol past the end", packet(5, payload, **(coded | {"offset": 1_024})), "offset"
    yield "offset before esi", packet(4, payload, **(h | {"offset": 1_024, "esi": 99})), "offset"
    far = ((1 << 63) - 1) // 64 * 64
    yield "end past 2^63", packet(4, payload, **(h | {"offset": far})), "offset"
    yield "offset past 2^63", packet(4, payload, **(h | {"offset": 1 << 63})), "offset"
    yield "size past 2^63", packet(4, payload, **(h | {"size": 1 << 63})), "offset"
    yield "spm without body", spm[:48], "spm"
    yield "spm cut in its fixed part", spm[:67], "spm"
    yield "spm cut", spm[:-1], "spm"
    yield "spm with a byte too many", spm + b"\0", "spm"
    fixed, raw, place, asks = parts_of(spm_body(SMALL.manifest.raw, **REPAIR_FIELDS))
    for name, *parts in (
        ("without options", fixed),
        ("without a manifest", fixed, place, asks),
        ("with two manifests", fixed, raw, raw),
        ("with two positions", fixed, raw, place, place),
        ("with repairs twice", fixed, raw, asks, asks),
        ("with an unknown critical option", fixed, raw, option(0x8002, b"")),
        ("with a short position", fixed, raw, option(SpmOption.POSITION, place[4:-1])),
        ("with a long position", fixed, raw, option(SpmOption.POSITION, place[4:] + b"\0")),
        ("with short repairs", fixed, raw, option(SpmOption.REPAIRS, asks[4:-1])),
        ("with NAKs to port 0", fixed, raw, asks[:-2] + bytes(2)),
        ("with 33 options", fixed, raw, option(9, b"") * 32),
        ("of 1233 bytes", fixed, raw, option(9, bytes(1_233 - 48 - 20 - len(raw) - 4))),
    ):
        yield f"spm {name}", packet(0, b"".join(parts), **h), "spm"
    yield from _bad_positions()
    yield "spm with an empty manifest", packet(0, spm_body(b""), **h), "manifest"
    yield "manifest of another oid", packet(0, spm_body(NAMED.manifest.raw), **h), "manifest"
    raw = SMALL.manifest.raw
    for name, at, new in (
        ("magic", 0, b"PGLN"),
        ("version 1", 4, b"\x01"),
        ("digest algorithm 2", 5, b"\x02"),
        ("FEC scheme 2", 6, b"\x02"),
        ("FEC without repair symbols", 6, b"\x01"),
        ("tiles of no blocks", 7, b"\x00"),
        ("tiles of 9 blocks", 7, b"\x09"),
        ("symbol size 66", 8, b"\x00\x42"),
        ("no symbols in a block", 10, b"\x00\x00"),
        ("4097 symbols in a block", 10, b"\x10\x01"),
        ("repair symbols without FEC", 12, b"\x00\x01"),
        ("strips of 8 symbols", 14, b"\x00\x08"),
        ("size past 2^63", 16, b"\x80"),
        ("name that is not UTF-8", 57, b"\xff"),
        ("name with a surrogate", 57, b"\xed\xa0\x80"),
        ("name that is longer than it need be in UTF-8", 57, b"\xe0\x80\xaf"),
    ):
        yield f"manifest: {name}", with_manifest(replaced(raw, at, new)), "manifest"
    raw = CODED.manifest.raw
    for name, at, new in (
        ("more symbols in a block than the object has, with FEC", 10, b"\x00\x5d"),
        ("repair symbols beyond 7 of each source symbol", 12, b"\x01\x19"),
        ("FEC scheme 1 without repair symbols", 12, b"\x00\x00"),
    ):
        yield f"manifest: {name}", with_manifest(replaced(raw, at, new), CODED), "manifest"
    one = sample(64, 64, 1, "one.bin", repair_symbols=64)
    many = replaced(one.manifest.raw, 12, b"\x00\x41")
    yield "manifest: 65 repair symbols of one", with_manifest(many, one), "manifest"
    large = sample(64 * 1_025, 64, 1_024, "large.bin", repair_symbols=512)
    wide = replaced(large.manifest.raw, 10, b"\x04\x01")
    yield "manifest: 1025 symbols in a block, with FEC", with_manifest(wide, large), "manifest"
    raw = SMALL.manifest.raw
    for first, last, what in REFUSED_RANGES:
        if first < 0xD800:
            for character in sorted({first, last}):
                changed = replaced(raw, 57, chr(character).encode())
                yield (
                    f"manifest: name with U+{character:04X}, {what}",
                    with_manifest(changed),
                    "manifest",
                )
    yield "manifest: no name", with_manifest(raw[:56] + b"\0"), "manifest"
    yield "manifest: cut in the name", with_manifest(raw[:-1]), "manifest"
    yield "manifest: half an option", with_manifest(raw + b"\0\2\0"), "manifest"
    critical = with_manifest(raw + option(0x8001, b""))
    yield "manifest: unknown critical option", critical, "manifest"
    for name, value in (("17 bytes", bytes(15) + b"\1\1"), ("port 0", bytes(18))):
        endpoint = option(ManifestOption.REPAIRER, value)
        yield f"manifest: repairer with {name}", with_manifest(raw + endpoint), "manifest"
    for name, options in bad_ladders():
        yield f"manifest: {name}", with_manifest(raw + options), "manifest"
    for name, options in bad_archives():
        yield f"manifest: {name}", with_manifest(raw + options), "manifest"
    long = raw + option(1_000, bytes(MAX_MANIFEST - len(raw) - 3))
    yield "manifest: 897 bytes", with_manifest(long), "manifest"
    hollow = replaced(replaced(raw, 16, bytes(8)), 24, bytes(32))
    yield "manifest: a tree of an empty object", with_manifest(hollow, size=0), "manifest"
    yield "manifest: other size than the header", with_manifest(raw, size=999), "manifest"
    yield (
        "manifest: other symbol size than the header",
        with_manifest(raw, symbol_size=128),
        "manifest",
    )


def bad_ladders() -> Iterator[tuple[str, bytes]]:
    """Yield what is wrong and the options of channels of a manifest."""
    groups = [f"ff15::{number}" for number in range(1, 8)]
    for length in (0, 25, 27):
        yield (
            f"a channel of {length} bytes",
            option(ManifestOption.CHANNEL, channel(1, "ff15::1", 257)[4:][:length].ljust(length)),
        )
    seven = b"".join(channel(rate, group) for rate, group in enumerate(groups, 1))
    yield "seven channels", seven
    yield "a channel without a rate", channel(0, "ff15::1")
    for name, rates in (("equal", (5, 5)), ("falling", (5, 4))):
        yield (
            f"channels at {name} rates",
            channel(rates[0], "ff15::1") + channel(rates[1], "ff15::2"),
        )
    yield "one group for two channels", channel(1, "ff15::1") + channel(2, "ff15::1")
    yield "channels of two families", channel(1, "ff15::1") + channel(2, "239.0.0.1")
    yield "a channel at port 0", channel(1, "ff15::1", 0)
    for address in ("fd01::1", "192.0.2.1", "240.0.0.1", "223.255.255.255"):
        yield f"a channel at {address}, which is no group", channel(1, address)


def archive_option(entries: int, size: int) -> bytes:
    """Return the option of a manifest that says what an archive has in it."""
    return option(ManifestOption.ARCHIVE, entries.to_bytes(4) + size.to_bytes(8))


def bad_archives() -> Iterator[tuple[str, bytes]]:
    """Yield what is wrong and the options of an archive, of a manifest of 1000 bytes."""
    good = archive_option(1, 488)
    yield "an archive twice", good * 2
    for length in (0, 11, 13):
        value = good[4:][:length].ljust(length, b"\0")
        yield f"an archive of {length} bytes", option(ManifestOption.ARCHIVE, value)
    yield "an archive without members", archive_option(0, 0)
    yield "an archive of a byte more than there is", archive_option(1, 489)
    yield "an archive of more members than there is room for", archive_option(2, 0)
    yield "an archive of as many members as 32 bits have", archive_option((1 << 32) - 1, 0)
    yield "an archive of as many bytes as 64 bits have", archive_option(1, (1 << 64) - 1)


def _bad_positions() -> Iterator[tuple[str, bytes, str]]:
    """Yield SPMs whose carousel can't be where they say."""
    for name, fields in (
        ("no sectors", {"sectors": 0}),
        ("sector 2 of 2", {"sector": 2, "sectors": 2}),
        ("blocks, a group that is none", {"order": 0, "first": 2}),
        ("blocks, a group of another sector", {"order": 0, "sector": 1, "sectors": 2, "first": 0}),
        ("rounds, a visit of repair symbols", {"order": 1, "first": 3}),
        ("rounds, a visit of another sector", {"order": 1, "sectors": 2, "first": 1}),
        ("territory 2 of 2", {"order": 3, "sector": 2, "sectors": 2}),
        ("territory, a visit before it", {"order": 3, "sector": 1, "sectors": 2, "first": 2}),
        ("territory, a visit behind it", {"order": 3, "sectors": 2, "first": 3}),
        ("territory, an empty one", {"order": 3, "sectors": 8}),
    ):
        body = spm_body(CODED.manifest.raw, **fields)
        yield f"spm of a carousel: {name}", packet(0, body, **header(CODED)), "spm"
    body = spm_body(SMALL.manifest.raw, order=3)
    yield (
        "spm of a carousel: a territory of an object without repair symbols",
        packet(0, body, **header(SMALL)),
        "spm",
    )
    body = spm_body(EMPTY.manifest.raw, sector=1)
    yield (
        "spm of a carousel of an empty object: sector 1 of 1",
        packet(0, body, **header(EMPTY)),
        "spm",
    )
    fixed, raw, place = parts_of(spm_body(CODED.manifest.raw))
    reserved = fixed + raw + replaced(place, 4 + 11, b"\1")
    yield "spm of a carousel: its reserved byte", packet(0, reserved, **header(CODED)), "spm"


def bad_requests() -> Iterator[tuple[str, bytes]]:
    """Yield a name and a request that is wrong for an object of 16 symbols."""
    yield "nothing", b""
    yield "cut in its fixed part", raw_request(0, 0, b"", 0)[:7]
    yield "unknown form", raw_request(3, 0, pair(0, 1), 1)
    one = raw_request(RequestForm.COUNTS, 0, pair(0, 1), 1)
    yield "counts of an object without repair symbols", one
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
    for name, one, reason in (*malformed(), *malformed_signed()):
        case = {"name": name, "at": "receiver", "before": [], "hex": one.hex(), "reason": reason}
        is_nothing = one[3:4] == bytes(1) and one[24:32] == bytes(8)
        yield case | ({"asked": one[16:24].hex()} if is_nothing else {})

    nothing = EMPTY.spm(tsi=TSI).hex()
    facts = {"at": "receiver", "before": [], "hex": nothing, "reason": "empty"}
    yield {"name": "spm of an empty object that nobody asked for"} | facts

    def later(name: str, one: bytes, reason: str, *before: bytes) -> dict[str, Any]:
        first = known + [given.hex() for given in before]
        return {"name": name, "at": "receiver", "before": first, "hex": one.hex(), "reason": reason}

    yield later("nak at a receiver", nak(SMALL, [1]), "type")
    for name, body in bad_requests():
        yield later(f"ncf: {name}", ncf(SMALL, body), "request")
    yield later("ncf of 1233 bytes", ncf(SMALL, padded(1_233 - 48)), "request")
    other = sample(1_000, 64, 4, "other.bin")
    yield later("another object", other.odata([0], tsi=TSI)[0], "object")
    yield later("another size", packet(4, bytes(64), **header(SMALL, size=1_064)), "object")
    moved = SMALL.odata([6], tsi=TSI, esi=1)[0]
    yield later("esi of another place in the block", moved, "esi")
    odd = header(SMALL, flags=1, offset=256, esi=4)
    for name, kind in (("odata", 4), ("rdata", 5)):
        one = packet(kind, bytes(64), **odd)
        yield later(f"{name} with a repair symbol that the object does not have", one, "esi")
    before = CODED.spm(tsi=TSI)
    for name, fields in (
        ("a source symbol", {"esi": 39}),
        ("a symbol past the ring of its block", {"esi": 104}),
        ("a symbol past the ring of the last block", {"esi": 64, "offset": 2 * 40 * 64}),
        ("an offset inside the block", {"offset": 64}),
    ):
        one = packet(4, bytes(64), **header(CODED, **({"flags": 1, "esi": 40} | fields)))
        facts = {"at": "receiver", "before": [before.hex()], "hex": one.hex(), "reason": "esi"}
        yield {"name": f"repair symbol: {name}"} | facts
    one = ncf(CODED, raw_request(0, 0, pair(0, 1), 1))
    facts = {"at": "receiver", "before": [before.hex()], "hex": one.hex(), "reason": "request"}
    yield {"name": "ncf: symbols by name of an object with repair symbols"} | facts
    one = packet(4, bytes(64), **header(CODED, offset=40 * 64, esi=40))
    facts = {"at": "receiver", "before": [before.hex()], "hex": one.hex(), "reason": "esi"}
    yield {"name": "repair symbol: no flag"} | facts
    resized = packet(4, SMALL.data[:128], **header(SMALL, symbol_size=128))
    yield later("another symbol size", resized, "object")
    yield later("announcement of another object", other.spm(tsi=TSI), "object")
    yield later(
        "another manifest of the same oid",
        with_manifest(other.manifest.raw, oid=SMALL.manifest.oid),
        "manifest",
    )
    root, leaf, _ = SMALL.nodes(tsi=TSI)
    yield later("root that is not the manifest's", root[:48] + bytes(64), "tree")
    yield later("leaf that is not what the root says", leaf[:48] + bytes(64), "tree", root)
    yield later("node of another length", root[:48] + bytes(32), "tree")
    yield later("node past the last", replaced(leaf, 39, b"\3"), "tree", root)
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
    yield case("nak with its reserved word", replaced(good, 48 + 18, b"\0\1"), "request")
    fixed = good[: 48 + 20]
    yield case("nak of 1233 bytes", fixed + padded(1_233 - 68), "request")
    for name, body in bad_requests():
        yield case(f"nak: {name}", fixed + body, "request")
