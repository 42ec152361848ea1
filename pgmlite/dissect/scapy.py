"""A scapy layer for every packet, made from the construct declaration.

    from pgmlite.scapy import *

Needs scapy, from the extra ``captures``. UDP ports 28775 and, for NAKs, 28776 are bound; for others
use scapy's ``bind_layers(UDP, Pgmlite, dport=...)``. Fields have the names of the specification,
but for the manifest's ``name``, which scapy has another use for: it is ``file_name``. Values are
shown as they are on the wire and not judged.
"""

from __future__ import annotations

from typing import Any, ClassVar

from scapy.fields import (
    ByteEnumField,
    ByteField,
    ConditionalField,
    FieldLenField,
    IntField,
    LongField,
    MultipleTypeField,
    PacketLenField,
    PacketListField,
    ShortEnumField,
    ShortField,
    StrFixedLenField,
    StrLenField,
    XLongField,
    XShortField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet, Raw, bind_bottom_up, bind_layers

from pgmlite.wire import layout
from pgmlite.wire.derive import STRUCTS, fields
from pgmlite.wire.layout import ManifestOption, PacketType, RequestForm, SpmOption

__all__ = [
    "Pgmlite",
    "PgmliteArchive",
    "PgmliteCount",
    "PgmliteManifest",
    "PgmliteManifestOption",
    "PgmliteNAK",
    "PgmlitePosition",
    "PgmliteRange",
    "PgmliteRelease",
    "PgmliteRepairs",
    "PgmliteRequest",
    "PgmliteSPM",
    "PgmliteSPMOption",
    "PgmliteSignature",
]

PORT = 28_775
NAK_PORT = 28_776

AnyField = Any

INTEGERS: dict[int, Any] = {1: ByteField, 2: ShortField, 4: IntField, 8: LongField}
ENUMS: dict[int, Any] = {1: ByteEnumField, 2: ShortEnumField}
HEXADECIMAL = {"magic", "tsi", "oid", "nonce", "key_id"}
"""Fields whose digits mean nothing as a number."""


def _derived(struct: str, **special: list[AnyField]) -> list[AnyField]:
    """Return the scapy fields of a declared struct.

    Args:
        special: What stands for the fields whose length varies, or that others depend on.
    """
    found: list[AnyField] = []
    for field in fields(STRUCTS[struct]):
        name, size, default = field.name, field.size, field.constant
        if name in special:
            found += special[name]
        elif (struct, name) in layout.ENUMS:
            names = {one.value: one.name for one in layout.ENUMS[struct, name]}
            found.append(ENUMS[size or 0](name, default or min(names), names))
        elif size in INTEGERS and not isinstance(default, bytes):
            kind = INTEGERS[size]
            if name in HEXADECIMAL:
                kind = XShortField if size == 2 else XLongField
            found.append(kind(name, default or 0))
        elif size is not None:
            content = default if isinstance(default, bytes) else bytes(size)
            found.append(StrFixedLenField(name, content, size))
        else:
            raise ValueError(f"{struct}.{name}: nothing stands for it")
    return found


class _Item(Packet):
    """One of a list: what follows it belongs to the next."""

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes | None]:
        """Return no payload, and all that is left."""
        return b"", s


def _option(kinds: str, kind: int) -> list[AnyField]:
    """Return kind and length of an option of an SPM or a manifest."""
    names = {one.value: one.name for one in layout.ENUMS[kinds, "kind"]}
    return [
        ShortEnumField("kind", kind, names),
        FieldLenField("length", None, length_of="value", fmt="!H"),
    ]


def _value(parts: dict[int, type[_Item]]) -> AnyField:
    """Return the value of an option: what `parts` has for its kind, else bytes."""
    return MultipleTypeField(
        [
            (
                PacketLenField("value", part(), part, length_from=lambda packet: packet.length),
                # A default argument, or each would ask for the last one's kind.
                lambda packet, kind=kind: packet.kind == kind,
            )
            for kind, part in parts.items()
        ],
        StrLenField("value", b"", length_from=lambda packet: packet.length),
    )


class PgmliteRelease(_Item):
    """The release of a signed object."""

    name = "release"
    fields_desc = _derived(
        "release",
        stream=[
            FieldLenField("stream_length", None, length_of="stream", fmt="B"),
            StrLenField("stream", b"stream", length_from=lambda packet: packet.stream_length),
        ],
    )


class PgmliteArchive(_Item):
    """What the archive of a folder has in it."""

    name = "archive"
    fields_desc = _derived("archive")


class PgmliteManifestOption(_Item):
    """An option of a manifest."""

    name = "option"
    fields_desc: ClassVar[list[AnyField]] = [
        *_option("manifest.option", ManifestOption.REPAIRER),
        _value({ManifestOption.RELEASE: PgmliteRelease, ManifestOption.ARCHIVE: PgmliteArchive}),
    ]


