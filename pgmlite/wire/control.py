"""The variable parts: SPM bodies and manifests, parsed by construct into checked dataclasses.

spec/protocol.md sections 3.2 to 3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

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
    SIGNED_CONTEXT,
    SPM_BODY,
    Order,
    SpmOption,
)

SPM_FIXED = derive.Integers(SPM_BODY)
SPM_FIXED_SIZE = SPM_FIXED.size
"""Bytes of an SPM between the header and the options."""

OPTION_HEAD = struct.Struct(">HH")
"""Kind and length of an option, as `OPTION` declares them."""

OPTION_HEAD_SIZE = OPTION_HEAD.size
"""Bytes of an option before its value."""

POSITION_FIELDS = derive.Integers(POSITION)
REPAIRS_FIELDS = derive.Integers(REPAIRS)

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
        value: Ed25519, of `message_of` the manifest.
    """

    key_id: bytes
    value: bytes


def message_of(manifest: bytes) -> bytes:
    """Return what is signed of a manifest (spec: SIG-1)."""
    return SIGNED_CONTEXT + manifest


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
    fixed = SPM_FIXED.read(body)
    if fixed is None:
        raise RefusedPacket("spm", "cut off")
    values: dict[int, bytes] = {}
    signatures: list[Signature] = []
    for kind, value in _options(body, SPM_FIXED.size):
        if kind not in SPM_OPTIONS:
            if kind >= CRITICAL:
                raise RefusedPacket("spm", f"option {kind:#x} is unknown and critical")
            continue  # spec: VER-4: a later version may send several of a kind
        if kind == SpmOption.SIGNATURE:
            signatures.append(_signature(value))
            continue
        if kind in values:
            raise RefusedPacket("spm", f"option {kind:#x} twice")
        values[kind] = value
    if SpmOption.MANIFEST not in values:
        raise RefusedPacket("spm", "no manifest")
    position = _option(POSITION_FIELDS, SpmPosition, values.get(SpmOption.POSITION))
    repairs = _option(REPAIRS_FIELDS, SpmRepairs, values.get(SpmOption.REPAIRS))
    if repairs and not repairs.repair_port:
        raise RefusedPacket("spm", "NAKs to port 0")
    return Spm(
        fixed["timestamp"],
        fixed["rate"],
        fixed["spm_interval"],
        values[SpmOption.MANIFEST],
        position,
        repairs,
        tuple(signatures),
    )


def _options(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield kind and value of each option from `at` to the end.

    Raises:
        RefusedPacket: reason ``spm``: one is cut off, or there are too many.
    """
    # Not by construct: whatever a stranger sends as an SPM is parsed, and should not cost more
    # than a packet of data.
    end = len(body)
    for _ in range(MOST_OPTIONS):
        if at == end:
            return
        start = at + OPTION_HEAD_SIZE
        if start > end:
            raise RefusedPacket("spm", "an option is cut off")
        kind, length = OPTION_HEAD.unpack_from(body, at)
        at = start + length
        if at > end:
            raise RefusedPacket("spm", "an option is cut off")
        yield kind, body[start:at]
    if at < end:
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
_Option = TypeVar("_Option", SpmPosition, SpmRepairs)


def _option(declared: derive.Integers, made: type[_Option], value: bytes | None) -> _Option | None:
    """Return the dataclass of an option's value.

    Raises:
        RefusedPacket: reason ``spm``: it has another length, or a reserved field is not 0.
    """
    if value is None:
        return None
    parsed = declared.read(value) if len(value) == declared.size else None
    if parsed is None:
        raise RefusedPacket("spm", f"an option of {len(value)} bytes")
    return made(**{name: parsed[name] for name in made.__slots__})
