"""What one block wants: everything that is known of it between its loss and its repair.

The table is what may happen; `nak` says what happens then, and why (spec/protocol.md section 7.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic

import numpy as np

from pgmlite.core.receive.demand import N
from pgmlite.core.receive.repairers import KnownRepairer
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.timers import Timers
from pgmlite.wire.request import Symbols


class WantState(Enum):
    """Where a want is on its way (RFC 3208 section 6.3)."""

    DUE = auto()
    BACK_OFF = auto()
    WAIT_NCF = auto()
    WAIT_DATA = auto()
    DONE = auto()


class WantEvent(Enum):
    """What moves a want on."""

    STARTED = auto()
    TIMER = auto()
    CONFIRMED = auto()
    PASSED = auto()
    SATISFIED = auto()
    LEFT = auto()
    EXHAUSTED = auto()


_S, _E = WantState, WantEvent

WANT_TRANSITIONS: dict[tuple[WantState, WantEvent], WantState] = {
    (_S.DUE, _E.STARTED): _S.BACK_OFF,
    (_S.BACK_OFF, _E.TIMER): _S.WAIT_NCF,
    (_S.WAIT_NCF, _E.TIMER): _S.BACK_OFF,
    (_S.WAIT_DATA, _E.TIMER): _S.BACK_OFF,
    (_S.BACK_OFF, _E.CONFIRMED): _S.WAIT_DATA,
    (_S.WAIT_NCF, _E.CONFIRMED): _S.WAIT_DATA,
    (_S.WAIT_DATA, _E.CONFIRMED): _S.WAIT_DATA,
    (_S.BACK_OFF, _E.PASSED): _S.BACK_OFF,
    (_S.WAIT_NCF, _E.PASSED): _S.WAIT_NCF,
    (_S.WAIT_DATA, _E.PASSED): _S.WAIT_DATA,
    (_S.DUE, _E.SATISFIED): _S.DONE,
    (_S.BACK_OFF, _E.SATISFIED): _S.DONE,
    (_S.WAIT_NCF, _E.SATISFIED): _S.DONE,
    (_S.WAIT_DATA, _E.SATISFIED): _S.DONE,
    (_S.DUE, _E.LEFT): _S.DONE,
    (_S.BACK_OFF, _E.LEFT): _S.DONE,
    (_S.WAIT_NCF, _E.LEFT): _S.DONE,
    (_S.WAIT_DATA, _E.LEFT): _S.DONE,
    (_S.WAIT_NCF, _E.EXHAUSTED): _S.DONE,
    (_S.WAIT_DATA, _E.EXHAUSTED): _S.DONE,
}


@dataclass(slots=True)
class Promise:
    """The repairs of a block leave before the session `key` is past sqn `last` (spec: NAK-16)."""

    key: SessionKey
    last: int
    heard: int
    """When something came of that session last, ns."""


@dataclass(slots=True)
class Want(Generic[N]):
    """What one block wants.

    Attributes:
        needs: What is needed. Frozen when the cycle starts: what is lost later is asked for later
            (RFC 5401 section 3.2.1). Of counts it says how many symbols were needed then.
        unconfirmed: What of it no NCF said so far to be on its way.
        asked: Who got the latest NAK.
        asked_at: When it left, ns; 0: a repair came since.
        passed: The carousel passed the block during the cycle, which asks for nothing lost then.
        promise: Only in WAIT_DATA, if the NCF said so.
        relied: Whose NCFs it waited for since it asked or began, and since when, ns.
    """

    block: int
    needs: N
    unconfirmed: N
    state: WantState = WantState.DUE
    asked: KnownRepairer | None = None
    asked_at: int = 0
    ncf_retries: int = 0
    data_retries: int = 0
    passed: bool = False
    promise: Promise | None = None
    relied: dict[SessionKey, int] = field(default_factory=dict)

    def has_asked(self, key: SessionKey) -> bool:
        """Whether a session got its latest NAK."""
        return self.asked is not None and self.asked.key == key

    def move(self, event: WantEvent) -> None:
        """Go where the table says.

        Raises:
            KeyError: The table has no such way.
        """
        self.state = WANT_TRANSITIONS[self.state, event]
        if event is WantEvent.PASSED:
            self.passed = True
        if self.state is not WantState.WAIT_DATA:
            self.promise = None


class Wants(Generic[N]):
    """What all blocks of an object want, and the timers of what they wait for.

    Attributes:
        due: The blocks in DUE, in the order in which they became so.
        cycles: The wants of all others, by block; none is in DONE.
        timers: One for each of `cycles`, by block.
    """

    def __init__(self, most_due: int, nothing: N) -> None:
        """
        Args:
            most_due: Blocks in DUE, at most.
        """
        self._most_due = most_due
        self._nothing = nothing
        self.due: dict[int, None] = {}
        self.cycles: dict[int, Want[N]] = {}
        self.timers: Timers[int] = Timers()

    def new(self, block: int) -> Want[N]:
        """Return the want of a block in DUE."""
        return Want(block, self._nothing, self._nothing)

    def get(self, block: int) -> Want[N] | None:
        """Return what a block wants now."""
        return self.cycles.get(block) or (self.new(block) if block in self.due else None)

    @property
    def running(self) -> Symbols:
        """(n,) the blocks whose wants are not in DUE."""
        return np.fromiter(self.cycles, np.int64, len(self.cycles))

    def move(self, want: Want[N], event: WantEvent, at: int | None = None) -> None:
        """Move a want on, to wait until `at` ns; None: its timer stays."""
        want.move(event)
        block = want.block
        if want.state is WantState.DUE:
            return
        self.due.pop(block, None)
        if want.state is not WantState.DONE:
            self.cycles[block] = want
            if at is not None:
                self.timers.set(block, at)
            return
        self.cycles.pop(block, None)
        self.timers.cancel(block)
        if want.passed:
            self.make_due(np.array([block], np.int64))

    def make_due(self, blocks: Symbols, *, again: bool = True) -> None:
        """Let (n,) blocks want something.

        Args:
            again: Those that run already want it again when they are done.
        """
        running = self.running
        if again:
            for block in running[np.isin(running, blocks)].tolist():
                self.move(self.cycles[block], WantEvent.PASSED)
        fresh = blocks[~np.isin(blocks, running)] if len(running) else blocks
        room = self._most_due - len(self.due)
        self.due.update(dict.fromkeys(fresh[: max(0, room)].tolist()))

    def waiting_until(self, at: int) -> list[Want[N]]:
        """Return the wants in BACK_OFF until just `at` ns."""
        return [
            want
            for want in self.cycles.values()
            if want.state is WantState.BACK_OFF and self.timers.at(want.block) == at
        ]

    def some(self, blocks: Iterable[int]) -> list[Want[N]]:
        """Return the wants of `blocks`, but those in DUE."""
        return [self.cycles[block] for block in blocks if block in self.cycles]
