-- Wireshark dissector of the pgmlite protocol, version 2 (protocol.md).
-- Generated from the declaration of the format by tests/generate.py: do not edit.
--
--   wireshark -X lua_script:pgmlite.lua        or copy it to the personal plugin folder
--
-- Packets that a receiver refuses have pgmlite.refused and an expert error with the reason of
-- section 3.8. What needs more than the packet is not checked: whether the oid is the digest of
-- the manifest, whether a signature is one, whether the object has a repair symbol, and all else
-- that depends on what a receiver or a repairer knows. A packet that the capture cut (tcpdump -s) is not judged: it has
-- pgmlite.cut.

local pgmlite = Proto("pgmlite", "pgmlite multicast file carousel")

local f = {}
f["pgmlite.magic"] = ProtoField.uint16("pgmlite.magic", "magic", base.HEX, nil, nil, "0x7067, the letters `pg`.")
f["pgmlite.version"] = ProtoField.uint8("pgmlite.version", "version", base.DEC, nil, nil, "Version of this format: 2.")
f["pgmlite.type"] = ProtoField.uint8("pgmlite.type", "type", base.HEX, {[0] = "SPM", [4] = "ODATA", [5] = "RDATA", [7] = "TREE", [8] = "NAK", [10] = "NCF"}, nil, "Packet type: 0x00 SPM, 0x04 ODATA, 0x05 RDATA, 0x07 TREE, 0x08 NAK, 0x0A NCF.")
f["pgmlite.channel"] = ProtoField.uint8("pgmlite.channel", "channel", base.DEC, nil, nil, "Channel of the session, counted from 0; sequence numbers are per channel.")
f["pgmlite.flags"] = ProtoField.uint8("pgmlite.flags", "flags", base.HEX, nil, nil, "Bit 0x01: the payload is a repair symbol; only in ODATA and RDATA. Others: 0.")
f["pgmlite.symbol_size"] = ProtoField.uint16("pgmlite.symbol_size", "symbol_size", base.DEC, nil, nil, "Bytes in a symbol of the object: a multiple of 4, 64 to 65456.")
f["pgmlite.tsi"] = ProtoField.uint64("pgmlite.tsi", "tsi", base.HEX, nil, nil, "Transport session identifier: random, new for every session.")
f["pgmlite.oid"] = ProtoField.uint64("pgmlite.oid", "oid", base.HEX, nil, nil, "Object identifier: first 8 bytes of the manifest's digest.")
f["pgmlite.size"] = ProtoField.uint64("pgmlite.size", "size", base.DEC, nil, nil, "Bytes in the object.")
f["pgmlite.offset"] = ProtoField.uint64("pgmlite.offset", "offset", base.DEC, nil, nil, "ODATA, RDATA: byte offset in the object, of the symbol itself if it is a source symbol, of its block if it is a repair symbol. TREE: number of the node. NCF: packets of the session until all that it names was sent, at most; 0: it does not say. SPM, NAK: 0.")
f["pgmlite.sqn"] = ProtoField.uint32("pgmlite.sqn", "sqn", base.DEC, nil, nil, "Sequence number: +1 for every packet of (tsi, channel), random start. NAK: the highest one seen of the session that is asked.")
f["pgmlite.esi"] = ProtoField.uint32("pgmlite.esi", "esi", base.DEC, nil, nil, "ODATA, RDATA: encoding symbol id: place of the symbol in its block, source symbols from 0 on, repair symbols behind them. TREE: which tree, 0: that of blocks, 1: that of tiles. Else: 0.")
f["pgmlite.spm.timestamp"] = ProtoField.uint64("pgmlite.spm.timestamp", "timestamp", base.DEC, nil, nil, "Sender's monotonic clock in nanoseconds.")
f["pgmlite.spm.rate"] = ProtoField.uint64("pgmlite.spm.rate", "rate", base.DEC, nil, nil, "Rate of the session in bit/s, IP headers included; 0: not limited.")
f["pgmlite.spm.spm_interval"] = ProtoField.uint32("pgmlite.spm.spm_interval", "spm_interval", base.DEC, nil, nil, "Longest time to the next SPM, in milliseconds.")
f["pgmlite.spm.options"] = ProtoField.bytes("pgmlite.spm.options", "options", base.NONE, "Options, to the end of the packet. 0x8001: the manifest, which must be there. 0x0002: position of the carousel; a session without one only repeats. 0x0003: repairs; a session without them takes no NAKs. 0x0004: a signature of the manifest; there may be several.")
f["pgmlite.position.place"] = ProtoField.uint64("pgmlite.position.place", "place", base.DEC, nil, nil, "Symbols that the carousel has sent since its start.")
f["pgmlite.position.order"] = ProtoField.uint8("pgmlite.position.order", "order", base.DEC, {[0] = "BLOCKS", [1] = "ROUNDS", [2] = "RANDOM", [3] = "TERRITORY"}, nil, "0: blocks, 1: rounds, 2: rounds in random order, 3: rounds in a territory.")
f["pgmlite.position.sector"] = ProtoField.uint8("pgmlite.position.sector", "sector", base.DEC, nil, nil, "i of i/n: the sector with which the carousel begins; order 3: the territory that it sends.")
f["pgmlite.position.sectors"] = ProtoField.uint8("pgmlite.position.sectors", "sectors", base.DEC, nil, nil, "n of i/n: how many sectors or territories there are; at least 1.")
f["pgmlite.position.reserved"] = ProtoField.uint8("pgmlite.position.reserved", "reserved", base.DEC, nil, nil, "Reserved: 0.")
f["pgmlite.position.first"] = ProtoField.uint32("pgmlite.position.first", "first", base.DEC, nil, nil, "Order 0: group of blocks at place 0. Orders 1, 3: visit at place 0. Order 2: what the order of visits is drawn from.")
f["pgmlite.repairs.nonce"] = ProtoField.uint64("pgmlite.repairs.nonce", "nonce", base.HEX, nil, nil, "Random, new every few seconds; a NAK shows that its sender heard it.")
f["pgmlite.repairs.grtt"] = ProtoField.uint8("pgmlite.repairs.grtt", "grtt", base.DEC, nil, nil, "Group round-trip time, quantised as in RFC 5401 section 3.7.4.")
f["pgmlite.repairs.gsize"] = ProtoField.uint8("pgmlite.repairs.gsize", "gsize", base.DEC, nil, nil, "Group size: 4 bits as in RFC 5740 section 4.2.1.")
f["pgmlite.repairs.backoff_factor"] = ProtoField.uint8("pgmlite.repairs.backoff_factor", "backoff_factor", base.DEC, nil, nil, "k: receivers wait up to k times the GRTT before a NAK.")
f["pgmlite.repairs.repair_share"] = ProtoField.uint8("pgmlite.repairs.repair_share", "repair_share", base.DEC, nil, nil, "Percent of the rate that repairs may take.")
f["pgmlite.repairs.repair_port"] = ProtoField.uint16("pgmlite.repairs.repair_port", "repair_port", base.DEC, nil, nil, "UDP port for NAKs, at this packet's source address; not 0.")
f["pgmlite.signature.key_id"] = ProtoField.uint64("pgmlite.signature.key_id", "key_id", base.HEX, nil, nil, "First 8 bytes of the digest of the public key, as its DER SubjectPublicKeyInfo (RFC 8410).")
f["pgmlite.signature.signature"] = ProtoField.bytes("pgmlite.signature.signature", "signature", base.NONE, "Ed25519 signature (RFC 8032) of `pgmlite manifest v2` in ASCII, a zero byte, and all bytes of the manifest.")
f["pgmlite.manifest.magic"] = ProtoField.bytes("pgmlite.manifest.magic", "magic", base.NONE, "The letters `PGLM`.")
f["pgmlite.manifest.version"] = ProtoField.uint8("pgmlite.manifest.version", "version", base.DEC, nil, nil, "Version of the manifest: 2.")
f["pgmlite.manifest.digest_algorithm"] = ProtoField.uint8("pgmlite.manifest.digest_algorithm", "digest_algorithm", base.DEC, {[1] = "BLAKE3_256"}, nil, "1: BLAKE3 with 256-bit output, for every digest here.")
f["pgmlite.manifest.fec_scheme"] = ProtoField.uint8("pgmlite.manifest.fec_scheme", "fec_scheme", base.DEC, {[0] = "NONE", [1] = "PRECODED_RLC"}, nil, "0: no FEC, 1: precoded random linear code.")
f["pgmlite.manifest.tile_blocks"] = ProtoField.uint8("pgmlite.manifest.tile_blocks", "tile_blocks", base.DEC, nil, nil, "Blocks that are sent symbol by symbol in turn, 1 to 8.")
f["pgmlite.manifest.symbol_size"] = ProtoField.uint16("pgmlite.manifest.symbol_size", "symbol_size", base.DEC, nil, nil, "Bytes in a symbol; equal to the header's.")
f["pgmlite.manifest.block_symbols"] = ProtoField.uint16("pgmlite.manifest.block_symbols", "block_symbols", base.DEC, nil, nil, "Source symbols in a block (the last may be shorter), 1 to 4096.")
f["pgmlite.manifest.repair_symbols"] = ProtoField.uint16("pgmlite.manifest.repair_symbols", "repair_symbols", base.DEC, nil, nil, "Repair symbols of a full block; 0 without FEC.")
f["pgmlite.manifest.strip_symbols"] = ProtoField.uint16("pgmlite.manifest.strip_symbols", "strip_symbols", base.DEC, nil, nil, "Source symbols in a strip, the last of a block may be shorter: 16.")
f["pgmlite.manifest.size"] = ProtoField.uint64("pgmlite.manifest.size", "size", base.DEC, nil, nil, "Bytes in the object; equal to the header's.")
f["pgmlite.manifest.tree_digest"] = ProtoField.bytes("pgmlite.manifest.tree_digest", "tree_digest", base.NONE, "Digest of the root of the tree of blocks: it names the content.")
f["pgmlite.manifest.name"] = ProtoField.string("pgmlite.manifest.name", "name", base.UNICODE, "File name: 1 to 255 bytes of UTF-8, length first.")
f["pgmlite.manifest.options"] = ProtoField.bytes("pgmlite.manifest.options", "options", base.NONE, "Options, to the end of the manifest. 0x0001: a repairer, IPv6 or mapped IPv4 address (16 bytes) and UDP port (16 bits). 0x0002: a channel, the first one is channel 0: rate in bit/s (64 bits), group and port as of a repairer. 0x0003: the release, of a signed object. 0x0004: digest of the root of the tree of tiles (32 bytes), of a signed object. 0x0005: the object is the archive of a folder.")
f["pgmlite.release.number"] = ProtoField.uint64("pgmlite.release.number", "number", base.DEC, nil, nil, "Number of the release: higher ones of a stream replace lower ones.")
f["pgmlite.release.created"] = ProtoField.uint64("pgmlite.release.created", "created", base.DEC, nil, nil, "When it was signed, seconds since 1970-01-01 00:00 UTC.")
f["pgmlite.release.expires"] = ProtoField.uint64("pgmlite.release.expires", "expires", base.DEC, nil, nil, "When it is taken no more, seconds as of `created`; 0: never.")
f["pgmlite.release.stream"] = ProtoField.string("pgmlite.release.stream", "stream", base.UNICODE, "Name of the stream: 1 to 64 bytes of UTF-8, length first.")
f["pgmlite.archive.entries"] = ProtoField.uint32("pgmlite.archive.entries", "entries", base.DEC, nil, nil, "Members of the archive, the folder itself among them: at least 1.")
f["pgmlite.archive.size"] = ProtoField.uint64("pgmlite.archive.size", "size", base.DEC, nil, nil, "Bytes in all files of the folder; a hard link to one has none.")
f["pgmlite.request.form"] = ProtoField.uint8("pgmlite.request.form", "form", base.DEC, {[0] = "RANGES", [1] = "BITMAP", [2] = "COUNTS"}, nil, "0: ranges, 1: bitmap, 2: counts.")
f["pgmlite.request.flags"] = ProtoField.uint8("pgmlite.request.flags", "flags", base.HEX, nil, nil, "Reserved: 0.")
f["pgmlite.request.count"] = ProtoField.uint16("pgmlite.request.count", "count", base.DEC, nil, nil, "Ranges, counts: how many. Bitmap: how many bytes.")
f["pgmlite.request.base"] = ProtoField.uint32("pgmlite.request.base", "base", base.DEC, nil, nil, "Ranges, bitmap: number of the symbol from which the items count. Counts: 0.")
f["pgmlite.request.items"] = ProtoField.bytes("pgmlite.request.items", "items", base.NONE, "Ranges: see below, ascending, apart. Bitmap: the highest bit of the first byte stands for the base. Counts: see below, blocks ascending.")
f["pgmlite.range.start"] = ProtoField.uint32("pgmlite.range.start", "start", base.DEC, nil, nil, "First symbol minus base.")
f["pgmlite.range.length"] = ProtoField.uint32("pgmlite.range.length", "length", base.DEC, nil, nil, "How many symbols.")
f["pgmlite.count.block"] = ProtoField.uint32("pgmlite.count.block", "block", base.DEC, nil, nil, "Number of the block.")
f["pgmlite.count.first"] = ProtoField.uint16("pgmlite.count.first", "first", base.DEC, nil, nil, "NCF: encoding symbol id of the first symbol that comes. NAK: 0.")
f["pgmlite.count.count"] = ProtoField.uint16("pgmlite.count.count", "count", base.DEC, nil, nil, "NCF: how many symbols come. NAK: how many are asked for.")
f["pgmlite.nak.nonce"] = ProtoField.uint64("pgmlite.nak.nonce", "nonce", base.HEX, nil, nil, "The latest nonce heard from the session that is asked.")
f["pgmlite.nak.timestamp"] = ProtoField.uint64("pgmlite.nak.timestamp", "timestamp", base.DEC, nil, nil, "Timestamp of its latest SPM plus the time since then, ns.")
f["pgmlite.nak.loss"] = ProtoField.uint16("pgmlite.nak.loss", "loss", base.DEC, nil, nil, "Share of packets lost, in 1/65535.")
f["pgmlite.nak.reserved"] = ProtoField.uint16("pgmlite.nak.reserved", "reserved", base.DEC, nil, nil, "Reserved: 0.")
f["pgmlite.nak.request"] = ProtoField.bytes("pgmlite.nak.request", "request", base.NONE, "The symbols asked for.")
f["pgmlite.spm.option.kind"] = ProtoField.uint16("pgmlite.spm.option.kind", "kind", base.HEX, {[32769] = "MANIFEST", [2] = "POSITION", [3] = "REPAIRS", [4] = "SIGNATURE"}, nil, "Kind of option; 0x8000 and above: refuse the whole if it is unknown.")
f["pgmlite.spm.option.value"] = ProtoField.bytes("pgmlite.spm.option.value", "value", base.NONE, "Length in bytes (16 bits), then the value.")
f["pgmlite.manifest.option.kind"] = ProtoField.uint16("pgmlite.manifest.option.kind", "kind", base.HEX, {[1] = "REPAIRER", [2] = "CHANNEL", [3] = "RELEASE", [4] = "TILES", [5] = "ARCHIVE"}, nil, "Kind of option; 0x8000 and above: refuse the whole if it is unknown.")
f["pgmlite.manifest.option.value"] = ProtoField.bytes("pgmlite.manifest.option.value", "value", base.NONE, "Length in bytes (16 bits), then the value.")
f["pgmlite.flags.repair_symbol"] = ProtoField.bool("pgmlite.flags.repair_symbol", "repair symbol", 8, nil, 0x1)
f["pgmlite.payload"] = ProtoField.bytes("pgmlite.payload", "payload", base.NONE, "A symbol, or a node of a tree.")
f["pgmlite.refused"] = ProtoField.string("pgmlite.refused", "refused", base.UNICODE, "Why a receiver refuses the packet (section 3.8).")
f["pgmlite.cut"] = ProtoField.uint32("pgmlite.cut", "bytes cut off", base.DEC, nil, nil, "Bytes of the packet that the capture does not have.")
f["pgmlite.nak.first"] = ProtoField.uint64("pgmlite.nak.first", "first symbol", base.DEC, nil, nil, "First symbol of a stretch that is asked for.")
f["pgmlite.nak.last"] = ProtoField.uint64("pgmlite.nak.last", "last symbol", base.DEC, nil, nil, "Last symbol of a stretch that is asked for.")
f["pgmlite.ncf.first"] = ProtoField.uint64("pgmlite.ncf.first", "first symbol", base.DEC, nil, nil, "First symbol of a stretch that is confirmed.")
f["pgmlite.ncf.last"] = ProtoField.uint64("pgmlite.ncf.last", "last symbol", base.DEC, nil, nil, "Last symbol of a stretch that is confirmed.")
f["pgmlite.request.symbols"] = ProtoField.uint32("pgmlite.request.symbols", "symbols", base.DEC, nil, nil, "How many symbols the request names.")
f["pgmlite.repairs.grtt_time"] = ProtoField.double("pgmlite.repairs.grtt_time", "GRTT in s")
f["pgmlite.repairs.group_size"] = ProtoField.uint32("pgmlite.repairs.group_size", "group size", base.DEC, nil, nil, "What gsize stands for.")
f["pgmlite.repairer.address"] = ProtoField.ipv6("pgmlite.repairer.address", "address")
f["pgmlite.repairer.port"] = ProtoField.uint16("pgmlite.repairer.port", "port", base.DEC, nil, nil, "UDP port of a repairer.")
f["pgmlite.manifest.tiles_digest"] = ProtoField.bytes("pgmlite.manifest.tiles_digest", "tiles_digest", base.NONE, "Digest of the root of the tree of tiles.")
f["pgmlite.leaf.number"] = ProtoField.uint64("pgmlite.leaf.number", "tile", base.DEC, nil, nil, "Number of the tile whose leaf this is.")
f["pgmlite.leaf.tile"] = ProtoField.bytes("pgmlite.leaf.tile", "tile digest", base.NONE, "Digest of the whole tile.")
f["pgmlite.leaf.symbol"] = ProtoField.bytes("pgmlite.leaf.symbol", "symbol digest", base.NONE, "Digest of a symbol, in the order of the tile.")
f["pgmlite.channel.rate"] = ProtoField.uint64("pgmlite.channel.rate", "rate", base.DEC, nil, nil, "Rate of a channel in bit/s.")
f["pgmlite.channel.address"] = ProtoField.ipv6("pgmlite.channel.address", "address")
f["pgmlite.channel.port"] = ProtoField.uint16("pgmlite.channel.port", "port", base.DEC, nil, nil, "UDP port of a channel.")
pgmlite.fields = f

