"""Manifests: what an object is, parsed by construct into a checked dataclass.

spec/protocol.md section 3.3.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

from construct import ConstructError

from pgmlite.errors import ObjectError
from pgmlite.wire.digests import TreeShape, digest
from pgmlite.wire.endpoint import Endpoint, ip_version
from pgmlite.wire.geometry import Geometry, most_repairs, most_tile_blocks, pieces
from pgmlite.wire.layout import (
    ARCHIVE,
    ARCHIVE_RECORD,
    CRITICAL,
    DIGEST_SIZE,
    MANIFEST,
    MAX_BLOCK_SYMBOLS,
    MAX_FEC_BLOCK_SYMBOLS,
    MAX_MANIFEST,
    MAX_STREAM,
    MAX_SYMBOL_SIZE,
    MIN_SYMBOL_SIZE,
    MOST_CHANNELS,
    RELEASE,
    STRIP_SYMBOLS,
    SYMBOL_ALIGNMENT,
    TILE_BLOCKS,
    DigestAlgorithm,
    FecScheme,
    ManifestOption,
)

MAPPED_IPV4 = bytes(10) + b"\xff\xff"


ENDPOINT_SIZE = 18


RATE_SIZE = 8


MANIFEST_MAGIC = b"PGLM"


MAX_NAME = 255


REFUSED_RANGES = (
    (0x0000, 0x001F, "C0 controls"),
    (0x007F, 0x009F, "DEL and C1 controls"),
    (0x061C, 0x061C, "direction of text: ALM"),
    (0x200E, 0x200F, "direction of text: LRM, RLM"),
    (0x2028, 0x2029, "line and paragraph separators"),
    (0x202A, 0x202E, "direction of text: embeddings and overrides"),
    (0x2066, 0x2069, "direction of text: isolates"),
    (0xD800, 0xDFFF, "surrogates, which UTF-8 does not have"),
)
"""First and last of the characters that a name may not have, and what they are. A closed list:
another version of Unicode changes nothing (spec: MAN-5)."""


REFUSED_CHARACTERS = re.compile(
    "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last, _ in REFUSED_RANGES) + "]"
)


MAX_OBJECT_SIZE = (1 << 63) - 1
"""Offsets stay exact in signed 64-bit arithmetic."""


def is_symbol_size(value: int) -> bool:
    """Whether `value` bytes may be a symbol size."""
    return MIN_SYMBOL_SIZE <= value <= MAX_SYMBOL_SIZE and value % SYMBOL_ALIGNMENT == 0


def is_link_local(address: str) -> bool:
    """Whether an IPv4 or IPv6 address means something on one link only."""
    return ipaddress.ip_address(address).is_link_local


def object_name(file_name: str) -> str:
    """Return a manifest name for `file_name`: allowed, at most 255 bytes of UTF-8, not empty."""
    # A receiver prints the name: control characters would reach its terminal.
    allowed = REFUSED_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", file_name)
    return allowed.encode()[:MAX_NAME].decode(errors="ignore") or "object"


@dataclass(frozen=True, slots=True)
class Rung:
    """One channel of an object's ladder: its rate, and where it is heard.

    Attributes:
        rate: bit/s, IP headers included.
        group: Multicast group and UDP port.
    """

    rate: int
    group: Endpoint


@dataclass(frozen=True, slots=True)
class Release:
    """What a signed object is among others (spec: MAN-8).

    Attributes:
        stream: Which product or branch it is of.
        number: Higher ones of a stream replace lower ones.
        created: When it was signed, seconds since 1970 (UTC).
        expires: When it is taken no more, likewise; 0: never.
    """

    stream: str
    number: int
    created: int = 0
    expires: int = 0


@dataclass(frozen=True, slots=True)
class Archive:
    """What an object that is the archive of a folder has in it (spec: MAN-9).

    Attributes:
        entries: Members, the folder itself among them.
        size: Bytes in all its files.
    """

    entries: int
    size: int


@dataclass(frozen=True)
class Manifest:
    """What an object is; immutable, and named by its digest (spec: MAN-1 to MAN-4).

    Attributes:
        symbol_size: Bytes in a symbol.
        block_symbols: Source symbols in every block but the last, which may be shorter.
        size: Bytes in the object.
        tree_digest: Digest of the root of the tree of blocks, which holds the digest of every
            block; that of nothing for an empty object.
    """

    symbol_size: int
    block_symbols: int
    size: int
    tree_digest: bytes
    name: str
    repairers: tuple[Endpoint, ...] = ()
    """Addresses and ports of repairers that receivers may ask."""

    repair_symbols: int = 0
    """M, repair symbols of a full block; 0: the object has none."""

    tile_blocks: int = 1
    """Blocks that carousels send symbol by symbol in turn."""

    ladder: tuple[Rung, ...] = ()
    """The channels by number, at rising rates; none: there is one, wherever it is heard."""

    release: Release | None = None
    """What it is among the objects of a stream; None, as `tiles_digest`: it is not made to be
    signed."""

    tiles_digest: bytes | None = None
    """Digest of the root of the tree of tiles (`pgmlite.core.tiles`)."""

    archive: Archive | None = None
    """What the archive has in it that the object is; None: the object is a file."""

    @cached_property
    def raw(self) -> bytes:
        """The manifest's bytes on the wire."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return bytes(
            MANIFEST.build(
                values
                | {
                    "digest_algorithm": DigestAlgorithm.BLAKE3_256,
                    "fec_scheme": (
                        FecScheme.PRECODED_RLC if self.repair_symbols else FecScheme.NONE
                    ),
                    "strip_symbols": STRIP_SYMBOLS,
                    "options": [{"kind": kind, "value": value} for kind, value in self._options()],
                }
            )
        )

    def _options(self) -> Iterator[tuple[ManifestOption, bytes]]:
        for endpoint in self.repairers:
            yield ManifestOption.REPAIRER, _pack_endpoint(endpoint)
        for rung in self.ladder:
            yield ManifestOption.CHANNEL, _pack_rung(rung)
        if self.release:
            yield ManifestOption.RELEASE, bytes(RELEASE.build(asdict(self.release)))
        if self.tiles_digest is not None:
            yield ManifestOption.TILES, self.tiles_digest
        if self.archive:
            yield ManifestOption.ARCHIVE, bytes(ARCHIVE.build(asdict(self.archive)))

    @cached_property
    def oid(self) -> int:
        """The object identifier: the first 8 bytes of the manifest's digest, big-endian."""
        # spec: MAN-2
        return manifest_oid(self.raw)

    @cached_property
    def geometry(self) -> Geometry:
        """Where everything of the object is."""
        return Geometry(
            self.size,
            self.symbol_size,
            self.block_symbols,
            self.repair_symbols,
            self.tile_blocks,
        )

    @property
    def symbols(self) -> int:
        """Source symbols in the object."""
        return self.geometry.symbols

    @property
    def block_size(self) -> int:
        """Bytes in every block but the last."""
        return self.geometry.block_size

    @property
    def blocks(self) -> int:
        """Source blocks in the object."""
        return self.geometry.blocks

    @cached_property
    def tree(self) -> TreeShape:
        """The shape of the tree of blocks."""
        return TreeShape(self.blocks, self.symbol_size)


