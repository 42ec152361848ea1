"""A receiver written from spec/protocol.md alone: no construct, no numpy, nothing of pgmlite.

    python -m tests.witness CAPTURE OUT                     from a capture
    python -m tests.witness GROUP PORT INTERFACE OUT        from a network (IPv4 or IPv6 group)

Only the digest comes from a package (blake3). It shows that the document is enough to build on, and
the tests let it receive what ours receives and refuse what ours refuses. It never sends a NAK,
which NAK-14 allows.
"""

import ipaddress
import socket
import struct
import sys
import time
from pathlib import Path

from blake3 import blake3

SPM, ODATA, RDATA, TREE, NAK, NCF = 0x00, 0x04, 0x05, 0x07, 0x08, 0x0A
HEADER = struct.Struct(">HBBBBHQQQQII")
SPM_BODY = struct.Struct(">QQIIQBBBBHH")
MANIFEST = struct.Struct(">4sBBBBHHQ32s")
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
        fields = HEADER.unpack_from(data)
        magic, version, self.type, self.channel, flags, self.symbol_size = fields[:6]
        self.tsi, self.oid, self.size, self.offset, self.sqn, reserved = fields[6:]
        self.symbols = -(-self.size // max(1, self.symbol_size))
        check(magic == 0x7067, "magic")
        check(version == 1, "version")
        check(self.type in (SPM, ODATA, RDATA, TREE, NAK, NCF), "type")
        check(flags == 0, "reserved")
        check(is_symbol_size(self.symbol_size), "symbol_size")
        width, size = len(data) - HEADER.size, self.symbol_size
        if self.type in (ODATA, RDATA):
            check(1 <= width <= size, "length")
        if self.type == TREE:
            check(32 <= width <= size and width % 32 == 0, "length")
        check(reserved == 0, "reserved")
        check(self.size <= LIMIT and self.offset <= LIMIT, "offset")
        if self.type in (ODATA, RDATA):
            check(self.offset % size == 0, "offset")
            end = self.offset + width
            check(end <= self.size if width == size else end == self.size, "offset")


def is_symbol_size(size):
    """PKT-2."""
    return 64 <= size <= 65_456 and size % 4 == 0


class Manifest:
    """Section 3.3; refused as a whole if any value is not allowed (MAN-3)."""

    def __init__(self, raw):
        check(MANIFEST.size < len(raw) <= 1_024, "manifest")
        fields, self.raw = MANIFEST.unpack_from(raw), raw
        self.symbol_size, self.block_symbols, self.size, self.tree_digest = fields[5:]
        good = fields[:5] == (b"PGLM", 1, 1, 0, 0)  # magic, version, digest, FEC, reserved
        good &= is_symbol_size(self.symbol_size) and 1 <= self.block_symbols <= 4_096
        check(good and self.size <= LIMIT, "manifest")
        end = MANIFEST.size + 1 + raw[MANIFEST.size]
        check(end <= len(raw), "manifest")
        try:
            self.name = raw[MANIFEST.size + 1 : end].decode()
        except UnicodeDecodeError:
            raise Refused("manifest") from None
        check(self.name and self.name.isprintable(), "manifest")
        while end < len(raw):
            check(end + 4 <= len(raw), "manifest")
            kind, length = struct.unpack_from(">HH", raw, end)
            value = raw[end + 4 : end + 4 + length]
            check(len(value) == length and kind < 0x8000, "manifest")
            if kind == 1:  # an endpoint of a repairer: address and port
                check(length == 18 and value[16:] != b"\0\0", "manifest")
            end += 4 + length
        self.block_size = self.symbol_size * self.block_symbols
        self.blocks = -(-self.size // self.block_size)
        check(self.size or self.tree_digest == digest(b""), "manifest")
        self.fanout, levels = self.symbol_size // 32, [self.blocks]  # section 4
        while self.size and (len(levels) == 1 or levels[0] > 1):
            levels.insert(0, -(-levels[0] // self.fanout))
        self.starts = [sum(levels[:level]) for level in range(len(levels) + 1)]
        self.nodes = self.starts[-2]

    def children(self, node):
        """Return what a node has the digests of: nodes, or blocks numbered on behind them."""
        level = max(n for n, start in enumerate(self.starts) if start <= node)
        first = self.starts[level + 1] + (node - self.starts[level]) * self.fanout
        return range(first, min(first + self.fanout, self.starts[level + 2]))


def parse_request(body, total):
    """Return the symbols that a request names (REQ-1 to REQ-4)."""
    check(len(body) >= 8, "request")
    form, flags, count, base = struct.unpack_from(">BBHI", body)
    items = body[8:]
    check(form in (0, 1) and not flags, "request")
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
        if self.data is not None:
            return
        try:
            header = Header(packet)
            check(header.type != NAK, "type")
            body = packet[HEADER.size :]
            if header.type == SPM:
                self._spm(header, body, now)
                return
            if self.oid is None and header.type in (ODATA, RDATA):
                self._adopt(header)  # RCV-1
            if self.oid is None:
                return
            mine = (self.oid, self.size, self.symbol_size)
            check((header.oid, header.size, header.symbol_size) == mine, "object")  # RCV-5
            self.heard = now if header.type in (ODATA, TREE) else self.heard  # RCV-4
            if header.type in (ODATA, RDATA):
                self.symbols.setdefault(header.offset // header.symbol_size, body)  # RCV-10
            elif header.type == TREE:
                self._node(header.offset, body)
            else:
                check(len(packet) <= 1_232, "request")
                parse_request(body, header.symbols)  # valid or not: we never ask
            self._verify()
        except Refused as reason:
            self.refused[str(reason)] = self.refused.get(str(reason), 0) + 1

    def _adopt(self, header):
        check(header.size <= MAX_SIZE and header.symbols <= MAX_SYMBOLS, "too_large")  # RCV-2
        self.oid, self.size, self.symbol_size = header.oid, header.size, header.symbol_size
        self.symbols, self.digests, self.good = {}, {}, set()
        self.manifest = None

    def _spm(self, header, body, now):
        check(len(body) >= SPM_BODY.size, "spm")
        *_, share, _, size = SPM_BODY.unpack_from(body)
        raw = body[SPM_BODY.size :]
        check(len(raw) == size, "spm")
        same = (header.oid, header.size, header.symbol_size)
        if self.manifest and header.oid == self.oid:
            check(
                (raw, *same) == (self.manifest.raw, self.oid, self.size, self.symbol_size),
                "manifest",
            )  # RCV-3
            self.heard = now if share < 100 else self.heard
            return
        check(int.from_bytes(digest(raw)[:8]) == header.oid, "manifest")  # MAN-2
        check(share < 100 or header.oid == self.oid, "object")
        if self.manifest:
            check(now - self.heard >= SWITCH_AFTER, "object")  # RCV-4
        manifest = Manifest(raw)
        check((manifest.size, manifest.symbol_size) == same[1:], "manifest")
        check(manifest.blocks <= MAX_BLOCKS, "too_large")
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


def payloads(path):
    """Yield time in s, port and UDP payload from a pcap of Ethernet or SLL2, the least there is."""
    raw = Path(path).read_bytes()
    order = "<" if raw[:4] == bytes.fromhex("d4c3b2a1") else ">"
    link, at = struct.unpack_from(order + "I", raw, 20)[0], 24
    while at + 16 <= len(raw):
        seconds, micro, kept, _ = struct.unpack_from(order + "4I", raw, at)
        frame, at = raw[at + 16 : at + 16 + kept], at + 16 + kept
        kind, ip = (frame[12:14], frame[14:]) if link == 1 else (frame[:2], frame[20:])
        if kind == b"\x86\xdd" and ip[6] == 17:
            udp = ip[40:]
        elif kind == b"\x08\x00" and ip[9] == 17:
            udp = ip[(ip[0] & 15) * 4 :]
        else:
            continue
        payload = udp[8 : int.from_bytes(udp[4:6])]
        # The system may have cut bursts into packets only behind the capture (NET-8).
        step = HEADER.size + int.from_bytes(payload[6:8])
        joined = len(payload) > step and payload[:8] == payload[step : step + 8]
        step = step if joined else max(len(payload), 1)
        for place in range(0, max(len(payload), 1), step):
            one = payload[place : place + step]
            yield seconds + micro / 1e6, int.from_bytes(udp[2:4]), one


def listen(group, port, interface, patience=30.0):
    """Return what a live carousel carries, or None if it does not come."""
    index, address = socket.if_nametoindex(interface), ipaddress.ip_address(group)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            sock.bind((group, port, 0, index))
            member = address.packed + struct.pack("@I", index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        else:
            sock.bind((group, port))
            member = address.packed + struct.pack("@4si", bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.settimeout(1)
        receiver, end = Receiver(), time.monotonic() + patience
        while receiver.data is None and time.monotonic() < end:
            try:
                receiver.feed(sock.recv(65_536), time.monotonic())
            except TimeoutError:
                continue
        return receiver.data


def replay(path, port=28_775):
    """Return a receiver that was given all packets of a capture to `port`."""
    receiver = Receiver()
    for now, to, payload in payloads(path):
        if to == port:
            receiver.feed(payload, now)
    return receiver


if __name__ == "__main__":
    given, target = sys.argv[1:-1], Path(sys.argv[-1])
    got = listen(given[0], int(given[1]), given[2]) if len(given) == 3 else replay(given[0]).data
    if got is None:
        sys.exit("incomplete")
    target.write_bytes(got)
