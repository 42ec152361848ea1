"""A receiver written from spec/protocol.md alone: no construct, no numpy, nothing of pgmlite.

Only the digest comes from a package (blake3). It shows that the document is enough to build on, and
the tests let it receive what ours receives and refuse what ours refuses. It never sends a NAK,
which NAK-14 allows.
"""

import struct

from blake3 import blake3

SPM, ODATA, RDATA, TREE, NAK, NCF = 0x00, 0x04, 0x05, 0x07, 0x08, 0x0A
HEADER = struct.Struct(">HBBBBHQQQQII")
SPM_FIXED, POSITION = 20, struct.Struct(">IQI")
MANIFEST = struct.Struct(">4sBBBBHHHHQ32s")
REFUSED = {*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F)}
REFUSED |= set(range(0x2066, 0x206A))  # MAN-5
LIMIT = (1 << 63) - 1
SWITCH_AFTER = 5.0
MAX_SYMBOLS, MAX_BLOCKS, MAX_SIZE = 1 << 30, 1 << 20, 1 << 40


def digest(data):
    """BLAKE3 with 256 bits, as everywhere."""
    return blake3(bytes(data)).digest()


class Refused(Exception):
    """The packet is dropped and counted; the text is the reason of section 3.8."""


def check(condition, reason):
    """Refuse the packet for `reason` unless `condition` holds."""
    if not condition:
        raise Refused(reason)