def manifest_oid(raw: bytes) -> int:
    """Return the object identifier of a manifest's bytes."""
    return int.from_bytes(digest(raw)[:8], "big")


def _pack_endpoint(endpoint: Endpoint) -> bytes:
    address = ipaddress.ip_address(endpoint[0])
    packed = address.packed if address.version == 6 else MAPPED_IPV4 + address.packed
    return packed + endpoint[1].to_bytes(2, "big")


def _unpack_endpoint(value: bytes) -> Endpoint:
    """Return address and port.

    Raises:
        ObjectError: It has another length, or port 0.
    """
    port = int.from_bytes(value[16:], "big")
    if len(value) != ENDPOINT_SIZE or not port:
        raise ObjectError("manifest: an address and port are malformed")
    address = ipaddress.IPv6Address(value[:16])
    return Endpoint(str(address.ipv4_mapped or address), port)


def _pack_rung(rung: Rung) -> bytes:
    return rung.rate.to_bytes(RATE_SIZE, "big") + _pack_endpoint(rung.group)


def _unpack_ladder(values: Sequence[bytes]) -> tuple[Rung, ...]:
    """Return the ladder of an object (spec: MAN-7).

    Raises:
        ObjectError: It is none that a receiver can climb.
    """
    ladder = tuple(
        Rung(int.from_bytes(value[:RATE_SIZE], "big"), _unpack_endpoint(value[RATE_SIZE:]))
        for value in values
    )
    if len(ladder) > MOST_CHANNELS:
        raise ObjectError(f"manifest: {len(ladder)} channels, at most {MOST_CHANNELS} are allowed")
    if any(low.rate >= high.rate for low, high in pairwise(ladder)):
        raise ObjectError("manifest: the rates of its channels do not rise")
    groups = {rung.group for rung in ladder}
    families = {ip_version(group.address) for group in groups}
    if len(groups) < len(ladder) or len(families) > 1:
        raise ObjectError("manifest: two channels are one, or of two kinds of IP addresses")
    if ladder and not ladder[0].rate:
        raise ObjectError("manifest: a channel has no rate")
    if not all(ipaddress.ip_address(group.address).is_multicast for group in groups):
        raise ObjectError("manifest: a channel is not a multicast group")
    return ladder