class PgmliteManifest(_Item):
    """The manifest in an SPM."""

    name = "manifest"
    fields_desc = _derived(
        "manifest",
        tile_blocks=[ByteField("tile_blocks", 1)],
        strip_symbols=[ShortField("strip_symbols", layout.STRIP_SYMBOLS)],
        name=[
            FieldLenField("name_length", None, length_of="file_name", fmt="B"),
            StrLenField("file_name", b"object", length_from=lambda packet: packet.name_length),
        ],
        options=[PacketListField("options", [], PgmliteManifestOption)],
    )


class PgmlitePosition(_Item):
    """Where the carousel of a session is."""

    name = "position"
    fields_desc = _derived("position", sectors=[ByteField("sectors", 1)])


class PgmliteRepairs(_Item):
    """How a session takes NAKs."""

    name = "repairs"
    fields_desc = _derived("repairs")


class PgmliteSignature(_Item):
    """A signature of the manifest beside it."""

    name = "signature"
    fields_desc = _derived("signature")


PARTS: dict[int, type[_Item]] = {
    SpmOption.MANIFEST: PgmliteManifest,
    SpmOption.POSITION: PgmlitePosition,
    SpmOption.REPAIRS: PgmliteRepairs,
    SpmOption.SIGNATURE: PgmliteSignature,
}
"""What the values of the options of an SPM are; of others they are bytes."""


class PgmliteSPMOption(_Item):
    """An option of an SPM."""

    name = "option"
    fields_desc: ClassVar[list[AnyField]] = [
        *_option("spm.option", SpmOption.MANIFEST),
        _value(PARTS),
    ]


class PgmliteSPM(Packet):
    """What follows the header of an SPM."""

    name = "pgmlite SPM"
    fields_desc = _derived("spm", options=[PacketListField("options", [], PgmliteSPMOption)])


class PgmliteRange(_Item):
    """A range of a request: first symbol minus base, and how many."""

    name = "range"
    fields_desc = _derived("range")


class PgmliteCount(_Item):
    """A count of a request: so many symbols of a block."""

    name = "count"
    fields_desc = _derived("count")


class PgmliteRequest(Packet):
    """A request: all that follows the header of an NCF, and the end of a NAK."""

    name = "pgmlite request"
    fields_desc = _derived(
        "request",
        count=[ShortField("count", None)],
        items=[
            ConditionalField(
                PacketListField("ranges", [], PgmliteRange, count_from=lambda packet: packet.count),
                lambda packet: packet.form == RequestForm.RANGES,
            ),
            ConditionalField(
                StrLenField("bitmap", b"", length_from=lambda packet: packet.count),
                lambda packet: packet.form == RequestForm.BITMAP,
            ),
            ConditionalField(
                PacketListField("counts", [], PgmliteCount, count_from=lambda packet: packet.count),
                lambda packet: packet.form == RequestForm.COUNTS,
            ),
        ],
    )

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Fill `count` in where it was left open."""
        if self.count is None:
            items = {
                RequestForm.RANGES: self.ranges,
                RequestForm.BITMAP: self.bitmap,
                RequestForm.COUNTS: self.counts,
            }.get(self.form)
            pkt = pkt[:2] + len(items or ()).to_bytes(2, "big") + pkt[4:]
        return pkt + pay


class PgmliteNAK(Packet):
    """What follows the header of a NAK, up to its request."""

    name = "pgmlite NAK"
    fields_desc = _derived("nak", request=[])


class Pgmlite(Packet):
    """The header of every packet."""

    name = "pgmlite"
    fields_desc = _derived("header")

    @classmethod
    def dispatch_hook(cls, _pkt: bytes = b"", *_: Any, **__: Any) -> type[Packet]:
        """Leave alone what is no packet of this version."""
        start = layout.MAGIC.to_bytes(2, "big") + bytes([layout.VERSION])
        if _pkt and (len(_pkt) < layout.HEADER.sizeof() or not _pkt.startswith(start)):
            return Raw
        return cls

    def mysummary(self) -> str:
        """Return a line for lists of packets."""
        return self.sprintf("pgmlite %type% tsi %tsi% sqn %sqn% offset %offset%")


bind_layers(UDP, Pgmlite, sport=PORT, dport=PORT)
bind_bottom_up(UDP, Pgmlite, dport=PORT)
bind_bottom_up(UDP, Pgmlite, dport=NAK_PORT)
bind_layers(Pgmlite, PgmliteSPM, type=PacketType.SPM)
bind_layers(Pgmlite, PgmliteRequest, type=PacketType.NCF)
bind_layers(Pgmlite, PgmliteNAK, type=PacketType.NAK)
bind_layers(PgmliteNAK, PgmliteRequest)
