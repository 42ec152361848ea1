"""THE declaration of the packet format (spec/protocol.md section 3); everything else is derived.

construct is the reference parser and the control path; ``derive`` makes the data path from the
same declaration, and a property test keeps the two equal.
"""

from __future__ import annotations

from enum import IntEnum

from construct import (
    Array,
    Bytes,
    Const,
    Error,
    GreedyBytes,
    GreedyRange,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    PascalString,
    Prefixed,
    Struct,
    Switch,
    Terminated,
    this,
)

MAGIC = 0x7067
VERSION = 2

IPV6_UDP_HEADERS = 48
IPV4_UDP_HEADERS = 28
"""Bytes of IP and UDP headers before a packet, without options."""

MAX_PACKET = 65_507
"""Largest UDP payload of either address family, in bytes."""

MAX_CONTROL = 1_232
"""Largest SPM, NAK or NCF in bytes: what the smallest IPv6 path leaves of 1280 (RFC 8085 section
3.2)."""

MAX_MANIFEST = 896
"""Largest manifest in bytes: an SPM has room for position, repairs and two signatures beside it."""

MIN_SYMBOL_SIZE = 64
MAX_SYMBOL_SIZE = 65_456
"""What MAX_PACKET leaves after the header, rounded down to SYMBOL_ALIGNMENT."""

SYMBOL_ALIGNMENT = 4
"""Symbol sizes are multiples of it, so that word-wise FEC codes can be added (RFC 6330 Al)."""

MAX_BLOCK_SYMBOLS = 4_096

MAX_FEC_BLOCK_SYMBOLS = 1_024
"""Source symbols of a block that has repair symbols, at most: what the code is good for."""

STRIP_SYMBOLS = 16
"""Source symbols in a strip: what is hashed in one go."""

VISIT_SYMBOLS = 16
"""Encoding symbols of one block that a carousel sends in one go."""

MOST_CHANNELS = 6
"""Channels of one object, at most."""

TILE_BLOCKS = 8
"""Blocks that are sent symbol by symbol in turn, at most: a burst of losses is spread over them."""

DIGEST_SIZE = 32

SYMBOL_DIGEST_SIZE = 8
"""Bytes of a symbol's digest in a leaf of the tree of tiles: it tells which symbol of a tile is
wrong, and what is right is judged by digests of full length."""

KEY_ID_SIZE = 8
SIGNATURE_SIZE = 64
"""Bytes of an Ed25519 signature (RFC 8032 section 5.1.6)."""

MAX_STREAM = 64
"""Bytes of a stream's name, at most."""

MAX_RELEASE = (1 << 64) - 1
"""The highest number of a release."""

ARCHIVE_RECORD = 512
"""Bytes of what an archive has at least for a member: its header."""


class PacketType(IntEnum):
    """Packet types; all numbers but that of TREE are RFC 3208's (section 8)."""

    SPM = 0x00
    ODATA = 0x04
    RDATA = 0x05
    TREE = 0x07
    NAK = 0x08
    NCF = 0x0A


DATA_TYPES = frozenset({PacketType.ODATA, PacketType.RDATA})
"""Types whose payload is a symbol of the object."""


class Tree(IntEnum):
    """The trees of an object, as `esi` of a TREE packet names them."""

    BLOCKS = 0
    TILES = 1


class RequestForm(IntEnum):
    """How a request names symbols."""

    RANGES = 0
    BITMAP = 1
    COUNTS = 2


class DigestAlgorithm(IntEnum):
    """Digests a manifest may use."""

    BLAKE3_256 = 1


class FecScheme(IntEnum):
    """FEC schemes a manifest may name (spec/fec.md)."""

    NONE = 0
    PRECODED_RLC = 1


class Order(IntEnum):
    """In which order a carousel sends what the object has."""

    BLOCKS = 0
    ROUNDS = 1
    RANDOM = 2
    TERRITORY = 3


class Flag(IntEnum):
    """Bits of the header's flags."""

    REPAIR_SYMBOL = 0x01


class SpmOption(IntEnum):
    """Kinds of options of an SPM."""

    MANIFEST = 0x8001
    POSITION = 0x0002
    REPAIRS = 0x0003
    SIGNATURE = 0x0004


class ManifestOption(IntEnum):
    """Kinds of options of a manifest."""

    REPAIRER = 0x0001
    CHANNEL = 0x0002
    RELEASE = 0x0003
    TILES = 0x0004
    ARCHIVE = 0x0005


CRITICAL = 0x8000
"""Options of this kind and above: refuse what carries one that is unknown."""


