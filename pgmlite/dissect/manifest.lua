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
