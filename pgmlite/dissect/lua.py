"""From the construct declaration to the Wireshark dissector ``spec/pgmlite.lua``.

Fields, their names, places, values and documentation come from the declaration; the template below
adds what a declaration does not say: which part follows which, and the checks of spec section 3.8.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgmlite.wire import control, layout, request
from pgmlite.wire.derive import STRUCTS, Field, fields
from pgmlite.wire.layout import ManifestOption, PacketType, RequestForm

INTEGERS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
HEXADECIMAL = {"magic", "type", "tsi", "oid", "nonce", "kind", "flags"}
"""Fields whose digits mean nothing as a number."""

STRINGS = {("manifest", "name")}

COMPUTED = {
    "payload": ("bytes", "payload", "A symbol, or a node of the tree of blocks."),
    "refused": ("string", "refused", "Why a receiver refuses the packet (section 3.8)."),
    "cut": ("uint32", "bytes cut off", "Bytes of the packet that the capture does not have."),
    "nak.first": ("uint64", "first symbol", "First symbol of a stretch that is asked for."),
    "nak.last": ("uint64", "last symbol", "Last symbol of a stretch that is asked for."),
    "ncf.first": ("uint64", "first symbol", "First symbol of a stretch that is confirmed."),
    "ncf.last": ("uint64", "last symbol", "Last symbol of a stretch that is confirmed."),
    "request.symbols": ("uint32", "symbols", "How many symbols the request names."),
    "spm.grtt_time": ("double", "GRTT in s", "What grtt stands for."),
    "spm.group_size": ("uint32", "group size", "What gsize stands for."),
    "extension.address": ("ipv6", "address", "Address of a repairer."),
    "extension.port": ("uint16", "port", "UDP port of a repairer."),
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
    for struct, declared in STRUCTS.items():
        for field in fields(declared):
            yield _declaration(struct, field)
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
        for field in fields(STRUCTS[struct])
        if field.offset is not None and field.size is not None
    ]
    return "\n".join([f"places.{struct} = {{", *rows, "}"])


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
        "MAX_CONTROL": layout.MAX_CONTROL,
        "MAX_REQUESTED": request.MAX_REQUESTED,
        "MAX_MANIFEST": layout.MAX_MANIFEST,
        "MAX_BLOCK_SYMBOLS": layout.MAX_BLOCK_SYMBOLS,
        "MIN_SYMBOL_SIZE": layout.MIN_SYMBOL_SIZE,
        "MAX_SYMBOL_SIZE": layout.MAX_SYMBOL_SIZE,
        "SYMBOL_ALIGNMENT": layout.SYMBOL_ALIGNMENT,
        "MANIFEST": sum(field.size or 0 for field in fields(layout.MANIFEST)),
        "MANIFEST_MAGIC": int.from_bytes(control.MANIFEST_MAGIC, "big"),
        "CRITICAL": layout.CRITICAL,
        "REPAIRER": int(ManifestOption.REPAIRER),
        "ENDPOINT": control.ENDPOINT_SIZE,
        "RANGES": int(RequestForm.RANGES),
        "BITMAP": int(RequestForm.BITMAP),
    }
    text = TEMPLATE
    types = ", ".join(f"{one.name} = {one.value}" for one in PacketType)
    names = ", ".join(f'[{one.value}] = "{one.name}"' for one in PacketType)
    for mark, made in {
        "@DECLARATIONS@": "\n".join(_declarations()),
        "@PLACES@": "\n".join(map(_places, STRUCTS)),
        "@TYPES@": types,
        "@NAMES@": names,
        "@CONSTANTS@": "\n".join(f"  {name} = {value}," for name, value in constants.items()),
    }.items():
        text = text.replace(mark, made)
    return text


TEMPLATE = """\
-- Wireshark dissector of the pgmlite protocol, version 1 (protocol.md).
-- Generated from the declaration of the format by tests/generate.py: do not edit.
--
--   wireshark -X lua_script:pgmlite.lua        or copy it to the personal plugin folder
--
-- Packets that a receiver refuses have pgmlite.refused and an expert error with the reason of
-- section 3.8. What needs more than the packet is not checked: whether the oid is the digest of
-- the manifest, and all that depends on what a receiver or a repairer knows. A packet that the
-- capture cut (tcpdump -s) is not judged: it has pgmlite.cut.