local malformed = ProtoExpert.new(
  "pgmlite.malformed", "Refused", expert.group.MALFORMED, expert.severity.ERROR)
pgmlite.experts = {malformed}

local TYPE = {SPM = 0, ODATA = 4, RDATA = 5, TREE = 7, NAK = 8, NCF = 10}
local NAME = {[0] = "SPM", [4] = "ODATA", [5] = "RDATA", [7] = "TREE", [8] = "NAK", [10] = "NCF"}
local C = {
  MAGIC = 28775,
  VERSION = 2,
  HEADER = 48,
  SPM = 20,
  NAK = 20,
  REQUEST = 8,
  RANGE = 8,
  COUNT = 8,
  OPTION = 4,
  MOST_OPTIONS = 32,
  POSITION = 16,
  REPAIRS = 14,
  SIGNATURE = 72,
  RELEASE = 24,
  MAX_STREAM = 64,
  MAX_CONTROL = 1232,
  MAX_REQUESTED = 65536,
  MAX_MANIFEST = 896,
  MAX_BLOCK_SYMBOLS = 4096,
  MAX_FEC_BLOCK_SYMBOLS = 1024,
  MOST_REPAIRS = 7,
  LEAST_REPAIRS = 64,
  VISIT_SYMBOLS = 16,
  TILE_BLOCKS = 8,
  CODED = 1,
  BLOCKS = 0,
  RANDOM = 2,
  TERRITORY = 3,
  DIGEST = 32,
  SYMBOL_DIGEST = 8,
  TILES = 1,
  NO_TREE = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
  MIN_SYMBOL_SIZE = 64,
  MAX_SYMBOL_SIZE = 65456,
  SYMBOL_ALIGNMENT = 4,
  MANIFEST = 56,
  MANIFEST_MAGIC = 1346849869,
  CRITICAL = 32768,
  REPAIR_SYMBOL = 1,
  STRIP_SYMBOLS = 16,
  OPTION_MANIFEST = 32769,
  OPTION_POSITION = 2,
  OPTION_REPAIRS = 3,
  OPTION_SIGNATURE = 4,
  OPTION_RELEASE = 3,
  OPTION_TILES = 4,
  OPTION_ARCHIVE = 5,
  ARCHIVE = 12,
  ARCHIVE_RECORD = 512,
  REPAIRER = 1,
  ENDPOINT = 18,
  CHANNEL = 2,
  RUNG = 26,
  MOST_CHANNELS = 6,
  MAPPED_IPV4 = "00000000000000000000FFFF",
  RANGES = 0,
  BITMAP = 1,
  COUNTS = 2,
}

