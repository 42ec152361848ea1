"""The variable parts: SPM bodies and manifests, parsed by construct into checked dataclasses.

spec/protocol.md sections 3.2 to 3.4.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from functools import cached_property

from blake3 import blake3
from construct import ConstructError

from pgmlite.errors import ObjectError, RefusedPacket
from pgmlite.wire import derive
from pgmlite.wire.layout import (
    DIGEST_SIZE,
    MANIFEST,
    MAX_BLOCK_SYMBOLS,
    MAX_MANIFEST,
    MAX_SYMBOL_SIZE,
    MIN_SYMBOL_SIZE,
    SPM_BODY,
    SYMBOL_ALIGNMENT,
    DigestAlgorithm,
    Extension,
    FecScheme,
)

SPM_FIXED_SIZE = sum(field.size or 0 for field in derive.fields(SPM_BODY))
"""Bytes of an SPM between the header and the manifest."""

REPAIRS_ONLY = 100
"""The repair share of a stand-alone repairer, percent."""

MAPPED_IPV4 = bytes(10) + b"\xff\xff"
ENDPOINT_SIZE = 18
CRITICAL_EXTENSION = 0x8000
MANIFEST_MAGIC = b"PGLM"
MAX_NAME = 255
MAX_OBJECT_SIZE = (1 << 63) - 1
"""Offsets stay exact in signed 64-bit arithmetic."""


def digest(data: bytes | memoryview) -> bytes:
    """Return the BLAKE3-256 digest of `data`, 32 bytes."""
    return blake3(data).digest()


def is_symbol_size(value: int) -> bool:
    """Whether `value` bytes may be a symbol size."""
    return MIN_SYMBOL_SIZE <= value <= MAX_SYMBOL_SIZE and value % SYMBOL_ALIGNMENT == 0


def is_link_local(address: str) -> bool:
    """Whether an IPv4 or IPv6 address means something on one link only."""
    return ipaddress.ip_address(address).is_link_local


def object_name(file_name: str) -> str:
    """Return a manifest name for `file_name`: printable, at most 255 bytes of UTF-8, not empty."""
    # A receiver prints the name: control characters would reach its terminal.
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in file_name)
    return printable.encode()[:MAX_NAME].decode(errors="ignore") or "object"


@dataclass(frozen=True)
class Manifest:
    """What an object is; immutable, and named by its digest (spec: MAN-1 to MAN-4).

    Attributes:
        symbol_size: Bytes in a symbol.
        block_symbols: Source symbols in every block but the last, which may be shorter.
        size: Bytes in the object.
        index_digest: BLAKE3-256 of the index, which holds the digest of every block.
    """

    symbol_size: int
    block_symbols: int
    size: int
    index_digest: bytes
    name: str
    repairers: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of repairers that receivers may ask."""

    @cached_property
    def raw(self) -> bytes:
        """The manifest's bytes on the wire."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return bytes(
            MANIFEST.build(
                values
                | {
                    "digest_algorithm": DigestAlgorithm.BLAKE3_256,
                    "fec_scheme": FecScheme.NONE,
                    "extensions": [
                        {"kind": Extension.REPAIRER, "value": _pack_endpoint(endpoint)}
                        for endpoint in self.repairers
                    ],
                }
            )
        )

    @cached_property
    def oid(self) -> int:
        """The object identifier: the first 8 bytes of the manifest's digest, big-endian."""
        # spec: MAN-2
        return manifest_oid(self.raw)

    @property
    def symbols(self) -> int:
        """Source symbols in the object."""
        return -(-self.size // self.symbol_size)

    @property
    def block_size(self) -> int:
        """Bytes in every block but the last."""
        return self.symbol_size * self.block_symbols

    @property
    def blocks(self) -> int:
        """Source blocks in the object."""
        return -(-self.size // self.block_size)

    @property
    def index_size(self) -> int:
        """Bytes in the index: one digest a block."""
        return self.blocks * DIGEST_SIZE

    @property
    def index_packets(self) -> int:
        """INDEX packets that carry the index once."""
        return -(-self.index_size // self.symbol_size)


def manifest_oid(raw: bytes) -> int:
    """Return the object identifier of a manifest's bytes."""
    return int.from_bytes(digest(raw)[:8], "big")


def _pack_endpoint(endpoint: tuple[str, int]) -> bytes:
    address = ipaddress.ip_address(endpoint[0])
    packed = address.packed if address.version == 6 else MAPPED_IPV4 + address.packed
    return packed + endpoint[1].to_bytes(2, "big")


def _unpack_endpoint(value: bytes) -> tuple[str, int]:
    """Return address and port.

    Raises:
        ObjectError: It has another length, or port 0.
    """
    port = int.from_bytes(value[16:], "big")
    if len(value) != ENDPOINT_SIZE or not port:
        raise ObjectError("manifest: an endpoint of a repairer is malformed")
    address = ipaddress.IPv6Address(value[:16])
    return str(address.ipv4_mapped or address), port


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
    # construct lets unknown enum values pass: every value is checked here.
    if parsed.digest_algorithm != DigestAlgorithm.BLAKE3_256:
        raise ObjectError(f"manifest: digest algorithm {parsed.digest_algorithm} is unknown")
    if parsed.fec_scheme != FecScheme.NONE:
        raise ObjectError(f"manifest: FEC scheme {parsed.fec_scheme} is unknown")
    if not is_symbol_size(parsed.symbol_size):
        raise ObjectError(f"manifest: symbol size {parsed.symbol_size} is not allowed")
    if not 1 <= parsed.block_symbols <= MAX_BLOCK_SYMBOLS:
        raise ObjectError(f"manifest: {parsed.block_symbols} symbols a block is not allowed")
    if parsed.size > MAX_OBJECT_SIZE:
        raise ObjectError(f"manifest: object size {parsed.size} is not allowed")
    if not parsed.name or not parsed.name.isprintable():
        raise ObjectError("manifest: the name is empty or has control characters")
    for extension in parsed.extensions:
        if extension.kind >= CRITICAL_EXTENSION:
            raise ObjectError(f"manifest: extension {extension.kind:#x} is unknown and critical")
    repairers = tuple(
        endpoint
        for extension in parsed.extensions
        if extension.kind == Extension.REPAIRER
        # spec: MAN-6
        if not is_link_local((endpoint := _unpack_endpoint(extension.value))[0])
    )
    plain = {f.name: parsed[f.name] for f in fields(Manifest) if f.name != "repairers"}
    manifest = Manifest(**plain, repairers=repairers)
    # What was parsed is what gets hashed and passed on, extensions included.
    manifest.__dict__["raw"] = raw
    return manifest


@dataclass(frozen=True, slots=True)
class Spm:
    """The body of an SPM.

    Attributes:
        timestamp: Sender's monotonic clock, ns.
        rate: bit/s with IP headers; 0: not limited.
        cycle: Whole cycles sent since the sender's start.
        spm_interval: Longest time to the next SPM, ms.
        manifest: The manifest's bytes.
        nonce: What a NAK has to repeat.
        grtt: Group round-trip time, quantised (`pgmlite.core.timing`).
        gsize: Group size, quantised.
        backoff_factor: K; receivers wait up to K GRTT before a NAK.
        repair_share: Percent of the rate that repairs may take.
        repair_port: UDP port for NAKs at the sender's address; 0: nobody listens.
    """

    timestamp: int
    rate: int
    cycle: int
    spm_interval: int
    manifest: bytes
    nonce: int = 0
    grtt: int = 0
    gsize: int = 0
    backoff_factor: int = 0
    repair_share: int = 0
    repair_port: int = 0

    @property
    def has_carousel(self) -> bool:
        """Whether the session sends the object, and does not only repeat what was lost of it."""
        return self.repair_share < REPAIRS_ONLY

    def build(self) -> bytes:
        """Return the body's bytes."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return bytes(SPM_BODY.build(values | {"manifest_size": len(self.manifest)}))


def parse_spm(body: bytes) -> Spm:
    """Parse what follows the header of an SPM.

    Raises:
        RefusedPacket: reason ``spm``.
    """
    try:
        parsed = SPM_BODY.parse(body)
    except ConstructError as error:
        raise RefusedPacket("spm", " ".join(str(error).split())) from error
    return Spm(**{name: parsed[name] for name in Spm.__slots__})