local pgmlite = Proto("pgmlite", "pgmlite multicast file carousel")

local f = {}
@DECLARATIONS@
pgmlite.fields = f

local malformed = ProtoExpert.new(
  "pgmlite.malformed", "Refused", expert.group.MALFORMED, expert.severity.ERROR)
pgmlite.experts = {malformed}

local TYPE = {@TYPES@}
local NAME = {@NAMES@}
local C = {
@CONSTANTS@
}

local places = {}
@PLACES@

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

-- Whether bytes are UTF-8 without control characters.
local function is_printable(text)
  local at = 1
  while at <= #text do
    local one = text:byte(at)
    if one < 0x20 or one == 0x7f then return false end
    local more = one < 0x80 and 0 or one >= 0xc2 and one < 0xe0 and 1
      or one >= 0xe0 and one < 0xf0 and 2 or one >= 0xf0 and one < 0xf5 and 3
    if not more then return false end
    for place = at + 1, at + more do
      local next = text:byte(place)
      if not next or next < 0x80 or next > 0xbf then return false end
    end
    if one == 0xc2 and text:byte(at + 1) < 0xa0 then return false end
    at = at + more + 1
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
  if whole(5, 1):uint() ~= 0 then return "reserved" end
  local symbol_size = whole(6, 2):uint()
  if not is_symbol_size(symbol_size) then return "symbol_size" end
  local width = whole:len() - C.HEADER
  local carries = kind == TYPE.ODATA or kind == TYPE.RDATA
  if carries and (width < 1 or width > symbol_size) then return "length" end
  if kind == TYPE.TREE and (width < 32 or width > symbol_size or width % 32 ~= 0) then
    return "length"
  end
  if whole(44, 4):uint() ~= 0 then return "reserved" end
  if whole(24, 1):uint() > 127 or whole(32, 1):uint() > 127 then return "offset" end
  if not carries then return nil end
  local size, offset = whole(24, 8):uint64(), whole(32, 8):uint64()
  if offset % UInt64(symbol_size) ~= UInt64(0) then return "offset" end
  if offset > size then return "offset" end
  local room = size - offset
  if width == symbol_size then
    if room < UInt64(width) then return "offset" end
  elseif room ~= UInt64(width) then
    return "offset"
  end
  return nil
end

local function dissect_extensions(tree, tvb, at)
  while at < tvb:len() do
    if at + 4 > tvb:len() then return "manifest" end
    local length = tvb(at + 2, 2):uint()
    if at + 4 + length > tvb:len() then return "manifest" end
    local one = tree:add(pgmlite, tvb(at, 4 + length), "extension")
    show(one, "extension", tvb, at)
    local kind = tvb(at, 2):uint()
    if length > 0 then one:add(f["pgmlite.extension.value"], tvb(at + 4, length)) end
    if kind >= C.CRITICAL then return "manifest" end
    if kind == C.REPAIRER then
      if length ~= C.ENDPOINT or tvb(at + 20, 2):uint() == 0 then return "manifest" end
      one:add(f["pgmlite.extension.address"], tvb(at + 4, 16))
      one:add(f["pgmlite.extension.port"], tvb(at + 20, 2))
    end
    at = at + 4 + length
  end
  return nil
end

-- The manifest; `header` are the bytes of the packet's header.
local function dissect_manifest(parent, tvb, header)
  local tree = parent:add(pgmlite, tvb(), "manifest")
  show(tree, "manifest", tvb, 0)
  if tvb:len() > C.MAX_MANIFEST or tvb:len() < C.MANIFEST + 1 then return "manifest" end
  local name = C.MANIFEST + 1
  local length = tvb(name - 1, 1):uint()
  if name + length > tvb:len() or length == 0 then return "manifest" end
  tree:add(f["pgmlite.manifest.name"], tvb(name, length))
  local reason = dissect_extensions(tree, tvb, name + length)
  if reason then return reason end
  if tvb(0, 4):uint() ~= C.MANIFEST_MAGIC or tvb(4, 1):uint() ~= 1 or tvb(5, 1):uint() ~= 1
    or tvb(6, 1):uint() ~= 0 or tvb(7, 1):uint() ~= 0 then
    return "manifest"
  end
  local symbols = tvb(10, 2):uint()
  if symbols < 1 or symbols > C.MAX_BLOCK_SYMBOLS then return "manifest" end
  if tvb(8, 2):uint() ~= header(6, 2):uint() or tvb(12, 8):uint64() ~= header(24, 8):uint64() then
    return "manifest"
  end
  if not is_printable(tvb(name, length):raw()) then return "manifest" end
  return nil
