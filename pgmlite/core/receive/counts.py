"""How many encoding symbols of each block are there, and where each block is on its way.

Blocks of objects with repair symbols: any symbol of a block replaces any other, so that numbers
say nearly all that there is to say (spec/protocol.md section 6)::

    OPEN --all in their places--> WHOLE --right--> DONE
      ^ `------enough of them---> DECODING --right--^ |
      `--wrong, or too few-- WHOLE, DECODING          |
      `-------------------found spoilt----------------'

An open block takes symbols. It is whole with every source symbol in its own place: its digest is
all that is left to ask. Any other that has enough symbols is decoded. A block whose bytes were
there before anybody stored them goes from OPEN to DONE.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
import numpy.typing as npt

from pgmlite.wire.batch import Flags
from pgmlite.wire.geometry import Geometry
from pgmlite.wire.request import Symbols

EXTRA = 1
"""Symbols beyond K with which it is first tried to decode: K alone are enough but seldom."""

Numbers = npt.NDArray[np.int32]


class BlockState(IntEnum):
    """Where a block is on its way."""

    OPEN = 0
    WHOLE = 1
    DECODING = 2
    DONE = 3


class BlockEvent(IntEnum):
    """What moves a block from state to state."""

    IN_PLACE = auto()
    ENOUGH = auto()
    RIGHT = auto()
    NOT_YET = auto()
    SPOILT = auto()


_S, _E = BlockState, BlockEvent

BLOCK_TRANSITIONS: dict[tuple[BlockState, BlockEvent], BlockState] = {
    (_S.OPEN, _E.IN_PLACE): _S.WHOLE,
    (_S.OPEN, _E.ENOUGH): _S.DECODING,
    (_S.OPEN, _E.RIGHT): _S.DONE,
    (_S.WHOLE, _E.RIGHT): _S.DONE,
    (_S.DECODING, _E.RIGHT): _S.DONE,
    (_S.WHOLE, _E.NOT_YET): _S.OPEN,
    (_S.DECODING, _E.NOT_YET): _S.OPEN,
    (_S.DONE, _E.SPOILT): _S.OPEN,
}


class BlockCounts:
    """How many symbols of each block are held, how many it takes, and its state.

    Attributes:
        sources: (blocks,) K of each.
        had: (blocks,) encoding symbols that are held, whichever they are.
        needed: (blocks,) so many have to be held before it is tried to decode: a few more than K,
            and more after a try that failed.
        states: (blocks,) `BlockState` of each.
        stored: How much of the object that is, in source symbols: no block counts for more than it
            has of them.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.sources: Numbers = geometry.sources(np.arange(geometry.blocks)).astype(np.int32)
        self.had: Numbers = np.zeros(geometry.blocks, np.int32)
        self.needed: Numbers = self.sources + np.int32(EXTRA)
        self.states: npt.NDArray[np.uint8] = np.zeros(geometry.blocks, np.uint8)
        self.stored = 0

    def __len__(self) -> int:
        return len(self.had)

    @property
    def open(self) -> Flags:
        """(blocks,) whether each still takes symbols that carousels or repairers bring."""
        flags: Flags = self.states == BlockState.OPEN
        return flags

    @property
    def lacks(self) -> Numbers:
        """(blocks,) symbols that each lacks before it is tried to decode it; 0: it is not open."""
        lacks: Numbers = np.where(self.open, np.maximum(self.needed - self.had, 0), 0)
        return lacks

    def state(self, block: int) -> BlockState:
        """Return the state of one block."""
        return BlockState(int(self.states[block]))

    def move(self, block: int, event: BlockEvent) -> None:
        """Move a block on.

        Raises:
            KeyError: The table has no such way.
        """
        self.states[block] = BLOCK_TRANSITIONS[self.state(block), event]

    def add(self, blocks: Symbols, numbers: npt.NDArray[np.integer]) -> None:
        """Count symbols that are held from now on, (n,) blocks, distinct, and how many of each."""
        sources, before = self.sources[blocks], self.had[blocks]
        after = before + numbers.astype(np.int32)
        self.had[blocks] = after
        self.stored += int((np.minimum(after, sources) - np.minimum(before, sources)).sum())

    def set(self, block: int, had: int) -> None:
        """Let a block have so many symbols."""
        source, before = int(self.sources[block]), int(self.had[block])
        self.had[block] = had
        self.stored += min(had, source) - min(before, source)

    def is_enough(self, block: int) -> bool:
        """Whether so many symbols of a block are held that it is worth a try to decode it."""
        return bool(self.had[block] >= self.needed[block])
