"""The bodies of SPMs (spec/protocol.md sections 3.2 and 3.4).

Anybody can send them, and each is looked at: so they are parsed without construct, which builds
them and is the declaration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
import struct

from pgmlite.errors import RefusedPacket
from pgmlite.wire import derive
from pgmlite.wire.layout import (
    CRITICAL,
    HEADER,
    KEY_ID_SIZE,
    MAX_CONTROL,
    POSITION,
    REPAIRS,
    SIGNATURE,
    SIGNATURE_SIZE,
    SPM_BODY,
    Order,
    SpmOption,
)

SPM_FIXED_SIZE = sum(field.size or 0 for field in derive.fields(SPM_BODY))
"""Bytes of an SPM between the header and the options."""

_FIXED, _POSITION, _REPAIRS = map(derive.packing, (SPM_BODY, POSITION, REPAIRS))
_OPTION_HEAD = struct.Struct(">HH")

OPTION_HEAD_SIZE = _OPTION_HEAD.size
"""Bytes of an option before its value."""

MOST_OPTIONS = 32
"""Options in one SPM (spec: PKT-9)."""

MAX_SPM = MAX_CONTROL - derive.numpy_dtype(HEADER).itemsize
"""Bytes of an SPM behind the header, at most."""


@dataclass(frozen=True, slots=True)
class SpmPosition:
    """Where the carousel of a session is.

    Attributes:
        place: Symbols that it has sent since its start.
        order: An `Order`; a later version may have others.
        sector: i of i/n, 0 to n - 1.
        sectors: n of i/n.
        first: Group or visit at place 0, or what the order of visits is drawn from.
    """

    place: int
    order: int = Order.ROUNDS
    sector: int = 0
    sectors: int = 1
    first: int = 0


@dataclass(frozen=True, slots=True)
class SpmRepairs:
    """How a session takes NAKs.

    Attributes:
        nonce: What a NAK has to repeat.
        grtt: Group round-trip time, quantised (`pgmlite.core.timing`).
        gsize: Group size, quantised.
        backoff_factor: K; receivers wait up to K GRTT before a NAK.
        repair_share: Percent of the rate that repairs may take.
        repair_port: UDP port for NAKs at the sender's address.
    """

    nonce: int
    grtt: int
    gsize: int
    backoff_factor: int
    repair_share: int
    repair_port: int


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a manifest.

    Attributes:
        key_id: Which key it is said to be of (`KEY_ID_SIZE` bytes).
        value: Ed25519, of `SIGNED_CONTEXT` and the manifest.
    """

    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Spm:
    """The body of an SPM.

    Attributes:
        timestamp: Sender's monotonic clock, ns.
        rate: bit/s with IP headers; 0: not limited.
        spm_interval: Longest time to the next SPM, ms.
        manifest: The manifest's bytes.
        position: Of the carousel; None: the session has none, it only repeats what was lost.
        repairs: None: nobody listens.
        signatures: Of the manifest; they are no part of it.
    """

    timestamp: int
    rate: int
    spm_interval: int
    manifest: bytes
    position: SpmPosition | None = None
    repairs: SpmRepairs | None = None
    signatures: tuple[Signature, ...] = ()

    def build(self) -> bytes:
        """Return the body's bytes."""
        options = [{"kind": SpmOption.MANIFEST, "value": self.manifest}]
        if self.position:
            value = POSITION.build(asdict(self.position))
            options.append({"kind": SpmOption.POSITION, "value": value})
        if self.repairs:
            value = REPAIRS.build(asdict(self.repairs))
            options.append({"kind": SpmOption.REPAIRS, "value": value})
        for one in self.signatures:
            value = SIGNATURE.build({"key_id": one.key_id, "signature": one.value})
            options.append({"kind": SpmOption.SIGNATURE, "value": value})
        fixed = {name: getattr(self, name) for name in ("timestamp", "rate", "spm_interval")}
        return bytes(SPM_BODY.build(fixed | {"options": options}))


def parse_spm(body: bytes) -> Spm:
    """Parse what follows the header of an SPM.

    Raises:
        RefusedPacket: reason ``spm``.
    """
    if len(body) > MAX_SPM:
        raise RefusedPacket("spm", f"{len(body)} bytes")
    values: dict[int, bytes] = {}
    signatures: list[Signature] = []
    try:
        timestamp, rate, interval = _FIXED.unpack_from(body)
        for kind, value in _options(body):
            if kind == SpmOption.SIGNATURE:
                signatures.append(_signature(value))
                continue
            if kind in values:
                raise RefusedPacket("spm", f"option {kind:#x} twice")
            values[kind] = value
        position = _position(values.get(SpmOption.POSITION))
        repairs = _repairs(values.get(SpmOption.REPAIRS))
    except struct.error as error:
        raise RefusedPacket("spm", str(error)) from error
    if SpmOption.MANIFEST not in values:
        raise RefusedPacket("spm", "no manifest")
    manifest = values[SpmOption.MANIFEST]
    return Spm(timestamp, rate, interval, manifest, position, repairs, tuple(signatures))


def _options(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and value of the options that are known.

    Raises:
        RefusedPacket: reason ``spm``: there are too many, one is cut off, or unknown and critical.
        struct.error: One has no length.
    """
    at = _FIXED.size
    for _ in range(MOST_OPTIONS):
        if at == len(body):
            return
        kind, length = _OPTION_HEAD.unpack_from(body, at)
        start, at = at + OPTION_HEAD_SIZE, at + OPTION_HEAD_SIZE + length
        if at > len(body):
            raise RefusedPacket("spm", f"option {kind:#x} is cut off")
        if kind in SPM_OPTIONS:
            yield kind, body[start:at]
        elif kind >= CRITICAL:
            raise RefusedPacket("spm", f"option {kind:#x} is unknown and critical")
        # spec: VER-4: a later version may send several of a kind
    if at < len(body):
        raise RefusedPacket("spm", f"more than {MOST_OPTIONS} options")


def _signature(value: bytes) -> Signature:
    """
    Raises:
        RefusedPacket: reason ``spm``: it has another length.
    """
    if len(value) != KEY_ID_SIZE + SIGNATURE_SIZE:
        raise RefusedPacket("spm", f"a signature of {len(value)} bytes")
    return Signature(value[:KEY_ID_SIZE], value[KEY_ID_SIZE:])


SPM_OPTIONS = frozenset(SpmOption)


def _position(value: bytes | None) -> SpmPosition | None:
    """
    Raises:
        RefusedPacket: reason ``spm``: what is reserved is not 0.
        struct.error: It has another length.
    """
    if value is None:
        return None
    place, order, sector, sectors, reserved, first = _POSITION.unpack(value)
    if reserved:
        raise RefusedPacket("spm", f"reserved {reserved}")
    return SpmPosition(place, order, sector, sectors, first)


def _repairs(value: bytes | None) -> SpmRepairs | None:
    """
    Raises:
        RefusedPacket: reason ``spm``: it names no port.
        struct.error: It has another length.
    """
    if value is None:
        return None
    repairs = SpmRepairs(*_REPAIRS.unpack(value))
    if not repairs.repair_port:
        raise RefusedPacket("spm", "NAKs to port 0")
    return repairs
