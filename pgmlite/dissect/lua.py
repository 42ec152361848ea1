"""From the construct declaration to the Wireshark dissector ``spec/pgmlite.lua``.

Fields, their names, places, values and documentation come from the declaration; ``template.lua``
and, for manifests, ``manifest.lua`` add what a declaration does not say: which part follows which,
and the checks of spec section 3.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from construct import Struct

from pgmlite import dissect
from pgmlite.wire import control, geometry, layout, manifest, request
from pgmlite.wire.derive import STRUCTS, Field, fields
from pgmlite.wire.digests import digest
from pgmlite.wire.layout import (
    FecScheme,
    Flag,
    ManifestOption,
    Order,
    PacketType,
    RequestForm,
    SpmOption,
    Tree,
)

INTEGERS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
HEXADECIMAL = {"magic", "type", "tsi", "oid", "nonce", "kind", "flags", "key_id"}
"""Fields whose digits mean nothing as a number."""

STRINGS = {("manifest", "name"), ("release", "stream")}

DECLARED: dict[str, Struct] = {
    **{name: declared for name, declared in STRUCTS.items() if name != "option"},
    # The kinds of an option are others in an SPM than in a manifest.
    **{f"{owner}.option": layout.OPTION for owner in ("spm", "manifest")},
}
"""What the fields of the dissector are made from, by the start of their names."""

COMPUTED = {
    "payload": ("bytes", "payload", "A symbol, or a node of a tree."),
    "refused": ("string", "refused", "Why a receiver refuses the packet (section 3.8)."),
    "cut": ("uint32", "bytes cut off", "Bytes of the packet that the capture does not have."),
    "nak.first": ("uint64", "first symbol", "First symbol of a stretch that is asked for."),
    "nak.last": ("uint64", "last symbol", "Last symbol of a stretch that is asked for."),
    "ncf.first": ("uint64", "first symbol", "First symbol of a stretch that is confirmed."),
    "ncf.last": ("uint64", "last symbol", "Last symbol of a stretch that is confirmed."),
    "request.symbols": ("uint32", "symbols", "How many symbols the request names."),
    "repairs.grtt_time": ("double", "GRTT in s", "What grtt stands for."),
    "repairs.group_size": ("uint32", "group size", "What gsize stands for."),
    "repairer.address": ("ipv6", "address", "Address of a repairer."),
    "repairer.port": ("uint16", "port", "UDP port of a repairer."),
    "manifest.tiles_digest": ("bytes", "tiles_digest", "Digest of the root of the tree of tiles."),
    "leaf.number": ("uint64", "tile", "Number of the tile whose leaf this is."),
    "leaf.tile": ("bytes", "tile digest", "Digest of the whole tile."),
    "leaf.symbol": ("bytes", "symbol digest", "Digest of a symbol, in the order of the tile."),
    "channel.rate": ("uint64", "rate", "Rate of a channel in bit/s."),
    "channel.address": ("ipv6", "address", "Group of a channel."),
    "channel.port": ("uint16", "port", "UDP port of a channel."),
}
"""Fields that are not in the packet as such: kind, title, documentation."""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _abbreviation(struct: str, field: str) -> str:
    """Return the filter name: ``pgmlite.sqn`` of the header, ``pgmlite.spm.rate`` of others."""
    return f"pgmlite.{field}" if struct == "header" else f"pgmlite.{struct}.{field}"


def _declaration(struct: str, field: Field) -> str:
    names = layout.ENUMS.get((struct, field.name))
    title, doc = _quoted(field.name), _quoted(field.doc)
    abbreviation = _quoted(_abbreviation(struct, field.name))
    if field.size in INTEGERS and not isinstance(field.constant, bytes):
        kind = INTEGERS[field.size]
        base = "base.HEX" if field.name in HEXADECIMAL else "base.DEC"
        listed = "nil"
        if names:
            listed = "{" + ", ".join(f"[{one.value}] = {_quoted(one.name)}" for one in names) + "}"
        made = f"ProtoField.{kind}({abbreviation}, {title}, {base}, {listed}, nil, {doc})"
    elif (struct, field.name) in STRINGS:
        made = f"ProtoField.string({abbreviation}, {title}, base.UNICODE, {doc})"
    else:
        made = f"ProtoField.bytes({abbreviation}, {title}, base.NONE, {doc})"
    return f"f[{abbreviation}] = {made}"


def _declarations() -> Iterator[str]:
    for struct, declared in DECLARED.items():
        for field in fields(declared):
            yield _declaration(struct, field)
    for flag in Flag:
        name = flag.name.lower()
        abbreviation, title = _quoted(f"pgmlite.flags.{name}"), _quoted(name.replace("_", " "))
        made = f"ProtoField.bool({abbreviation}, {title}, 8, nil, {flag.value:#x})"
        yield f"f[{abbreviation}] = {made}"
    for name, (kind, title, doc) in COMPUTED.items():
        base = "base.DEC, nil, nil, " if kind.startswith("uint") else ""
        base = "base.NONE, " if kind == "bytes" else "base.UNICODE, " if kind == "string" else base
        abbreviation = _quoted(f"pgmlite.{name}")
        call = f"ProtoField.{kind}({abbreviation}, {_quoted(title)}"
        # Only some kinds take documentation as their last argument.
        yield f"f[{abbreviation}] = {call}" + (f", {base}{_quoted(doc)})" if base else ")")


def _places(struct: str) -> str:
    """Return the fields of a struct that have a fixed place, as a Lua table."""
    rows = [
        f"  {{f[{_quoted(_abbreviation(struct, field.name))}], {field.offset}, {field.size}}},"
        for field in fields(DECLARED[struct])
        if field.offset is not None and field.size is not None
    ]
    return "\n".join([f"places[{_quoted(struct)}] = {{", *rows, "}"])


def dissector() -> str:
    """Return the text of ``spec/pgmlite.lua``."""
    constants = {
        "MAGIC": layout.MAGIC,
        "VERSION": layout.VERSION,
        "HEADER": layout.HEADER.sizeof(),
        "SPM": control.SPM_FIXED_SIZE,
        "NAK": request.NAK_FIXED_SIZE,
        "REQUEST": request.FIXED_SIZE,
        "RANGE": request.RANGE_SIZE,
        "COUNT": request.COUNT_SIZE,
        "OPTION": control.OPTION_HEAD_SIZE,
        "MOST_OPTIONS": control.MOST_OPTIONS,
        "POSITION": layout.POSITION.sizeof(),
        "REPAIRS": layout.REPAIRS.sizeof(),
        "SIGNATURE": layout.SIGNATURE.sizeof(),
        "RELEASE": sum(field.size or 0 for field in fields(layout.RELEASE)),
        "MAX_STREAM": layout.MAX_STREAM,
        "MAX_CONTROL": layout.MAX_CONTROL,
        "MAX_REQUESTED": request.MAX_REQUESTED,
        "MAX_MANIFEST": layout.MAX_MANIFEST,
        "MAX_BLOCK_SYMBOLS": layout.MAX_BLOCK_SYMBOLS,
        "MAX_FEC_BLOCK_SYMBOLS": layout.MAX_FEC_BLOCK_SYMBOLS,
        "MOST_REPAIRS": geometry.MOST_REPAIRS,
        "LEAST_REPAIRS": geometry.LEAST_REPAIRS,
        "VISIT_SYMBOLS": layout.VISIT_SYMBOLS,
        "TILE_BLOCKS": layout.TILE_BLOCKS,
        "CODED": int(FecScheme.PRECODED_RLC),
        "BLOCKS": int(Order.BLOCKS),
        "RANDOM": int(Order.RANDOM),
        "TERRITORY": int(Order.TERRITORY),
        "DIGEST": layout.DIGEST_SIZE,
        "SYMBOL_DIGEST": layout.SYMBOL_DIGEST_SIZE,
        "TILES": int(Tree.TILES),
        "NO_TREE": f'"{digest(b"").hex()}"',
        "MIN_SYMBOL_SIZE": layout.MIN_SYMBOL_SIZE,
        "MAX_SYMBOL_SIZE": layout.MAX_SYMBOL_SIZE,
        "SYMBOL_ALIGNMENT": layout.SYMBOL_ALIGNMENT,
        "MANIFEST": sum(field.size or 0 for field in fields(layout.MANIFEST)),
        "MANIFEST_MAGIC": int.from_bytes(manifest.MANIFEST_MAGIC, "big"),
        "CRITICAL": layout.CRITICAL,
        "REPAIR_SYMBOL": int(Flag.REPAIR_SYMBOL),
        "STRIP_SYMBOLS": layout.STRIP_SYMBOLS,
        "OPTION_MANIFEST": int(SpmOption.MANIFEST),
        "OPTION_POSITION": int(SpmOption.POSITION),
        "OPTION_REPAIRS": int(SpmOption.REPAIRS),
        "OPTION_SIGNATURE": int(SpmOption.SIGNATURE),
        "OPTION_RELEASE": int(ManifestOption.RELEASE),
        "OPTION_TILES": int(ManifestOption.TILES),
        "OPTION_ARCHIVE": int(ManifestOption.ARCHIVE),
        "ARCHIVE": sum(field.size or 0 for field in fields(layout.ARCHIVE)),
        "ARCHIVE_RECORD": layout.ARCHIVE_RECORD,
        "REPAIRER": int(ManifestOption.REPAIRER),
        "ENDPOINT": manifest.ENDPOINT_SIZE,
        "CHANNEL": int(ManifestOption.CHANNEL),
        "RUNG": manifest.RATE_SIZE + manifest.ENDPOINT_SIZE,
        "MOST_CHANNELS": layout.MOST_CHANNELS,
        "MAPPED_IPV4": f'"{manifest.MAPPED_IPV4.hex().upper()}"',
        "RANGES": int(RequestForm.RANGES),
        "BITMAP": int(RequestForm.BITMAP),
        "COUNTS": int(RequestForm.COUNTS),
    }
    refused = ", ".join(f"{{{first}, {last}}}" for first, last, _ in manifest.REFUSED_RANGES)
    text, part = (
        resources.files(dissect).joinpath(name).read_text()
        for name in ("template.lua", "manifest.lua")
    )
    text = text.replace("@MANIFEST@\n", part + "\n")
    types = ", ".join(f"{one.name} = {one.value}" for one in PacketType)
    names = ", ".join(f'[{one.value}] = "{one.name}"' for one in PacketType)
    for mark, made in {
        "@DECLARATIONS@": "\n".join(_declarations()),
        "@PLACES@": "\n".join(map(_places, DECLARED)),
        "@TYPES@": types,
        "@NAMES@": names,
        "@REFUSED@": refused,
        "@CONSTANTS@": "\n".join(f"  {name} = {value}," for name, value in constants.items()),
    }.items():
        text = text.replace(mark, made)
    return text
