"""What one block wants: everything that is known of it between its loss and its repair.

The table is what may happen; `nak` says what happens then, and why (spec/protocol.md section 7.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic

from pgmlite.core.receive.demand import N
from pgmlite.core.receive.repairers import KnownRepairer
from pgmlite.core.receive.sessions import SessionKey


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
