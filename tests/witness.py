"""A receiver written from spec/ alone: no construct, no numpy, nothing of pgmlite.

Only the digest comes from a package (blake3); repair symbols are in witness_fec.py. It shows that
the documents are enough to build on, and the tests let it receive what ours receives and refuse
what ours refuses. It never sends a NAK, which NAK-14 allows.
"""

import struct

from blake3 import blake3

from tests.witness_fec import decode

SPM, ODATA, RDATA, TREE, NAK, NCF = 0x00, 0x04, 0x05, 0x07, 0x08, 0x0A
HEADER = struct.Struct(">HBBBBHQQQQII")
SPM_FIXED, POSITION = 20, struct.Struct(">QBBBBI")
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
        digests = 32 <= width <= size and width % 8 == 0
        check(self.type != TREE or digests, "length")
        check(max(self.size, self.offset) <= LIMIT, "offset")
        check(not is_data or self.offset % size == 0, "offset")
        if self.is_repair:
            check(width == size and room > 0, "offset")
        else:
            check(not is_data or (room >= width if width == size else room == width), "offset")
            most = self.offset // size if is_data else int(self.type == TREE)
            check(self.esi <= most, "esi")
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
    for number, (kind, value) in enumerate(options(body, SPM_FIXED, "spm")):
        check(number < 32 and (kind < 0x8000 or kind == 0x8001), "spm")  # PKT-9
        check(kind != 4 or len(value) == 72, "spm")  # a signature (PKT-9)
        if kind in (0x8001, 2, 3):
            check(kind not in found and len(value) == sizes.get(kind, len(value)), "spm")
            found[kind] = value
    check(0x8001 in found and found.get(3, b"!")[-2:] != b"\0\0", "spm")
    position = POSITION.unpack(found[2]) if 2 in found else None
    check(position is None or not position[4], "spm")  # reserved
    return found[0x8001], position, 3 in found


