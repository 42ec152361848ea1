"""What the rest of pgmlite decodes with: the code, a count in its place, or nothing.

A receiver's machine says of which block something can be decoded, never how. Whoever performs that
asks a codec: first what the held symbols are good for, then for the symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pgmlite.fec import decode, encode, locate
from pgmlite.fec.code import Esis
from pgmlite.fec.decode import Solution
from pgmlite.fec.locate import Located
from pgmlite.fec.sums import Bytes

MOST_TOO_MANY = 40
"""Repair symbols too many at which a random code fails once in 2^40 times."""

MOST_TELLING = 60
"""Missing symbols beyond which their number makes no difference to that."""


class Codec(Protocol):
    """How missing source symbols come from repair symbols. ESIs are (n,), symbols (n, T)."""

    def solve(self, k: int, esis: Esis) -> Solution:
        """Return what held symbols of a block of `k` source symbols are good for, by their ESIs."""

    def decode(self, solution: Solution, symbols: Bytes) -> Bytes:
        """Return the missing source symbols, (d, T), ascending; `symbols` are those solved for."""

    def locate(self, k: int, esis: Esis, symbols: Bytes) -> Located | None:
        """Return which of the symbols are forged; None: that can't be said."""

    def encode(self, source: Bytes, esis: Esis) -> Bytes:
        """Return encoding symbols of the block `source`, (k, T)."""


class RandomLinear:
    """The code of ``spec/fec.md``."""

    def solve(self, k: int, esis: Esis) -> Solution:
        """Return what held symbols are good for.

        Raises:
            ValueError: K or an ESI is out of range, or one is there twice.
        """
        return decode.solve(k, esis)

    def decode(self, solution: Solution, symbols: Bytes) -> Bytes:
        """Return the missing source symbols.

        Raises:
            ValueError: Symbols are lacking.
        """
        return decode.decode(solution, symbols)

    def locate(self, k: int, esis: Esis, symbols: Bytes) -> Located | None:
        """Return which of the symbols are forged; None: that can't be said.

        Raises:
            ValueError: K or an ESI is out of range, or one is there twice.
        """
        return locate.locate(k, esis, symbols)

    def encode(self, source: Bytes, esis: Esis, dense: Bytes | None = None) -> Bytes:
        """Return encoding symbols.

        Args:
            dense: `parities` of the block, where they were kept.

        Raises:
            ValueError: K or an ESI is out of range.
        """
        return encode.encode(source, esis, dense)


class Plain:
    """No repair symbols: a block is whole when all of its source symbols are held."""

    def solve(self, k: int, esis: Esis) -> Solution:
        """Return what is missing: it is lacking, too.

        Raises:
            ValueError: K or an ESI is out of range, or one is there twice.
        """
        held = decode.sort(k, esis)
        lacks = len(held.missing)
        return Solution(k, held.missing, lacks, held.rows, held.repair_rows[:0], None)

    def decode(self, solution: Solution, symbols: Bytes) -> Bytes:
        """Return no symbols.

        Raises:
            ValueError: Symbols are lacking.
        """
        return decode.decode(solution, symbols)

    def locate(self, k: int, esis: Esis, symbols: Bytes) -> Located | None:
        """Return None: source symbols alone say nothing of each other."""
        return None

    def encode(self, source: Bytes, esis: Esis) -> Bytes:
        """Return source symbols.

        Raises:
            ValueError: There is no such source symbol.
        """
        if len(esis) and not (esis.min() >= 0 and esis.max() < len(source)):
            raise ValueError("without FEC there are no repair symbols")
        return source[esis]


@dataclass(frozen=True, slots=True)
class Counting:
    """A random code without symbols, of one block at one receiver: it counts what is held.

    The n-th symbol is enough with the probability that a random matrix over GF(2) has full rank.
    Symbols have no bytes.

    Attributes:
        draw: Evenly drawn from 0 to 1: how lucky the block is; the same gives the same.
    """

    draw: float

    def solve(self, k: int, esis: Esis) -> Solution:
        """Return what held symbols are good for.

        Raises:
            ValueError: K or an ESI is out of range, or one is there twice.
        """
        held = decode.sort(k, esis)
        d, surplus = len(held.missing), len(held.repairs) - len(held.missing)
        lacks = max(-surplus, int(surplus < too_many(np.array([self.draw]), d)[0]))
        return Solution(k, held.missing, lacks, held.rows, held.repair_rows, None)

    def decode(self, solution: Solution, symbols: Bytes) -> Bytes:
        """Return missing source symbols without bytes.

        Raises:
            ValueError: Symbols are lacking.
        """
        decode.check_solved(solution)
        return np.empty((len(solution.missing), 0), np.uint8)

    def locate(self, k: int, esis: Esis, symbols: Bytes) -> Located | None:
        """Return None: there is nothing that could be forged."""
        return None

    def encode(self, source: Bytes, esis: Esis) -> Bytes:
        """Return symbols without bytes."""
        return np.empty((len(esis), 0), np.uint8)


def too_many(draws: npt.NDArray[np.float64], missing: int) -> npt.NDArray[np.int64]:
    """Return how many repair symbols more than are missing a random code needs.

    Args:
        draws: Evenly drawn from 0 to 1.
        missing: Source symbols; without any none are needed.
    """
    fails = _fails(min(missing, MOST_TELLING))
    found: npt.NDArray[np.int64] = MOST_TOO_MANY - np.searchsorted(fails, draws, side="right")
    return found


@cache
def _fails(missing: int) -> npt.NDArray[np.float64]:
    """Return P(a random matrix has not full rank), with MOST_TOO_MANY - 1 to 0 rows too many."""
    odds = 1 - 0.5 ** np.arange(1, MOST_TOO_MANY + missing + 1)
    full = [np.prod(odds[h : h + missing]) for h in reversed(range(MOST_TOO_MANY))]
    return 1 - np.array(full)