def _check_manifest(parsed: Any) -> None:
    """
    Raises:
        ObjectError: A value is none that we know, or that may be.
    """
    # construct lets unknown enum values pass: every value is checked here.
    if parsed.digest_algorithm != DigestAlgorithm.BLAKE3_256:
        raise ObjectError(f"manifest: digest algorithm {parsed.digest_algorithm} is unknown")
    if parsed.fec_scheme not in tuple(FecScheme):
        raise ObjectError(f"manifest: FEC scheme {parsed.fec_scheme} is unknown")
    if not is_symbol_size(parsed.symbol_size):
        raise ObjectError(f"manifest: symbol size {parsed.symbol_size} is not allowed")
    if not 1 <= parsed.block_symbols <= MAX_BLOCK_SYMBOLS:
        raise ObjectError(f"manifest: {parsed.block_symbols} symbols a block is not allowed")
    if parsed.size > MAX_OBJECT_SIZE:
        raise ObjectError(f"manifest: object size {parsed.size} is not allowed")
    if not parsed.size and parsed.tree_digest != digest(b""):
        raise ObjectError("manifest: the object is empty, its tree is not")
    _check_repairs(parsed)
    if parsed.strip_symbols != STRIP_SYMBOLS:
        raise ObjectError(f"manifest: {parsed.strip_symbols} symbols a strip is not allowed")
    if not parsed.name or REFUSED_CHARACTERS.search(parsed.name):
        raise ObjectError("manifest: the name is empty or has characters that are refused")
    for option in parsed.options:
        if option.kind >= CRITICAL:
            raise ObjectError(f"manifest: option {option.kind:#x} is unknown and critical")


def _check_repairs(parsed: Any) -> None:
    """
    Raises:
        ObjectError: The sizes are none that the FEC scheme has.
    """
    # spec: FEC-1
    if not 1 <= parsed.tile_blocks <= TILE_BLOCKS:
        raise ObjectError(f"manifest: tiles of {parsed.tile_blocks} blocks are not allowed")
    count = parsed.repair_symbols
    if parsed.fec_scheme == FecScheme.NONE:
        if count:
            raise ObjectError(f"manifest: {count} repair symbols without a FEC scheme")
        return
    most = min(MAX_FEC_BLOCK_SYMBOLS, max(1, pieces(parsed.size, parsed.symbol_size)))
    if parsed.block_symbols > most:
        raise ObjectError(
            f"manifest: {parsed.block_symbols} symbols a block, with repair symbols at most {most}"
        )
    if not 1 <= count <= most_repairs(parsed.block_symbols):
        raise ObjectError(
            f"manifest: {count} repair symbols for {parsed.block_symbols} are not allowed"
        )


def _only(parsed: Any, kind: ManifestOption) -> bytes | None:
    """Return the value of an option of which there is one, or none.

    Raises:
        ObjectError: There are several.
    """
    values = [option.value for option in parsed.options if option.kind == kind]
    if len(values) > 1:
        raise ObjectError(f"manifest: option {kind:#06x} {len(values)} times")
    return values[0] if values else None