class Manifest:
    """Section 3.3; refused as a whole if any value is not allowed (MAN-3)."""

    def __init__(self, raw):
        check(MANIFEST.size < len(raw) <= 896, "manifest")
        self.raw = raw
        *fixed, strip, self.size, self.tree_digest = MANIFEST.unpack_from(raw)
        scheme, self.tile, self.symbol_size, k, m = fixed[3:]
        self.block_symbols, self.repair_symbols = k, m
        check((*fixed[:3], strip) == (b"PGLM", 2, 1, 16), "manifest")  # magic, version, digest
        check(is_symbol_size(self.symbol_size) and 1 <= k <= 4_096, "manifest")
        self.symbols = -(-self.size // self.symbol_size)
        most = min(1_024, max(1, self.symbols))  # FEC-1
        is_coded = scheme == 1 and k <= most and 1 <= m <= max(7 * k, 64)
        check(1 <= self.tile <= 8 and (is_coded or scheme == m == 0), "manifest")
        check(self.size <= LIMIT, "manifest")
        end = MANIFEST.size + 1 + raw[MANIFEST.size]
        check(end <= len(raw), "manifest")
        try:
            self.name = raw[MANIFEST.size + 1 : end].decode()
        except UnicodeDecodeError:
            raise Refused("manifest") from None
        check(self.name and not REFUSED.intersection(map(ord, self.name)), "manifest")
        rates, groups, trust, self.archive = [0], [], {}, None
        for kind, value in options(raw, end, "manifest"):
            check(kind < 0x8000, "manifest")
            if kind == 2:  # a channel: rate, group and port (MAN-7)
                check(len(value) == 26 and value[24:] != b"\0\0", "manifest")
                rates.append(int.from_bytes(value[:8]))
                groups.append(value[8:])
            if kind in (3, 4):  # release and tiles (MAN-8)
                check(kind not in trust, "manifest")
                trust[kind] = value
            if kind == 5:  # an archive: members, bytes in its files (MAN-9)
                check(len(value) == 12 and self.archive is None, "manifest")
                self.archive = entries, unpacked = struct.unpack(">IQ", value)
                check(entries and 512 * entries + unpacked <= self.size, "manifest")
            if kind == 1:  # an endpoint of a repairer: address and port
                check(len(value) == 18 and value[16:] != b"\0\0", "manifest")
        check(len(groups) <= 6 and len(set(groups)) == len(groups), "manifest")
        check(rates == sorted(set(rates)), "manifest")
        fours = {group[:12] == bytes(10) + b"\xff\xff" for group in groups}
        check(len(fours) < 2, "manifest")
        for group in groups:
            check(224 <= group[12] < 240 if True in fours else group[0] == 255, "manifest")
        self.blocks = -(-self.symbols // k)
        check(self.size or self.tree_digest == digest(b""), "manifest")  # OBJ-4
        self.fanout, levels = self.symbol_size // 32, [self.blocks]  # TREE-2
        while self.size and (len(levels) == 1 or levels[0] > 1):
            levels.insert(0, -(-levels[0] // self.fanout))
        self.starts = [sum(levels[:level]) for level in range(len(levels) + 1)]
        self.nodes = self.starts[-2]
        self.tiles_digest, self.release = trust.get(4), None
        check(len(trust) in (0, 2), "manifest")
        if trust:
            self._trust(trust[3])

    def _trust(self, value):
        """MAN-8."""
        check(len(value) > 25 and len(value) == 25 + value[24] <= 25 + 64, "manifest")
        number, created, expires = struct.unpack_from(">QQQ", value)
        try:
            stream = value[25:].decode()
        except UnicodeDecodeError:
            raise Refused("manifest") from None
        check(not REFUSED.intersection(map(ord, stream)), "manifest")
        check(not expires or expires > created, "manifest")
        self.release = number, created, expires, stream
        check(len(self.tiles_digest) == 32, "manifest")
        check(self.size or self.tiles_digest == digest(b""), "manifest")
        check(self.tile <= (self.symbol_size - 32) // 128, "manifest")  # TILE-1

    def children(self, node):
        """Return what a node has the digests of: nodes, or blocks numbered on behind them."""
        level = max(n for n, start in enumerate(self.starts) if start <= node)
        first = self.starts[level + 1] + (node - self.starts[level]) * self.fanout
        return range(first, min(first + self.fanout, self.starts[level + 2]))

    def sources(self, block):
        """K_b."""
        return min(self.block_symbols, self.symbols - block * self.block_symbols)

    def ring(self, block):
        """K_b + M_b (FEC-2)."""
        k, m, k_b = self.block_symbols, self.repair_symbols, self.sources(block)
        return k_b + (m if k_b == k or not m else min(m, -(-m * k_b // k) + 32))

    def has(self, header):
        """Whether the symbol of a packet is one of the object (PKT-13)."""
        number = header.offset // self.symbol_size
        block, esi = divmod(number, self.block_symbols)
        if header.is_repair:
            return esi == 0 and self.sources(block) <= header.esi < self.ring(block)
        return header.esi == esi

    def check_position(self, position):
        """PKT-8 and FEC-4."""
        _, order, sector, sectors, _, first = position
        if order > 3:
            return
        check(sector < sectors, "spm")
        if self.size and order < 2:
            groups, visits = -(-self.blocks // self.tile), -(-self.block_symbols // 16)
            things = groups if order == 0 else visits
            share = range(sector * things // sectors, (sector + 1) * things // sectors)
            check(first in (share or range(things)), "spm")
        if self.size and order == 3:
            visits = -(-self.block_symbols // 16) + -(-self.repair_symbols // 16)
            share = range(sector * visits // sectors, (sector + 1) * visits // sectors)
            check(self.repair_symbols and first in share, "spm")


def parse_request(body, total, manifest=None):
    """Return the symbols that a request names, or its counts (REQ-1 to REQ-5)."""
    check(len(body) >= 8, "request")
    form, flags, count, base = struct.unpack_from(">BBHI", body)
    items = body[8:]
    check(form == 2 if manifest and manifest.repair_symbols else form in (0, 1), "request")
    check(not flags, "request")
    if form == 2:
        check(not base and count and len(items) == count * 8, "request")
        counts, past = [list(item) for item in struct.iter_unpack(">IHH", items)], 0
        for block, first, many in counts:
            check(past <= block < manifest.blocks and many, "request")
            check(max(first + 1, many) <= manifest.ring(block), "request")
            past = block + 1
        check(sum(item[2] for item in counts) <= 65_536, "request")
        return counts
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


def check_nak(data, tsi, oid, size, nonces, manifest=None):
    """Return what a NAK to a repairer asks for (section 3.8, second table)."""
    header, body = Header(data), data[HEADER.size :]
    check(header.tsi == tsi, "session")
    check((header.oid, header.size) == (oid, size), "object")
    check(body[:8] in [nonce.to_bytes(8) for nonce in nonces], "nonce")
    check(20 <= len(body) <= 1_184 and body[18:20] == b"\0\0", "request")
    asked = parse_request(body[20:], header.symbols, manifest)
    check(body[20] != 2 or not any(first for _, first, _ in asked), "request")
    return asked


class Receiver:
    """Section 6. Give it packets; `data` is the object once it is complete."""

    def __init__(self, only=None):
        self.only, self.refused = only, {}
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
                check(not self.manifest or self.manifest.has(header), "esi")  # PKT-13
                self._keep(header, body)
            elif header.type == TREE:
                (self._leaf if header.esi else self._node)(header.offset, body)
            elif self.manifest:
                check(len(body) <= 1_232 - HEADER.size, "request")
                parse_request(body, header.symbols, self.manifest)  # valid or not: we never ask
            self._verify()

    def _keep(self, header, body):
        """Store a symbol."""
        number = header.offset // header.symbol_size
        if not header.is_repair:
            self.symbols.setdefault(number, body)  # RCV-10
        elif self.manifest:  # FEC-6; before it they are left aside
            block = number // self.manifest.block_symbols
            self.repairs.setdefault(block, {}).setdefault(header.esi, body)

    def _leaf(self, number, body):
        """A node of the tree of tiles: witness_signed.py has what uses it."""

    def _adopt(self, header):
        check(header.size <= MAX_SIZE and header.symbols <= MAX_SYMBOLS, "too_large")  # RCV-2
        self.oid, self.size, self.symbol_size = header.oid, header.size, header.symbol_size
        self.symbols, self.repairs, self.digests, self.good = {}, {}, {}, set()
        self.tried = {}  # by block: how many symbols it had
        self.manifest = None

    def _spm(self, header, body, now):
        raw, position, _ = parse_spm(body)
        same = (header.oid, header.size, header.symbol_size)
        if self.manifest and header.oid == self.oid:
            mine = (self.manifest.raw, self.oid, self.size, self.symbol_size)
            check((raw, *same) == mine, "manifest")  # RCV-3
            if position:
                self.manifest.check_position(position)
            self.heard = now if position else self.heard
            return
        check(int.from_bytes(digest(raw)[:8]) == header.oid, "manifest")  # MAN-2
        check(header.size or self.only is not None, "empty")  # RCV-16
        check(position or header.oid == self.oid, "object")
        if self.manifest:
            check(now - self.heard >= SWITCH_AFTER, "object")  # RCV-4
        manifest = Manifest(raw)
        check((manifest.size, manifest.symbol_size) == same[1:], "manifest")
        check(manifest.blocks <= MAX_BLOCKS, "too_large")
        if position:
            manifest.check_position(position)
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
        for block in range(manifest.blocks):
            first = block * manifest.block_symbols
            numbers = range(first, first + manifest.sources(block))
            expected = self.digests.get(manifest.nodes + block)
            if block in self.good or not expected or not (whole := self._decoded(block, numbers)):
                continue
            parts = [whole[at : at + 16] for at in range(0, len(numbers), 16)]  # TREE-1
            if digest(b"".join(digest(b"".join(part)) for part in parts)) == expected:
                self.good.add(block)
                self.symbols |= zip(numbers, whole, strict=True)
            else:  # RCV-6
                for number in numbers:
                    self.symbols.pop(number, None)
            self.repairs.pop(block, None)
        if len(self.good) == manifest.blocks:  # RCV-12
            self.data = b"".join(self.symbols[number] for number in range(manifest.symbols))

    def _decoded(self, block, numbers):
        """Return the source symbols of a block, or None (FEC-6)."""
        here = [n for n in numbers if n in self.symbols]
        repairs = self.repairs.get(block, {})
        count, width = len(here) + len(repairs), self.symbol_size
        if len(here) == len(numbers):
            return [self.symbols[n] for n in numbers]
        if count < len(numbers) or count == self.tried.get(block):
            return None
        self.tried[block] = count
        padded = ((n, self.symbols[n].ljust(width, b"\0")) for n in here)
        held = {n - numbers[0]: int.from_bytes(one) for n, one in padded}
        held |= {esi: int.from_bytes(one) for esi, one in repairs.items()}
        if (found := decode(len(numbers), held)) is None:
            return None
        whole = [one.to_bytes(width) for one in found]
        if numbers[-1] == self.manifest.symbols - 1:
            whole[-1] = whole[-1][: self.size - numbers[-1] * width]
        return whole