HEADER = Struct(
    "magic" / Const(MAGIC, Int16ub) * "0x7067, the letters `pg`.",
    "version" / Const(VERSION, Int8ub) * "Version of this format: 2.",
    "type"
    / Int8ub
    * "Packet type: 0x00 SPM, 0x04 ODATA, 0x05 RDATA, 0x07 TREE, 0x08 NAK, 0x0A NCF.",
    "channel"
    / Int8ub
    * "Channel of the session, counted from 0; sequence numbers are per channel.",
    "flags"
    / Int8ub
    * "Bit 0x01: the payload is a repair symbol; only in ODATA and RDATA. Others: 0.",
    "symbol_size" / Int16ub * "Bytes in a symbol of the object: a multiple of 4, 64 to 65456.",
    "tsi" / Int64ub * "Transport session identifier: random, new for every session.",
    "oid" / Int64ub * "Object identifier: first 8 bytes of the manifest's digest.",
    "size" / Int64ub * "Bytes in the object.",
    "offset"
    / Int64ub
    * "ODATA, RDATA: byte offset in the object, of the symbol itself if it is a source symbol, of "
    "its block if it is a repair symbol. TREE: number of the node. NCF: packets of the "
    "session until all that it names was sent, at most; 0: it does not say. SPM, NAK: 0.",
    "sqn" / Int32ub * "Sequence number: +1 for every packet of (tsi, channel), random start. "
    "NAK: the highest one seen of the session that is asked.",
    "esi" / Int32ub * "ODATA, RDATA: encoding symbol id: place of the symbol in its block, source "
    "symbols from 0 on, repair symbols behind them. TREE: which tree, 0: that of blocks, 1: that "
    "of tiles. Else: 0.",
)

OPTION = Struct(
    "kind" / Int16ub * "Kind of option; 0x8000 and above: refuse the whole if it is unknown.",
    "value" / Prefixed(Int16ub, GreedyBytes) * "Length in bytes (16 bits), then the value.",
)

SPM_BODY = Struct(
    "timestamp" / Int64ub * "Sender's monotonic clock in nanoseconds.",
    "rate" / Int64ub * "Rate of the session in bit/s, IP headers included; 0: not limited.",
    "spm_interval" / Int32ub * "Longest time to the next SPM, in milliseconds.",
    "options"
    / GreedyRange(OPTION)
    * "Options, to the end of the packet. 0x8001: the manifest, which must be there. 0x0002: "
    "position of the carousel; a session without one only repeats. 0x0003: repairs; a session "
    "without them takes no NAKs. 0x0004: a signature of the manifest; there may be several.",
    Terminated,
)

POSITION = Struct(
    "place" / Int64ub * "Symbols that the carousel has sent since its start.",
    "order" / Int8ub * "0: blocks, 1: rounds, 2: rounds in random order, 3: rounds in a territory.",
    "sector"
    / Int8ub
    * "i of i/n: the sector with which the carousel begins; order 3: the territory that it sends.",
    "sectors" / Int8ub * "n of i/n: how many sectors or territories there are; at least 1.",
    "reserved" / Const(0, Int8ub) * "Reserved: 0.",
    "first" / Int32ub * "Order 0: group of blocks at place 0. Orders 1, 3: visit at place 0. "
    "Order 2: what the order of visits is drawn from.",
)

REPAIRS = Struct(
    "nonce" / Int64ub * "Random, new every few seconds; a NAK shows that its sender heard it.",
    "grtt" / Int8ub * "Group round-trip time, quantised as in RFC 5401 section 3.7.4.",
    "gsize" / Int8ub * "Group size: 4 bits as in RFC 5740 section 4.2.1.",
    "backoff_factor" / Int8ub * "k: receivers wait up to k times the GRTT before a NAK.",
    "repair_share" / Int8ub * "Percent of the rate that repairs may take.",
    "repair_port" / Int16ub * "UDP port for NAKs, at this packet's source address; not 0.",
)

SIGNATURE = Struct(
    "key_id" / Bytes(KEY_ID_SIZE) * "First 8 bytes of the digest of the public key, as its DER "
    "SubjectPublicKeyInfo (RFC 8410).",
    "signature" / Bytes(SIGNATURE_SIZE) * "Ed25519 signature (RFC 8032) of `pgmlite manifest v2` "
    "in ASCII, a zero byte, and all bytes of the manifest.",
)

REQUEST_HEAD = Struct(
    "form" / Int8ub * "0: ranges, 1: bitmap, 2: counts.",
    "flags" / Const(0, Int8ub) * "Reserved: 0.",
    "count" / Int16ub * "Ranges, counts: how many. Bitmap: how many bytes.",
    "base" / Int32ub * "Ranges, bitmap: number of the symbol from which the items count. "
    "Counts: 0.",
)