local places = {}
places["header"] = {
  {f["pgmlite.magic"], 0, 2},
  {f["pgmlite.version"], 2, 1},
  {f["pgmlite.type"], 3, 1},
  {f["pgmlite.channel"], 4, 1},
  {f["pgmlite.flags"], 5, 1},
  {f["pgmlite.symbol_size"], 6, 2},
  {f["pgmlite.tsi"], 8, 8},
  {f["pgmlite.oid"], 16, 8},
  {f["pgmlite.size"], 24, 8},
  {f["pgmlite.offset"], 32, 8},
  {f["pgmlite.sqn"], 40, 4},
  {f["pgmlite.esi"], 44, 4},
}
places["spm"] = {
  {f["pgmlite.spm.timestamp"], 0, 8},
  {f["pgmlite.spm.rate"], 8, 8},
  {f["pgmlite.spm.spm_interval"], 16, 4},
}
places["position"] = {
  {f["pgmlite.position.place"], 0, 8},
  {f["pgmlite.position.order"], 8, 1},
  {f["pgmlite.position.sector"], 9, 1},
  {f["pgmlite.position.sectors"], 10, 1},
  {f["pgmlite.position.reserved"], 11, 1},
  {f["pgmlite.position.first"], 12, 4},
}
places["repairs"] = {
  {f["pgmlite.repairs.nonce"], 0, 8},
  {f["pgmlite.repairs.grtt"], 8, 1},
  {f["pgmlite.repairs.gsize"], 9, 1},
  {f["pgmlite.repairs.backoff_factor"], 10, 1},
  {f["pgmlite.repairs.repair_share"], 11, 1},
  {f["pgmlite.repairs.repair_port"], 12, 2},
}
places["signature"] = {
  {f["pgmlite.signature.key_id"], 0, 8},
  {f["pgmlite.signature.signature"], 8, 64},
}
places["manifest"] = {
  {f["pgmlite.manifest.magic"], 0, 4},
  {f["pgmlite.manifest.version"], 4, 1},
  {f["pgmlite.manifest.digest_algorithm"], 5, 1},
  {f["pgmlite.manifest.fec_scheme"], 6, 1},
  {f["pgmlite.manifest.tile_blocks"], 7, 1},
  {f["pgmlite.manifest.symbol_size"], 8, 2},
  {f["pgmlite.manifest.block_symbols"], 10, 2},
  {f["pgmlite.manifest.repair_symbols"], 12, 2},
  {f["pgmlite.manifest.strip_symbols"], 14, 2},
  {f["pgmlite.manifest.size"], 16, 8},
  {f["pgmlite.manifest.tree_digest"], 24, 32},
}
places["release"] = {
  {f["pgmlite.release.number"], 0, 8},
  {f["pgmlite.release.created"], 8, 8},
  {f["pgmlite.release.expires"], 16, 8},
}
places["archive"] = {
  {f["pgmlite.archive.entries"], 0, 4},
  {f["pgmlite.archive.size"], 4, 8},
}
places["request"] = {
  {f["pgmlite.request.form"], 0, 1},
  {f["pgmlite.request.flags"], 1, 1},
  {f["pgmlite.request.count"], 2, 2},
  {f["pgmlite.request.base"], 4, 4},
}
places["range"] = {
  {f["pgmlite.range.start"], 0, 4},
  {f["pgmlite.range.length"], 4, 4},
}
places["count"] = {
  {f["pgmlite.count.block"], 0, 4},
  {f["pgmlite.count.first"], 4, 2},
  {f["pgmlite.count.count"], 6, 2},
}
places["nak"] = {
  {f["pgmlite.nak.nonce"], 0, 8},
  {f["pgmlite.nak.timestamp"], 8, 8},
  {f["pgmlite.nak.loss"], 16, 2},
  {f["pgmlite.nak.reserved"], 18, 2},
}
places["spm.option"] = {
  {f["pgmlite.spm.option.kind"], 0, 2},
}
places["manifest.option"] = {
  {f["pgmlite.manifest.option.kind"], 0, 2},
}

