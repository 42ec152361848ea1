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

-- First and last of the characters that a name may not have.
local REFUSED = {@REFUSED@}

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

@MANIFEST@
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
