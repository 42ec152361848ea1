"""A receiver written from spec/protocol.md alone: no construct, no numpy, nothing of pgmlite.

Only the digest comes from a package (blake3). It shows that the document is enough to build on, and
the tests let it receive what ours receives and refuse what ours refuses. It never sends a NAK,
which NAK-14 allows.
"""

import struct

from blake3 import blake3

SPM, ODATA, RDATA, INDEX, NAK, NCF = 0x00, 0x04, 0x05, 0x07, 0x08, 0x0A
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
        check(self.type in (SPM, ODATA, RDATA, INDEX, NAK, NCF), "type")
        check(flags == 0 or self.is_repair, "reserved")
        check(is_symbol_size(size), "symbol_size")
        carries = is_data or self.type == INDEX
        check(not carries or 1 <= width <= size, "length")
        check(max(self.size, self.offset) <= LIMIT, "offset")
        check(not carries or self.offset % size == 0, "offset")
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
        *fixed, repair, strip, self.size, self.index_digest = MANIFEST.unpack_from(raw)
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
            if header.type in (ODATA, INDEX):
                self.heard = now  # RCV-4
            if header.type in (ODATA, RDATA):
                known = not self.manifest or self.manifest.has(header.offset, header.esi)
                check(known and not header.is_repair, "esi")  # PKT-13
                self.symbols.setdefault(header.offset // header.symbol_size, body)  # RCV-10
            elif header.type == INDEX:
                self._index(header.offset, body)
            else:
                check(len(body) <= 1_232 - HEADER.size, "request")
                parse_request(body, header.symbols)  # valid or not: we never ask
            self._verify()

    def _adopt(self, header):
        check(header.size <= MAX_SIZE and header.symbols <= MAX_SYMBOLS, "too_large")  # RCV-2
        self.oid, self.size, self.symbol_size = header.oid, header.size, header.symbol_size
        self.symbols, self.pieces, self.good = {}, {}, set()
        self.manifest = self.index = None

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
        self._index(0, b"")
        self._verify()

    def _index(self, offset, body):
        if not self.manifest or self.index is not None:
            return
        whole, step = 32 * self.manifest.blocks, self.symbol_size
        if body and len(body) == min(step, whole - offset):  # IDX-2
            self.pieces[offset] = body
        if len(self.pieces) == -(-whole // step):
            index = b"".join(self.pieces[at] for at in sorted(self.pieces))
            if digest(index) != self.manifest.index_digest:  # IDX-1
                self.pieces = {}
                raise Refused("index")
            self.index = index

    def _verify(self):
        if self.index is None:
            return
        manifest = self.manifest
        total = -(-self.size // self.symbol_size)
        for block in range(manifest.blocks):
            first = block * manifest.block_symbols
            numbers = range(first, min(first + manifest.block_symbols, total))
            if block in self.good or not all(number in self.symbols for number in numbers):
                continue
            content = b"".join(self.symbols[number] for number in numbers)
            if digest(content) == self.index[32 * block : 32 * block + 32]:
                self.good.add(block)
            else:  # RCV-6
                for number in numbers:
                    del self.symbols[number]
        if len(self.good) == manifest.blocks:  # RCV-12
            self.data = b"".join(self.symbols[number] for number in range(total))