-- Shows the fields of a struct that lie within the bytes from `at` on.
local function show(tree, struct, tvb, at)
  for _, place in ipairs(places[struct]) do
    if at + place[2] + place[3] <= tvb:len() then
      tree:add(place[1], tvb(at + place[2], place[3]))
    end
  end
end

local function is_symbol_size(value)
  return value >= C.MIN_SYMBOL_SIZE and value <= C.MAX_SYMBOL_SIZE
    and value % C.SYMBOL_ALIGNMENT == 0
end

-- First and last of the characters that a name may not have.
local REFUSED = {{0, 31}, {127, 159}, {1564, 1564}, {8206, 8207}, {8232, 8233}, {8234, 8238}, {8294, 8297}, {55296, 57343}}

-- How many bytes the character at `at` has, and its code point; nil if it is not UTF-8.
local function character(text, at)
  local one = text:byte(at)
  if one < 0x80 then return 1, one end
  local size = one >= 0xf0 and 4 or one >= 0xe0 and 3 or 2
  if one < 0xc2 or one > 0xf4 then return nil end
  local point = one % 2 ^ (7 - size)
  for place = at + 1, at + size - 1 do
    local more = text:byte(place)
    if not more or more < 0x80 or more > 0xbf then return nil end
    point = point * 64 + more % 64
  end
  if size > 2 and point < (size == 3 and 0x800 or 0x10000) or point > 0x10ffff then return nil end
  return size, point