def _unpack_release(value: bytes | None) -> Release | None:
    """
    Raises:
        ObjectError: It is none that an object can have.
    """
    # spec: MAN-8
    if value is None:
        return None
    try:
        parsed = RELEASE.parse(value)
    except (ConstructError, UnicodeDecodeError) as error:
        raise ObjectError("manifest: the release does not parse") from error
    size = len(parsed.stream.encode())
    if not 1 <= size <= MAX_STREAM or REFUSED_CHARACTERS.search(parsed.stream):
        raise ObjectError(
            "manifest: the stream's name is empty, too long or has characters that are refused"
        )
    if parsed.expires and parsed.expires <= parsed.created:
        raise ObjectError("manifest: the release expires before it was created")
    return Release(parsed.stream, parsed.number, parsed.created, parsed.expires)


def _check_tiles(parsed: Any, release: Release | None, tiles: bytes | None) -> None:
    """
    Raises:
        ObjectError: Its tiles are none that a leaf has room for.
    """
    # spec: MAN-8
    if (release is None) != (tiles is None):
        raise ObjectError("manifest: a release without tiles, or tiles without one")
    if tiles is None:
        return
    if len(tiles) != DIGEST_SIZE:
        raise ObjectError(f"manifest: a digest of tiles of {len(tiles)} bytes")
    if not parsed.size and tiles != digest(b""):
        raise ObjectError("manifest: the object is empty, its tiles are not")
    if parsed.tile_blocks > most_tile_blocks(parsed.symbol_size):
        raise ObjectError(
            f"manifest: no leaf of {parsed.symbol_size} bytes has room for tiles of "
            f"{parsed.tile_blocks} blocks"
        )


def _unpack_archive(value: bytes | None, size: int) -> Archive | None:
    """Return what an archive of `size` bytes has in it; None: it is none.

    Raises:
        ObjectError: No archive of that size has as much in it.
    """
    # spec: MAN-9
    if value is None:
        return None
    try:
        parsed = ARCHIVE.parse(value)
    except ConstructError as error:
        raise ObjectError("manifest: the archive does not parse") from error
    if not parsed.entries or parsed.entries * ARCHIVE_RECORD + parsed.size > size:
        raise ObjectError(
            f"manifest: no archive of {size} bytes has {parsed.entries} members of "
            f"{parsed.size} bytes"
        )
    return Archive(parsed.entries, parsed.size)


def parse_manifest(raw: bytes) -> Manifest:
    """Parse and check a manifest; `raw` may come from anywhere.

    Raises:
        ObjectError: It is not a valid manifest; the message says what is wrong.
    """
    if len(raw) > MAX_MANIFEST:
        raise ObjectError(f"manifest of {len(raw)} bytes: at most {MAX_MANIFEST} are allowed")
    try:
        parsed = MANIFEST.parse(raw)
    except (ConstructError, UnicodeDecodeError) as error:
        raise ObjectError(f"manifest does not parse: {' '.join(str(error).split())}") from error
    _check_manifest(parsed)
    repairers = tuple(
        endpoint
        for option in parsed.options
        if option.kind == ManifestOption.REPAIRER
        # spec: MAN-6
        if not is_link_local((endpoint := _unpack_endpoint(option.value))[0])
    )
    ladder = _unpack_ladder(
        [option.value for option in parsed.options if option.kind == ManifestOption.CHANNEL]
    )
    plain = {f.name: parsed[f.name] for f in fields(Manifest) if f.name in parsed}
    release = _unpack_release(_only(parsed, ManifestOption.RELEASE))
    tiles = _only(parsed, ManifestOption.TILES)
    _check_tiles(parsed, release, tiles)
    manifest = Manifest(
        **plain,
        repairers=repairers,
        ladder=ladder,
        release=release,
        tiles_digest=tiles,
        archive=_unpack_archive(_only(parsed, ManifestOption.ARCHIVE), parsed.size),
    )
    # What was parsed is what gets hashed and passed on, options included.
    manifest.__dict__["raw"] = raw
    return manifest
