"""Signatures and trees of tiles, written from spec/ alone as tests/witness.py is.

Ed25519 is that of RFC 8032 section 6, slow and short: verification only.
"""

import hashlib

from blake3 import blake3

from tests import witness
from tests.witness import Refused, check, digest, options

P = 2**255 - 19
ORDER = 2**252 + 27_742_317_777_372_353_535_851_937_790_883_648_493
CURVE = -121_665 * pow(121_666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
CONTEXT = b"pgmlite manifest v2\0"
DER = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what stands before the 32 bytes


def point(octets):
    """Return a point of the curve from its 32 bytes, or None (RFC 8032 section 5.1.3)."""
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def plus(a, b):
    """Return the sum of two points (RFC 8032 section 5.1.4)."""
    one, two = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    three, four = 2 * a[3] * b[3] * CURVE, 2 * a[2] * b[2]
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, a):
    """Return a point added to itself so many times."""
    total = (0, 1, 1, 0)
    while number:
        total = plus(total, a) if number & 1 else total
        a, number = plus(a, a), number >> 1
    return total


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signature(public, message, signature):
    """Whether a signature of 64 bytes is one by a public key of 32 (RFC 8032 section 5.1.7)."""
    key, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= ORDER:
        return False
    drawn = hashlib.sha512(signature[:32] + public + message).digest()
    left, right = times(s, BASE), plus(r, times(int.from_bytes(drawn, "little") % ORDER, key))
    return all((left[n] * right[2] - right[n] * left[2]) % P == 0 for n in (0, 1))


def key_id(public):
    """Return what signatures say of a key (PKT-14)."""
    return digest(DER + public)[:8]


def signatures(body):
    """Yield key id and signature of each signature of an SPM."""
    for kind, value in options(body, witness.SPM_FIXED, "spm"):
        if kind == 4:
            yield value[:8], value[8:]


def symbol_digest(block, esi, symbol):
    """TILE-2."""
    key = block.to_bytes(8) + esi.to_bytes(4) + bytes(20)
    return blake3(symbol, key=key).digest(length=8)


def visit(manifest, block, v):
    """Return the ESIs of a visit of a block (FEC-3)."""
    k_b, ring = manifest.sources(block), manifest.ring(block)
    source = -(-manifest.block_symbols // 16)
    repair = -(-manifest.repair_symbols // 16)
    if v < source:
        return range(v * k_b // source, (v + 1) * k_b // source)
    w, m_b = v - source, ring - k_b
    return range(k_b + w * m_b // repair, k_b + (w + 1) * m_b // repair)


class Tiles(witness.Manifest):
    """The tree of tiles of a manifest: its leaves take the place of blocks (TILE-3)."""

    def __init__(self, manifest):
        super().__init__(manifest.raw)
        visits = -(-self.block_symbols // 16) + -(-self.repair_symbols // 16)
        self.groups = -(-self.blocks // self.tile)
        self.count = visits * self.groups
        levels = [self.count]
        while self.count and (len(levels) == 1 or levels[0] > 1):
            levels.insert(0, -(-levels[0] // self.fanout))
        self.levels = levels[:-1]
        self.starts = [sum(levels[:level]) for level in range(len(levels) + 1)]
        self.nodes = self.starts[-2]

    def symbols_of(self, tile):
        """Return block and ESI of each symbol of a tile in its order (TILE-1)."""
        v, g = divmod(tile, self.groups)
        blocks = range(g * self.tile, min(self.blocks, (g + 1) * self.tile))
        some = {block: visit(self, block, v) for block in blocks}
        longest = max(map(len, some.values()))
        return [(b, e[n]) for n in range(longest) for b, e in some.items() if n < len(e)]

    def tile_of(self, block, esi):
        """Return the tile of a symbol."""
        visits = range(self.count // self.groups)
        v = next(v for v in visits if esi in visit(self, block, v))
        return v * self.groups + block // self.tile


class Receiver(witness.Receiver):
    """A receiver that uses no symbol of a signed object before its leaf says that it is right.

    With `keys` it takes what one of them signed, and nothing else. It holds all that waits for a
    leaf, however much: bounds are for receivers that strangers reach.
    """

    def __init__(self, only=None, keys=()):
        super().__init__(only)
        self.keys, self.tiles, self.leaves, self.held = keys, None, {}, {}

    def _spm(self, header, body, now):
        raw, *_ = witness.parse_spm(body)
        if self.keys:
            named, found = {key_id(key): key for key in self.keys}, list(signatures(body))
            given = [(named[name], value) for name, value in found if name in named]
            check(found, "unsigned")
            check(given, "key")
            check(any(is_signature(key, CONTEXT + raw, value) for key, value in given), "signature")
        before = self.manifest
        super()._spm(header, body, now)
        if self.manifest is not before and self.manifest.release:
            self.tiles = Tiles(self.manifest)
            self.tile_digests, self.leaves, self.held = {0: self.manifest.tiles_digest}, {}, {}
            self.symbols, self.repairs = {}, {}  # what came before its manifest is not known

    def _take(self, header, body, now):
        if self.keys and not self.manifest and header.type != witness.SPM:
            raise Refused("unsigned")
        super()._take(header, body, now)

    def _keep(self, header, body):
        if not (self.manifest and self.manifest.release):
            super()._keep(header, body)
            return
        block = header.offset // header.symbol_size // self.manifest.block_symbols
        tile = self.tiles.tile_of(block, header.esi)
        if tile in self.leaves:
            self._judge(tile, block, header, body)
        else:
            self.held.setdefault(tile, []).append((block, header, body))

    def _judge(self, tile, block, header, body):
        """Store a symbol, or refuse it."""
        whole = body.ljust(header.symbol_size, b"\0")
        known = self.leaves[tile][block, header.esi]
        if symbol_digest(block, header.esi, whole) == known:
            super()._keep(header, body)
        else:
            self.refused["forged"] = self.refused.get("forged", 0) + 1

    def _leaf(self, number, body):
        tiles = self.tiles
        if not tiles:
            return
        check(number < tiles.nodes + tiles.count, "tree")
        tile = number - tiles.nodes
        children = () if tile >= 0 else tiles.children(number)
        some = tiles.symbols_of(tile) if tile >= 0 else ()
        check(len(body) == 32 * bool(some) + 8 * len(some) + 32 * len(children), "tree")
        if number not in self.tile_digests or tile in self.leaves:
            return
        if children and children[0] in self.tile_digests:
            return
        check(digest(body) == self.tile_digests[number], "tree")
        for place, child in enumerate(children):
            self.tile_digests[child] = body[32 * place : 32 * place + 32]
        if tile >= 0:
            known = [body[at : at + 8] for at in range(32, len(body), 8)]
            self.leaves[tile] = dict(zip(some, known, strict=True))
            for block, header, symbol in self.held.pop(tile, ()):
                self._judge(tile, block, header, symbol)