end

-- Whether bytes are UTF-8 without characters that are refused.
local function is_name(text)
  local at = 1
  while at <= #text do
    local size, point = character(text, at)
    if not size then return false end
    for _, range in ipairs(REFUSED) do
      if point >= range[1] and point <= range[2] then return false end
    end
    at = at + size
  end
  return true
end

-- The header: returns why it is refused, or nil. `whole` are the bytes of one packet.
local function check_header(whole)
  if whole:len() < C.HEADER then return "short" end
  if whole(0, 2):uint() ~= C.MAGIC then return "magic" end
  if whole(2, 1):uint() ~= C.VERSION then return "version" end
  local kind = whole(3, 1):uint()
  if not NAME[kind] then return "type" end
  local is_data = kind == TYPE.ODATA or kind == TYPE.RDATA
  local is_repair = is_data and whole(5, 1):uint() == C.REPAIR_SYMBOL
  if whole(5, 1):uint() ~= 0 and not is_repair then return "reserved" end
  local symbol_size = whole(6, 2):uint()
  if not is_symbol_size(symbol_size) then return "symbol_size" end
  local width = whole:len() - C.HEADER
  if is_data and (width < 1 or width > symbol_size) then return "length" end
  if kind == TYPE.TREE
    and (width < C.DIGEST or width > symbol_size or width % C.SYMBOL_DIGEST ~= 0) then
    return "length"
  end
  if whole(24, 1):uint() > 127 or whole(32, 1):uint() > 127 then return "offset" end
  local size, offset, esi = whole(24, 8):uint64(), whole(32, 8):uint64(), whole(44, 4):uint()
  if is_data and offset % UInt64(symbol_size) ~= UInt64(0) then return "offset" end
  if is_data then
    if offset >= size then return "offset" end
    local room = size - offset
    if is_repair then
      if width ~= symbol_size then return "offset" end
    elseif width == symbol_size then
      if room < UInt64(width) then return "offset" end
    elseif room ~= UInt64(width) then
      return "offset"
    end
    if not is_repair and UInt64(esi) > offset / UInt64(symbol_size) then return "esi" end
  elseif esi > (kind == TYPE.TREE and C.TILES or 0) then
    return "esi"
  end
  return nil
end

-- Options to the end of the bytes, of an "spm" or a "manifest", each given to `take` with its tree,
-- its kind, where its value is, and how long. Returns why they are refused, or nil.
local function dissect_options(tree, tvb, at, owner, take)
  while at < tvb:len() do
    if at + C.OPTION > tvb:len() then return owner end
    local kind, length = tvb(at, 2):uint(), tvb(at + 2, 2):uint()
    if at + C.OPTION + length > tvb:len() then return owner end
    local one = tree:add(pgmlite, tvb(at, C.OPTION + length), "option")
    show(one, owner .. ".option", tvb, at)
    local value = at + C.OPTION
    if length > 0 then one:add(f["pgmlite." .. owner .. ".option.value"], tvb(value, length)) end
    local reason = take(one, kind, value, length)
    if reason then return reason end
    at = value + length
  end
  return nil
end

-- How many source symbols the object of a manifest has.
local function symbols_of(manifest)
  local symbol_size = UInt64(math.max(manifest(8, 2):uint(), 1))
  return (manifest(16, 8):uint64() + symbol_size - UInt64(1)) / symbol_size
end

-- Whether scheme, tiles and repair symbols of a manifest fit together.
local function is_coded(manifest)
  local scheme, tile = manifest(6, 1):uint(), manifest(7, 1):uint()
  local symbols, repairs = manifest(10, 2):uint(), manifest(12, 2):uint()
  if tile < 1 or tile > C.TILE_BLOCKS then return false end
  if scheme == 0 then return repairs == 0 end
  local total = symbols_of(manifest)
  return scheme == C.CODED and repairs > 0 and symbols <= C.MAX_FEC_BLOCK_SYMBOLS
    and (UInt64(symbols) <= total or symbols == 1)
    and repairs <= math.max(C.MOST_REPAIRS * symbols, C.LEAST_REPAIRS)
end

-- Whether the channels of a manifest, in their order, are a ladder that a receiver can climb.
local function is_ladder(rungs)
  if #rungs > C.MOST_CHANNELS then return false end
  local seen, families = {}, {}
  for place, rung in ipairs(rungs) do
    local rate, group = rung(0, 8):uint64(), rung(8, 18):bytes():tohex()
    if rate == UInt64(0) or (place > 1 and rate <= rungs[place - 1](0, 8):uint64()) then
      return false
    end
    local is_ipv4 = group:sub(1, 24) == C.MAPPED_IPV4
    local first = rung(is_ipv4 and 20 or 8, 1):uint()
    local is_multicast = is_ipv4 and first >= 224 and first < 240 or not is_ipv4 and first == 255
    if not is_multicast or rung(24, 2):uint() == 0 or seen[group] then return false end
    seen[group], families[is_ipv4] = true, true
  end
  return not (families[true] and families[false])
end

-- Whether an option with a release is one that an object can have.
local function is_release(tvb, at, size)
  if size <= C.RELEASE + 1 then return false end
  local length = tvb(at + C.RELEASE, 1):uint()
  if length < 1 or length > C.MAX_STREAM or size ~= C.RELEASE + 1 + length then return false end
  local created, expires = tvb(at + 8, 8):uint64(), tvb(at + 16, 8):uint64()
  return is_name(tvb(at + C.RELEASE + 1, length):raw())
    and (expires == UInt64(0) or expires > created)
end

-- Whether an option says what an archive of the manifest's size can have in it.
local function is_archive(tvb, at, size)
  if size ~= C.ARCHIVE then return false end
  local entries, bytes, room = tvb(at, 4):uint(), tvb(at + 4, 8):uint64(), tvb(16, 8):uint64()
  local headers = UInt64(entries) * UInt64(C.ARCHIVE_RECORD)
  return entries > 0 and headers <= room and bytes <= room - headers
