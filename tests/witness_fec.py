"""Repair symbols as spec/fec.md says them: numbers, and sums of numbers. Slow and short."""

from functools import cache

P, W = 48, 16
COLUMN, MASK, PICK = 1, 2, 3
FULL = (1 << 64) - 1


def mix(x):
    """Output number x of SplitMix64."""
    z = (x + 1) * 0x9E3779B97F4A7C15 & FULL
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & FULL
    z = (z ^ z >> 27) * 0x94D049BB133111EB & FULL
    return z ^ z >> 31


@cache
def columns(k):
    """Which parities each source symbol of a block of k goes into."""
    return [word(k, COLUMN, j) for j in range(k)]


def word(k, purpose, n):
    """What is drawn for blocks of k source symbols."""
    return mix((purpose << 48) + (k << 32) + n)


def coefficients(k, e):
    """Which source symbols symbol e of a block of k is the sum of: bit j is source symbol j."""
    if e < k:
        return 1 << e
    if k <= P:
        return 1 + word(k, MASK, e) % ((1 << k) - 1)
    mask, found = word(k, MASK, e) & (1 << P) - 1, 0
    for j, column in enumerate(columns(k)):
        found |= ((mask & column).bit_count() & 1) << j
    for t in range(W):
        found ^= 1 << ((word(k, PICK, W * e + t) >> 32) * k >> 32)
    return found


def decode(k, held):
    """Return all source symbols of a block, or None: `held` are symbols by ESI, as numbers."""
    missing = [j for j in range(k) if j not in held]
    wanted = sum(1 << j for j in missing)
    rows = {}  # by the highest missing source symbol in it: which are in it, and their sum
    for e in sorted(e for e in held if e >= k):
        all_in_it, value = coefficients(k, e), held[e]
        left, known = all_in_it & wanted, all_in_it & ~wanted
        while left and left.bit_length() in rows:
            row, sum_, more = rows[left.bit_length()]
            left, value, known = left ^ row, value ^ sum_, known ^ more
        if left:
            rows[left.bit_length()] = left, value, known
    if len(rows) < len(missing):
        return None
    found = dict(held)
    for top in sorted(rows):  # what is below it is known by then
        left, value, known = rows[top]
        for j in range(k):
            if (left | known) >> j & 1 and j != top - 1:
                value ^= found[j]
        found[top - 1] = value
    return [found[j] for j in range(k)]
