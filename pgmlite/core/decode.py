"""Blocks that are made from what lies in their places, be it source or repair symbols.

It is what a driver does that is told to `Decode`. Nothing is written here: whoever decodes may be a
thread of its own, while the receiver goes on to write to other blocks. A decoded block is put in
place by whoever owns the places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pgmlite.core.machine import LYING, Decode
from pgmlite.core.ranges import runs
from pgmlite.fec.codec import Codec, RandomLinear
from pgmlite.fec.decode import Solution
from pgmlite.wire.batch import Octets
from pgmlite.wire.digests import digest, strip_digests
from pgmlite.wire.layout import STRIP_SYMBOLS
from pgmlite.wire.request import Symbols

AT_ONCE = 4 * STRIP_SYMBOLS
"""Symbols that are gathered and hashed in one step: they stay in the processor's cache."""

CODEC: Codec = RandomLinear()

Places = npt.NDArray[np.intp]

Read = Callable[[memoryview, int], object]
"""Fills bytes with what lies from an offset of the object on; zeros where there is nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a `Decode` came to; nothing of it is written yet.

    Attributes:
        action: What was asked for.
        lacks: Symbols that are needed at least before it can be decoded.
        forged: Encoding symbol ids that are not to be believed: forged, or they can't be read.
        ok: The block is as its digest says.
        places: (n,) those of its places, ascending, that have something else now than their own
            symbols.
        symbols: (n, symbol_size) what belongs there.
        trouble: Why the block could not be read.
    """

    action: Decode
    lacks: int = 0
    forged: tuple[int, ...] = ()
    ok: bool = False
    places: Places = field(default_factory=lambda: np.zeros(0, np.intp))
    symbols: Octets = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    trouble: OSError | None = None

    @property
    def doubtful(self) -> Places:
        """(n,) places whose symbols must not be believed any more, ascending."""
        lying = self.action.lying
        if self.action.is_search and not (self.ok or self.forged or self.lacks):
            return np.arange(len(lying))  # nobody can say which of it is right
        return np.flatnonzero(np.isin(lying, np.array(self.forged, np.int64) + 1))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The (start, stop) bytes of `places`."""
        return self.bytes_of(self.places)

    def bytes_of(self, places: Places) -> list[tuple[int, int]]:
        """Return the (start, stop) bytes of ascending places."""
        geometry, block = self.action.geometry, self.action.block
        if not len(places):
            return []
        return [
            (geometry.offset(block, int(places[a])), geometry.offset(block, int(places[b - 1]) + 1))
            for a, b in runs(places)
        ]


def decode(read: Read, action: Decode) -> Decoded:
    """Decode a block; of one that lacks symbols nothing is read.

    What can't be read (`OSError`) is not believed. It takes the memory of three blocks, at most,
    beside what the action has.
    """
    k = len(action.lying)
    taken = np.flatnonzero(action.lying)
    esis = np.concatenate((action.lying[taken].astype(np.int64) - 1, action.surplus_esis))
    solution = CODEC.solve(k, esis)
    if solution.lacks:
        return Decoded(action, lacks=solution.lacks)
    try:
        symbols = _read(read, action, taken)
    except OSError as error:
        unread = tuple(esis[: len(taken)].tolist())
        return Decoded(action, forged=unread, trouble=error)
    if not action.is_search:
        return _finish(action, solution, esis, symbols)
    located = CODEC.locate(k, esis, symbols)
    if located is None:
        return Decoded(action)
    forged = tuple(located.esis.tolist())
    honest = ~np.isin(esis, located.esis)
    solution = CODEC.solve(k, esis[honest])
    if solution.lacks:
        return Decoded(action, lacks=solution.lacks, forged=forged)
    return _finish(action, solution, esis[honest], symbols[honest], forged)


def _read(read: Read, action: Decode, taken: Places) -> Octets:
    """Return the symbols that are held, those that lie in places first, then the surplus.

    Raises:
        OSError: As the system says.
    """
    k, size = len(action.lying), action.geometry.symbol_size
    offset, length = action.geometry.extent(action.block)
    # Behind the end of the file there may be zeros of the last symbol, or nothing: zeros, too.
    symbols: Octets = np.zeros((k + len(action.surplus), size), np.uint8)
    read(symbols[:k].reshape(-1).data, offset)
    # In the mathematics a short symbol is padded with zeros.
    symbols[:k][action.lying == k, length - (k - 1) * size :] = 0
    if len(taken) < k:
        return np.concatenate((symbols[taken], action.surplus))
    symbols[k:] = action.surplus
    return symbols


def _finish(
    action: Decode,
    solution: Solution,
    esis: Symbols,
    symbols: Octets,
    forged: tuple[int, ...] = (),
) -> Decoded:
    """Return what a block comes to whose symbols suffice.

    Args:
        esis: (n,) of `symbols`, (n, symbol_size), of which those that are used up are replaced.
    """
    k = len(action.lying)
    missing = CODEC.decode(solution, symbols)
    rows = solution.rows.copy()
    rows[solution.missing] = np.flatnonzero(esis >= k)[: len(missing)]
    symbols[rows[solution.missing]] = missing
    del missing
    _, length = action.geometry.extent(action.block)
    if _digest(symbols, rows, length) != action.digest:
        return Decoded(action)
    own = np.arange(1, k + 1, dtype=LYING)
    are_wrong = np.isin(own, np.array(forged, np.int64) + 1) | (action.lying != own)
    places = np.flatnonzero(are_wrong)
    return Decoded(action, forged=forged, ok=True, places=places, symbols=symbols[rows[places]])


def _digest(symbols: Octets, rows: Places, length: int) -> bytes:
    """Return the digest of a block.

    Args:
        rows: (K,) which row of `symbols` is which source symbol.
        length: Bytes of the block.
    """
    size = symbols.shape[1]
    strips = []
    for first in range(0, len(rows), AT_ONCE):
        some = symbols[rows[first : first + AT_ONCE]].reshape(-1)
        strips.append(strip_digests(some[: length - first * size].data, size))
    return digest(b"".join(strips))