class Header:
    """The header of section 3.1, checked in the order of section 3.8."""

    def __init__(self, data):
        check(len(data) >= HEADER.size, "short")
        magic, version, self.type, self.channel, flags, size, *rest = HEADER.unpack_from(data)
        self.tsi, self.oid, self.size, self.offset, self.sqn, self.esi = rest
        self.symbol_size, width, room = size, len(data) - HEADER.size, self.size - self.offset
        is_data = self.type in (ODATA, RDATA)
        self.is_repair = is_data and flags == 1
        check(magic == 0x7067, "magic")
        check(version == 2, "version")
        check(self.type in (SPM, ODATA, RDATA, TREE, NAK, NCF), "type")
        check(flags == 0 or self.is_repair, "reserved")
        check(is_symbol_size(size), "symbol_size")
        check(not is_data or 1 <= width <= size, "length")
        digests = 32 <= width <= size and width % 32 == 0
        check(self.type != TREE or digests, "length")
        check(max(self.size, self.offset) <= LIMIT, "offset")
        check(not is_data or self.offset % size == 0, "offset")
        if self.is_repair:
            check(width == size and room > 0, "offset")
        else:
            check(not is_data or (room >= width if width == size else room == width), "offset")
            check(self.esi <= (self.offset // size if is_data else 0), "esi")
        self.symbols = -(-self.size // size)


def is_symbol_size(size):
    """PKT-2."""
    return 64 <= size <= 65_456 and size % 4 == 0


def options(raw, at, reason):
    """Yield kind and value of the options from `at` on (section 3.4)."""
    while at < len(raw):
        check(at + 4 <= len(raw), reason)
        kind, length = struct.unpack_from(">HH", raw, at)
        value, at = raw[at + 4 : at + 4 + length], at + 4 + length
        check(at <= len(raw), reason)
        yield kind, value


def parse_spm(body):
    """Return manifest, position or None, and whether NAKs are taken (section 3.2)."""
    check(SPM_FIXED <= len(body) <= 1_232 - HEADER.size, "spm")
    sizes, found = {2: POSITION.size, 3: 14}, {}  # position, repairs
    for kind, value in options(body, SPM_FIXED, "spm"):
        check(kind < 0x8000 or kind == 0x8001, "spm")
        if kind in (0x8001, 2, 3):
            check(kind not in found and len(value) == sizes.get(kind, len(value)), "spm")
            found[kind] = value
    check(0x8001 in found and found.get(3, b"!")[-2:] != b"\0\0", "spm")
    return found[0x8001], POSITION.unpack(found[2]) if 2 in found else None, 3 in found


class Manifest:
    """Section 3.3; refused as a whole if any value is not allowed (MAN-3)."""

    def __init__(self, raw):
        check(MANIFEST.size < len(raw) <= 896, "manifest")
        self.raw = raw
        *fixed, repair, strip, self.size, self.tree_digest = MANIFEST.unpack_from(raw)
        self.symbol_size, self.block_symbols = fixed[5:]
        # Magic, version, digest, FEC and what is reserved, then repair symbols and strip.
        check((*fixed[:5], repair, strip) == (b"PGLM", 2, 1, 0, 0, 0, 16), "manifest")
        check(is_symbol_size(self.symbol_size) and 1 <= self.block_symbols <= 4_096, "manifest")
        check(self.size <= LIMIT, "manifest")
        end = MANIFEST.size + 1 + raw[MANIFEST.size]
        check(end <= len(raw), "manifest")
        try:
            self.name = raw[MANIFEST.size + 1 : end].decode()
        except UnicodeDecodeError:
            raise Refused("manifest") from None
        check(self.name and not REFUSED.intersection(map(ord, self.name)), "manifest")
        for kind, value in options(raw, end, "manifest"):
            check(kind < 0x8000, "manifest")
            if kind == 1:  # an endpoint of a repairer: address and port
                check(len(value) == 18 and value[16:] != b"\0\0", "manifest")
        self.blocks = -(-self.size // (self.symbol_size * self.block_symbols))
        check(self.size or self.tree_digest == digest(b""), "manifest")  # OBJ-4
        self.fanout, levels = self.symbol_size // 32, [self.blocks]  # TREE-2
        while self.size and (len(levels) == 1 or levels[0] > 1):
            levels.insert(0, -(-levels[0] // self.fanout))
        self.starts = [sum(levels[:level]) for level in range(len(levels) + 1)]
        self.nodes = self.starts[-2]

    def children(self, node):
        """Return what a node has the digests of: nodes, or blocks numbered on behind them."""
        level = max(n for n, start in enumerate(self.starts) if start <= node)
        first = self.starts[level + 1] + (node - self.starts[level]) * self.fanout
        return range(first, min(first + self.fanout, self.starts[level + 2]))

    def has(self, offset, esi):
        """Whether `offset` is that of a symbol, or 0 in an empty object, and has this ESI."""
        number, odd = divmod(offset, self.symbol_size)
        return offset < max(self.size, 1) and not odd and number % self.block_symbols == esi


def parse_request(body, total):
    """Return the symbols that a request names (REQ-1 to REQ-4)."""
    check(len(body) >= 8, "request")
    form, flags, count, base = struct.unpack_from(">BBHI", body)
    items = body[8:]
    check(form in (0, 1) and not flags, "request")  # no counts: no object has repair symbols
    check(len(items) == (count * 8 if form == 0 else count), "request")
    if form == 1:
        named = [base + bit for bit in range(count * 8) if items[bit // 8] >> 7 - bit % 8 & 1]
    else:
        named, past = [], 0
        for start, length in struct.iter_unpack(">II", items):
            check(length and start >= past, "request")
            past = start + length
            check(len(named) + length <= 65_536, "request")
            named += range(base + start, base + past)
    check(named and len(named) <= 65_536 and named[-1] < total, "request")
    return named


def check_nak(data, tsi, oid, size, nonces):
    """Return the symbols that a NAK to a repairer names (section 3.8, second table)."""
    header, body = Header(data), data[HEADER.size :]
    check(header.tsi == tsi, "session")
    check((header.oid, header.size) == (oid, size), "object")
    check(body[:8] in [nonce.to_bytes(8) for nonce in nonces], "nonce")
    check(20 <= len(body) <= 1_184 and body[18:20] == b"\0\0", "request")
    return parse_request(body[20:], header.symbols)


class Receiver:
    """Section 6. Give it packets; `data` is the object once it is complete."""

    def __init__(self):
        self.refused = {}
        self.manifest = self.data = self.oid = None
        self.size = self.symbol_size = self.heard = 0

    def feed(self, packet, now=0.0):
        """Take one packet."""
        try:
            if self.data is None:
                self._take(Header(packet), packet[HEADER.size :], now)
        except Refused as reason:
            self.refused[str(reason)] = self.refused.get(str(reason), 0) + 1

    def _take(self, header, body, now):
        check(header.type != NAK, "type")
        if header.type == SPM:
            self._spm(header, body, now)
            return
        if self.oid is None and header.type in (ODATA, RDATA):
            self._adopt(header)  # RCV-1
        if self.oid is not None:
            mine = (self.oid, self.size, self.symbol_size)
            check((header.oid, header.size, header.symbol_size) == mine, "object")  # RCV-5
            if header.type in (ODATA, TREE):
                self.heard = now  # RCV-4
            if header.type in (ODATA, RDATA):
                known = not self.manifest or self.manifest.has(header.offset, header.esi)
                check(known and not header.is_repair, "esi")  # PKT-13
                self.symbols.setdefault(header.offset // header.symbol_size, body)  # RCV-10
            elif header.type == TREE:
                self._node(header.offset, body)
            else:
                check(len(body) <= 1_232 - HEADER.size, "request")
                parse_request(body, header.symbols)  # valid or not: we never ask
            self._verify()

    def _adopt(self, header):
        check(header.size <= MAX_SIZE and header.symbols <= MAX_SYMBOLS, "too_large")  # RCV-2
        self.oid, self.size, self.symbol_size = header.oid, header.size, header.symbol_size
        self.symbols, self.digests, self.good = {}, {}, set()
        self.manifest = None

    def _spm(self, header, body, now):
        raw, position, _ = parse_spm(body)
        same = (header.oid, header.size, header.symbol_size)
        if self.manifest and header.oid == self.oid:
            mine = (self.manifest.raw, self.oid, self.size, self.symbol_size)
            check((raw, *same) == mine, "manifest")  # RCV-3
            check(not position or self.manifest.has(*position[1:]), "spm")  # PKT-8
            self.heard = now if position else self.heard
            return
        check(int.from_bytes(digest(raw)[:8]) == header.oid, "manifest")  # MAN-2
        check(position or header.oid == self.oid, "object")
        if self.manifest:
            check(now - self.heard >= SWITCH_AFTER, "object")  # RCV-4
        manifest = Manifest(raw)
        check((manifest.size, manifest.symbol_size) == same[1:], "manifest")
        check(manifest.blocks <= MAX_BLOCKS, "too_large")
        check(not position or manifest.has(*position[1:]), "spm")
        if self.manifest or same != (self.oid, self.size, self.symbol_size):
            self._adopt(header)
        self.manifest, self.heard = manifest, now
        self.digests = {0: manifest.tree_digest}
        self._verify()

    def _node(self, number, body):
        manifest = self.manifest
        if not manifest:
            return
        check(number < manifest.nodes, "tree")  # TREE-3
        children = manifest.children(number)
        check(len(body) == 32 * len(children), "tree")
        if number not in self.digests or children[0] in self.digests:
            return
        check(digest(body) == self.digests[number], "tree")  # TREE-4
        for place, child in enumerate(children):
            self.digests[child] = body[32 * place : 32 * place + 32]

    def _verify(self):
        manifest = self.manifest
        if not manifest:
            return
        total = -(-self.size // self.symbol_size)
        for block in range(manifest.blocks):
            first = block * manifest.block_symbols
            numbers = range(first, min(first + manifest.block_symbols, total))
            expected = self.digests.get(manifest.nodes + block)
            if block in self.good or not expected or not self.symbols.keys() >= set(numbers):
                continue
            parts = [numbers[at : at + 16] for at in range(0, len(numbers), 16)]  # TREE-1
            strips = [digest(b"".join(self.symbols[n] for n in part)) for part in parts]
            if digest(b"".join(strips)) == expected:
                self.good.add(block)
            else:  # RCV-6
                for number in numbers:
                    del self.symbols[number]
        if len(self.good) == manifest.blocks:  # RCV-12
            self.data = b"".join(self.symbols[number] for number in range(total))