RANGE = Struct(
    "start" / Int32ub * "First symbol minus base.",
    "length" / Int32ub * "How many symbols.",
)

COUNT = Struct(
    "block" / Int32ub * "Number of the block.",
    "first" / Int16ub * "NCF: encoding symbol id of the first symbol that comes. NAK: 0.",
    "count" / Int16ub * "NCF: how many symbols come. NAK: how many are asked for.",
)

REQUEST = Struct(
    *REQUEST_HEAD.subcons,
    "items"
    / Switch(
        this.form,
        {
            RequestForm.RANGES: Array(this.count, RANGE),
            RequestForm.BITMAP: Bytes(this.count),
            RequestForm.COUNTS: Array(this.count, COUNT),
        },
        default=Error,
    )
    * "Ranges: see below, ascending, apart. "
    "Bitmap: the highest bit of the first byte stands for the base. "
    "Counts: see below, blocks ascending.",
    Terminated,
)

NAK_HEAD = Struct(
    "nonce" / Int64ub * "The latest nonce heard from the session that is asked.",
    "timestamp" / Int64ub * "Timestamp of its latest SPM plus the time since then, ns.",
    "loss" / Int16ub * "Share of packets lost, in 1/65535.",
    "reserved" / Const(0, Int16ub) * "Reserved: 0.",
)

NAK_BODY = Struct(
    *NAK_HEAD.subcons,
    "request" / REQUEST * "The symbols asked for.",
)

RELEASE = Struct(
    "number" / Int64ub * "Number of the release: higher ones of a stream replace lower ones.",
    "created" / Int64ub * "When it was signed, seconds since 1970-01-01 00:00 UTC.",
    "expires" / Int64ub * "When it is taken no more, seconds as of `created`; 0: never.",
    "stream" / PascalString(Int8ub, "utf8") * "Name of the stream: 1 to 64 bytes of UTF-8, length "
    "first.",
    Terminated,
)

ARCHIVE = Struct(
    "entries" / Int32ub * "Members of the archive, the folder itself among them: at least 1.",
    "size" / Int64ub * "Bytes in all files of the folder; a hard link to one has none.",
    Terminated,
)

MANIFEST = Struct(
    "magic" / Const(b"PGLM") * "The letters `PGLM`.",
    "version" / Const(2, Int8ub) * "Version of the manifest: 2.",
    "digest_algorithm" / Int8ub * "1: BLAKE3 with 256-bit output, for every digest here.",
    "fec_scheme" / Int8ub * "0: no FEC, 1: precoded random linear code.",
    "tile_blocks" / Int8ub * "Blocks that are sent symbol by symbol in turn, 1 to 8.",
    "symbol_size" / Int16ub * "Bytes in a symbol; equal to the header's.",
    "block_symbols" / Int16ub * "Source symbols in a block (the last may be shorter), 1 to 4096.",
    "repair_symbols" / Int16ub * "Repair symbols of a full block; 0 without FEC.",
    "strip_symbols"
    / Int16ub
    * "Source symbols in a strip, the last of a block may be shorter: 16.",
    "size" / Int64ub * "Bytes in the object; equal to the header's.",
    "tree_digest"
    / Bytes(DIGEST_SIZE)
    * "Digest of the root of the tree of blocks: it names the content.",
    "name" / PascalString(Int8ub, "utf8") * "File name: 1 to 255 bytes of UTF-8, length first.",
    "options" / GreedyRange(OPTION) * "Options, to the end of the manifest. 0x0001: a repairer, "
    "IPv6 or mapped IPv4 address (16 bytes) and UDP port (16 bits). 0x0002: a channel, the first "
    "one is channel 0: rate in bit/s (64 bits), group and port as of a repairer. 0x0003: the "
    "release, of a signed object. 0x0004: digest of the root of the tree of tiles (32 bytes), of a "
    "signed object. 0x0005: the object is the archive of a folder.",
    Terminated,
)

SIGNED_CONTEXT = b"pgmlite manifest v2\0"
"""What stands before a manifest when it is signed: no signature of anything else fits it."""

ENUMS: dict[tuple[str, str], type[IntEnum]] = {
    ("header", "type"): PacketType,
    ("request", "form"): RequestForm,
    ("manifest", "digest_algorithm"): DigestAlgorithm,
    ("manifest", "fec_scheme"): FecScheme,
    ("position", "order"): Order,
    ("spm.option", "kind"): SpmOption,
    ("manifest.option", "kind"): ManifestOption,
}
"""The names of a field's values, by struct and field; every dissector shows them."""