end

local function dissect_spm(parent, tvb, header)
  local tree = parent:add(pgmlite, tvb(), "SPM")
  show(tree, "spm", tvb, 0)
  if tvb:len() < C.SPM then return "spm" end
  local grtt = tvb(32, 1):uint()
  local seconds = grtt <= 31 and (grtt + 1) * 1e-6 or 1000 / math.exp((255 - grtt) / 13)
  tree:add(f["pgmlite.spm.grtt_time"], tvb(32, 1), seconds):set_generated()
  local gsize = tvb(33, 1):uint() % 16
  local size = (gsize >= 8 and 5 or 1) * 10 ^ (gsize % 8 + 1)
  tree:add(f["pgmlite.spm.group_size"], tvb(33, 1), size):set_generated()
  if tvb:len() ~= C.SPM + tvb(38, 2):uint() then return "spm" end
  if tvb:len() == C.SPM then return "manifest" end
  return dissect_manifest(tree, tvb(C.SPM):tvb(), header)
end

-- A request; `what` is "nak" or "ncf". Shows every stretch of symbols that it names.
local function dissect_request(tree, tvb, what, total)
  show(tree, "request", tvb, 0)
  if tvb:len() < C.REQUEST or tvb(1, 1):uint() ~= 0 then return "request" end
  local form, count, base = tvb(0, 1):uint(), tvb(2, 2):uint(), tvb(4, 4):uint()
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

-- What follows the header: returns why the packet is refused, or nil.
local function dissect_body(tree, whole)
  local kind = whole(3, 1):uint()
  local is_empty = whole:len() == C.HEADER
  if kind == TYPE.SPM then
    return is_empty and "spm" or dissect_spm(tree, whole(C.HEADER):tvb(), whole)
  end
  if kind ~= TYPE.NAK and kind ~= TYPE.NCF then
    tree:add(f["pgmlite.payload"], whole(C.HEADER))
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

-- How long the packet at the start of a datagram is, by what it says; nil if it does not.
local function length_of(tvb)
  local kind = tvb(3, 1):uint()
  if kind == TYPE.ODATA or kind == TYPE.RDATA then
    local width, size, offset = tvb(6, 2):uint(), tvb(24, 8):uint64(), tvb(32, 8):uint64()
    if offset >= size then return C.HEADER end
    local room = size - offset
    return C.HEADER + (room < UInt64(width) and room:tonumber() or width)
  end
  if kind == TYPE.TREE then
    -- The manifest would tell; the next packet of the same session does.
    local raw = tvb():raw()
    local at = raw:find(raw:sub(5, 32), C.HEADER + 5, true)
    at = at and at - 5
    return at and raw:sub(at + 1, at + 3) == raw:sub(1, 3) and at or nil
  end
  local body = C.HEADER + (kind == TYPE.NAK and C.NAK or 0)
  if kind == TYPE.SPM then
    local fixed = C.HEADER + C.SPM
    return tvb:len() >= fixed and fixed + tvb(C.HEADER + 38, 2):uint() or nil
  end
  if (kind ~= TYPE.NAK and kind ~= TYPE.NCF) or tvb:len() < body + C.REQUEST then return nil end
  local step = tvb(body, 1):uint() == C.RANGES and C.RANGE or 1
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
    if tvb(at, 3):uint() ~= tvb(0, 3):uint() or tvb(at + 4, 4):uint() ~= tvb(4, 4):uint() then
      return length
    end
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
    or not NAME[tvb(3, 1):uint()] or tvb(5, 1):uint() ~= 0
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
"""