end

local function ceil(number, divisor)
  return (number + UInt64(divisor - 1)) / UInt64(divisor)
end

-- How many nodes the tree of tiles of a valid manifest has above its leaves.
local function nodes_of(manifest)
  local symbols, repairs = manifest(10, 2):uint(), manifest(12, 2):uint()
  local visits = math.ceil(symbols / C.VISIT_SYMBOLS) + math.ceil(repairs / C.VISIT_SYMBOLS)
  local groups = ceil(ceil(symbols_of(manifest), symbols), manifest(7, 1):uint())
  local below, nodes = groups * UInt64(visits), UInt64(0)
  local fanout = math.floor(manifest(8, 2):uint() / C.DIGEST)
  while below > UInt64(1) or (below == UInt64(1) and nodes == UInt64(0)) do
    below = ceil(below, fanout)
    nodes = nodes + below
  end
  return nodes
end

-- By oid: the number of the first leaf, of signed objects whose manifest was seen.
local first_leaf = {}

-- The manifest; `header` are the bytes of the packet's header.
local function dissect_manifest(parent, tvb, header)
  local tree = parent:add(pgmlite, tvb(), "manifest")
  show(tree, "manifest", tvb, 0)
  if tvb:len() > C.MAX_MANIFEST or tvb:len() < C.MANIFEST + 1 then return "manifest" end
  local name = C.MANIFEST + 1
  local length = tvb(name - 1, 1):uint()
  if name + length > tvb:len() or length == 0 then return "manifest" end
  tree:add_packet_field(f["pgmlite.manifest.name"], tvb(name, length), ENC_UTF_8)
  local ladder, trust, has_archive = {}, {}, false
  local reason = dissect_options(tree, tvb, name + length, "manifest", function(one, kind, at, size)
    if kind >= C.CRITICAL then return "manifest" end
    if kind == C.REPAIRER then
      if size ~= C.ENDPOINT or tvb(at + 16, 2):uint() == 0 then return "manifest" end
      one:add(f["pgmlite.repairer.address"], tvb(at, 16))
      one:add(f["pgmlite.repairer.port"], tvb(at + 16, 2))
    elseif kind == C.CHANNEL then
      if size ~= C.RUNG then return "manifest" end
      one:add(f["pgmlite.channel.rate"], tvb(at, 8))
      one:add(f["pgmlite.channel.address"], tvb(at + 8, 16))
      one:add(f["pgmlite.channel.port"], tvb(at + 24, 2))
      ladder[#ladder + 1] = tvb(at, size)
    elseif kind == C.OPTION_RELEASE or kind == C.OPTION_TILES then
      if trust[kind] then return "manifest" end
      trust[kind] = true
      if kind == C.OPTION_TILES then
        if size ~= C.DIGEST then return "manifest" end
        one:add(f["pgmlite.manifest.tiles_digest"], tvb(at, size))
        trust.digest = tvb(at, size):bytes():tohex(true)
      else
        if not is_release(tvb, at, size) then return "manifest" end
        show(one, "release", tvb, at)
        local stream = tvb(at + C.RELEASE + 1, size - C.RELEASE - 1)
        one:add_packet_field(f["pgmlite.release.stream"], stream, ENC_UTF_8)
      end
    elseif kind == C.OPTION_ARCHIVE then
      if has_archive or not is_archive(tvb, at, size) then return "manifest" end
      has_archive = true
      show(one, "archive", tvb, at)
    end
    return nil
  end)
  if reason then return reason end
  if not is_ladder(ladder) then return "manifest" end
  if tvb(0, 4):uint() ~= C.MANIFEST_MAGIC or tvb(4, 1):uint() ~= C.VERSION
    or tvb(5, 1):uint() ~= 1 or tvb(14, 2):uint() ~= C.STRIP_SYMBOLS then
    return "manifest"
  end
  local symbols = tvb(10, 2):uint()
  if symbols < 1 or symbols > C.MAX_BLOCK_SYMBOLS then return "manifest" end
  if not is_coded(tvb) then return "manifest" end
  if tvb(8, 2):uint() ~= header(6, 2):uint() or tvb(16, 8):uint64() ~= header(24, 8):uint64() then
    return "manifest"
  end
  local is_empty = tvb(16, 8):uint64() == UInt64(0)
  if is_empty and tvb(24, C.DIGEST):bytes():tohex(true) ~= C.NO_TREE then return "manifest" end
  if not is_name(tvb(name, length):raw()) then return "manifest" end
  if trust[C.OPTION_RELEASE] ~= trust[C.OPTION_TILES] then return "manifest" end
  if trust.digest then
    if is_empty and trust.digest ~= C.NO_TREE then return "manifest" end
    local room = tvb(8, 2):uint() - C.DIGEST
    if tvb(7, 1):uint() > math.floor(room / (C.VISIT_SYMBOLS * C.SYMBOL_DIGEST)) then
      return "manifest"
    end
    first_leaf[header(16, 8):bytes():tohex()] = nodes_of(tvb)
  end
  return nil
end

local function dissect_repairs(tree, tvb, at)
  show(tree, "repairs", tvb, at)
  local grtt = tvb(at + 8, 1):uint()
  local seconds = grtt <= 31 and (grtt + 1) * 1e-6 or 1000 / math.exp((255 - grtt) / 13)
  tree:add(f["pgmlite.repairs.grtt_time"], tvb(at + 8, 1), seconds):set_generated()
  local gsize = tvb(at + 9, 1):uint() % 16
  local size = (gsize >= 8 and 5 or 1) * 10 ^ (gsize % 8 + 1)
  tree:add(f["pgmlite.repairs.group_size"], tvb(at + 9, 1), size):set_generated()
  return tvb(at + 12, 2):uint() == 0 and "spm" or nil
end

-- Whether a carousel of the object of a valid manifest can begin where a position says.
local function is_position(tvb, at, manifest)
  local order, sector, sectors = tvb(at + 8, 1):uint(), tvb(at + 9, 1):uint(), tvb(at + 10, 1):uint()
  if tvb(at + 11, 1):uint() ~= 0 then return false end
  if order > C.TERRITORY then return true end
  if sector >= sectors then return false end
  local total = symbols_of(manifest)
  if order == C.RANDOM or total == UInt64(0) then return true end
  local symbols = manifest(10, 2):uint()
  local repairs = manifest(12, 2):uint()
  local things = UInt64(math.ceil(symbols / C.VISIT_SYMBOLS))
  if order == C.BLOCKS then
    local blocks = (total + UInt64(symbols - 1)) / UInt64(symbols)
    local tile = manifest(7, 1):uint()
    things = (blocks + UInt64(tile - 1)) / UInt64(tile)
  elseif order == C.TERRITORY then
    if repairs == 0 then return false end
    things = things + UInt64(math.ceil(repairs / C.VISIT_SYMBOLS))
  end
  local from = UInt64(sector) * things / UInt64(sectors)
  local to = UInt64(sector + 1) * things / UInt64(sectors)
  if from == to and order ~= C.TERRITORY then from, to = UInt64(0), things end
  local first = UInt64(tvb(at + 12, 4):uint())
  return first >= from and first < to
end

local function dissect_spm(parent, tvb, header)
  local tree = parent:add(pgmlite, tvb(), "SPM")
  show(tree, "spm", tvb, 0)
  if tvb:len() < C.SPM or tvb:len() > C.MAX_CONTROL - C.HEADER then return "spm" end
  local seen, manifest, manifest_reason, position = {}, nil, nil, nil
  local options = 0
  local reason = dissect_options(tree, tvb, C.SPM, "spm", function(one, kind, at, size)
    options = options + 1
    if options > C.MOST_OPTIONS then return "spm" end
    if kind == C.OPTION_MANIFEST then
      if size > 0 then
        manifest = tvb(at, size)
        manifest_reason = dissect_manifest(one, manifest:tvb(), header)
      else
        manifest_reason = "manifest"
      end
    elseif kind == C.OPTION_POSITION then
      if size ~= C.POSITION then return "spm" end
      show(one, "position", tvb, at)
      position = at
    elseif kind == C.OPTION_REPAIRS then
      if size ~= C.REPAIRS then return "spm" end
      local wrong = dissect_repairs(one, tvb, at)
      if wrong then return wrong end
    elseif kind == C.OPTION_SIGNATURE then
      if size ~= C.SIGNATURE then return "spm" end
      show(one, "signature", tvb, at)
      return nil
    else
      return kind >= C.CRITICAL and "spm" or nil
    end
    if seen[kind] then return "spm" end
    seen[kind] = true
    return nil
  end)
  if reason then return reason end
  if not seen[C.OPTION_MANIFEST] then return "spm" end
  if manifest_reason then return manifest_reason end
  if position and not is_position(tvb, position, manifest) then return "spm" end
  return nil
end

-- Counts: whether blocks ascend and each has a count. What they may be at most, the object says.
local function dissect_counts(tree, tvb, what, count, base)
  if tvb:len() ~= C.REQUEST + count * C.COUNT or count == 0 or base ~= 0 then return "request" end
  local before, named = -1, 0
  for place = 0, count - 1 do
    local at = C.REQUEST + place * C.COUNT
    local one = tree:add(pgmlite, tvb(at, C.COUNT), "count")
    show(one, "count", tvb, at)
    local block, first, symbols = tvb(at, 4):uint(), tvb(at + 4, 2):uint(), tvb(at + 6, 2):uint()
    if block <= before or symbols == 0 or (what == "nak" and first > 0) then return "request" end
    before, named = block, named + symbols
  end
  if named > C.MAX_REQUESTED then return "request" end
  tree:add(f["pgmlite.request.symbols"], tvb(), named):set_generated()
  return nil
end

-- A request; `what` is "nak" or "ncf". Shows every stretch of symbols that it names.
local function dissect_request(tree, tvb, what, total)
  show(tree, "request", tvb, 0)
  if tvb:len() < C.REQUEST or tvb(1, 1):uint() ~= 0 then return "request" end
  local form, count, base = tvb(0, 1):uint(), tvb(2, 2):uint(), tvb(4, 4):uint()
  if form == C.COUNTS then return dissect_counts(tree, tvb, what, count, base) end
  local named, past, stretches = 0, 0, {}
  if form == C.RANGES then
    if tvb:len() ~= C.REQUEST + count * C.RANGE then return "request" end
    for place = 0, count - 1 do
      local at = C.REQUEST + place * C.RANGE
      local one = tree:add(pgmlite, tvb(at, C.RANGE), "range")
      show(one, "range", tvb, at)
      local start, length = tvb(at, 4):uint(), tvb(at + 4, 4):uint()
      if length == 0 or start < past then return "request" end
      past = start + length
      named = named + length
      stretches[#stretches + 1] = {base + start, base + past - 1, tvb(at, C.RANGE), one}
    end
  elseif form == C.BITMAP then
    if tvb:len() ~= C.REQUEST + count then return "request" end
    local items = count > 0 and tree:add(f["pgmlite.request.items"], tvb(C.REQUEST, count))
    local first, opened
    for place = 0, count * 8 do
      local at = C.REQUEST + math.floor(place / 8)
      local is_set = place < count * 8 and tvb(at, 1):bitfield(place % 8, 1) == 1
      if is_set then
        named = named + 1
        past = place + 1
        if not first then first, opened = place, at end
      elseif first then
        local bytes = math.floor((place - 1) / 8) + C.REQUEST - opened + 1
        stretches[#stretches + 1] = {base + first, base + place - 1, tvb(opened, bytes), items}
        first = nil
      end
    end
  else
    return "request"
  end
  if named == 0 or named > C.MAX_REQUESTED or base + past > total then return "request" end
  for _, one in ipairs(stretches) do
    one[4]:add(f["pgmlite." .. what .. ".first"], one[3], UInt64(one[1])):set_generated()
    one[4]:add(f["pgmlite." .. what .. ".last"], one[3], UInt64(one[2])):set_generated()
  end
  tree:add(f["pgmlite.request.symbols"], tvb(), named):set_generated()
  return nil
end

-- A node of the tree of tiles. Whether it is a leaf, the manifest tells.
local function dissect_leaf(tree, whole)
  local first, number = first_leaf[whole(16, 8):bytes():tohex()], whole(32, 8):uint64()
  if not first or number < first then return end
  local leaf = tree:add(pgmlite, whole(C.HEADER), "leaf")
  leaf:add(f["pgmlite.leaf.number"], whole(32, 8), number - first):set_generated()
  leaf:add(f["pgmlite.leaf.tile"], whole(C.HEADER, C.DIGEST))
  for at = C.HEADER + C.DIGEST, whole:len() - C.SYMBOL_DIGEST, C.SYMBOL_DIGEST do
    leaf:add(f["pgmlite.leaf.symbol"], whole(at, C.SYMBOL_DIGEST))
  end
end

-- What follows the header: returns why the packet is refused, or nil.
local function dissect_body(tree, whole)
  local kind = whole(3, 1):uint()
  local is_empty = whole:len() == C.HEADER
  if kind == TYPE.SPM then
    return is_empty and "spm" or dissect_spm(tree, whole(C.HEADER):tvb(), whole)
  end
  if kind ~= TYPE.NAK and kind ~= TYPE.NCF then
    tree:add(f["pgmlite.payload"], whole(C.HEADER))
    if kind == TYPE.TREE and whole(44, 4):uint() == C.TILES then dissect_leaf(tree, whole) end
    return nil
  end
  if is_empty or whole:len() > C.MAX_CONTROL then return "request" end
  local symbol_size = UInt64(whole(6, 2):uint())
  local total = ((whole(24, 8):uint64() + symbol_size - UInt64(1)) / symbol_size):tonumber()
  if kind == TYPE.NCF then
    local part = tree:add(pgmlite, whole(C.HEADER), "request")
    return dissect_request(part, whole(C.HEADER):tvb(), "ncf", total)
  end
  local part = tree:add(pgmlite, whole(C.HEADER), "NAK")
  show(part, "nak", whole(C.HEADER):tvb(), 0)
  if whole:len() <= C.HEADER + C.NAK or whole(C.HEADER + 18, 2):uint() ~= 0 then
    return "request"
  end
  local asked = part:add(pgmlite, whole(C.HEADER + C.NAK), "request")
  return dissect_request(asked, whole(C.HEADER + C.NAK):tvb(), "nak", total)
end

local function dissect_packet(whole, root, cut)
  local tree = root:add(pgmlite, whole())
  if cut > 0 or whole:len() >= C.HEADER then show(tree, "header", whole, 0) end
  if whole:len() > 5 then tree:add(f["pgmlite.flags.repair_symbol"], whole(5, 1)) end
  local reason
  if cut > 0 then
    tree:add(f["pgmlite.cut"], whole(), cut):set_generated()
  else
    reason = check_header(whole) or dissect_body(tree, whole)
  end
  local name = whole:len() >= 4 and NAME[whole(3, 1):uint()]
  local summary = cut > 0 and "cut by the capture" or "refused"
  if name and whole:len() >= C.HEADER then
    summary = string.format(
      "%s sqn %u offset %s", name, whole(40, 4):uint(), tostring(whole(32, 8):uint64()))
    if whole(5, 1):uint() == C.REPAIR_SYMBOL then
      summary = string.format("%s repair symbol %u", summary, whole(44, 4):uint())
    end
    if name == NAME[TYPE.TREE] and whole(44, 4):uint() == C.TILES then
      summary = summary .. " of tiles"
    end
    if cut > 0 then summary = summary .. " [cut by the capture]" end
  end
  if reason then
    tree:add(f["pgmlite.refused"], whole(), reason):set_generated()
    tree:add_proto_expert_info(malformed, "Refused: " .. reason)
    summary = summary .. " [refused: " .. reason .. "]"
  end
  tree:append_text(": " .. summary)
  return summary
end

-- Whether a packet begins at `at` that is of the version, channel and symbol size of the first.
local function begins_like(tvb, at)
  return tvb(at, 3):uint() == tvb(0, 3):uint() and tvb(at + 4, 1):uint() == tvb(4, 1):uint()
    and tvb(at + 6, 2):uint() == tvb(6, 2):uint()
end

-- How long the packet at the start of a datagram is, by what it says; nil if it does not.
local function length_of(tvb)
  local kind = tvb(3, 1):uint()
  if kind == TYPE.ODATA or kind == TYPE.RDATA then
    local width, size, offset = tvb(6, 2):uint(), tvb(24, 8):uint64(), tvb(32, 8):uint64()
    if offset >= size then return C.HEADER end
    if tvb(5, 1):uint() == C.REPAIR_SYMBOL then return C.HEADER + width end
    local room = size - offset
    return C.HEADER + (room < UInt64(width) and room:tonumber() or width)
  end
  if kind == TYPE.TREE or kind == TYPE.SPM then
    -- They end with the packet; the next packet of the same session tells.
    local raw = tvb():raw()
    local at = raw:find(raw:sub(7, 32), C.HEADER + 7, true)
    return at and begins_like(tvb, at - 7) and at - 7 or nil
  end
  local body = C.HEADER + (kind == TYPE.NAK and C.NAK or 0)
  if (kind ~= TYPE.NAK and kind ~= TYPE.NCF) or tvb:len() < body + C.REQUEST then return nil end
  local form = tvb(body, 1):uint()
  local step = form == C.RANGES and C.RANGE or form == C.COUNTS and C.COUNT or 1
  return body + C.REQUEST + tvb(body + 2, 2):uint() * step
end

-- Bytes from packet to packet. A capture made where the system cuts or joins packets shows many
-- in one datagram: all but the last have the length of the first.
local function stride_of(tvb, length)
  if tvb:len() < C.HEADER or tvb(0, 2):uint() ~= C.MAGIC or tvb(2, 1):uint() ~= C.VERSION then
    return length
  end
  local stride = length_of(tvb)
  if not stride or stride < C.HEADER or stride >= length then return length end
  local tail = length % stride
  if tail > 0 and tail < C.HEADER then return length end
  for at = stride, tvb:len() - 8, stride do
    if not begins_like(tvb, at) then return length end
  end
  return stride
end

function pgmlite.dissector(tvb, pinfo, root)
  pinfo.cols.protocol = "pgmlite"
  if tvb:len() == 0 then return 0 end
  local length = tvb:reported_len()
  local stride = stride_of(tvb, length)
  local summary
  for at = 0, tvb:len() - 1, stride do
    local size = math.min(stride, length - at)
    local here = math.min(size, tvb:len() - at)
    local one = dissect_packet(tvb(at, here):tvb(), root, size - here)
    summary = summary or one
  end
  pinfo.cols.info = summary
  return tvb:len()
end

-- Sessions and repairers on other ports are recognised by their first bytes.
local function recognise(tvb, pinfo, root)
  if tvb:reported_len() < C.HEADER or tvb:len() < 8
    or tvb(0, 2):uint() ~= C.MAGIC or tvb(2, 1):uint() ~= C.VERSION
    or not NAME[tvb(3, 1):uint()] or tvb(5, 1):uint() > C.REPAIR_SYMBOL
    or not is_symbol_size(tvb(6, 2):uint()) then
    return false
  end
  pgmlite.dissector(tvb, pinfo, root)
  return true
end

pgmlite:register_heuristic("udp", recognise)
local ports = DissectorTable.get("udp.port")
ports:add(28775, pgmlite)
ports:add(28776, pgmlite)
