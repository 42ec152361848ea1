"""Whether an object is still sent: what a stranger can copy does not say so (spec: RCV-22)."""

from __future__ import annotations

from collections import OrderedDict

from pgmlite.core.receive.sessions import SessionKey

MOST_SESSIONS = 64
"""Sessions remembered that announced the object; one that sent nothing of it makes room first."""


class Liveness:
    """When a carousel of one object was heard last.

    Attributes:
        heard: ns.
    """

    def __init__(self, now: int) -> None:
        self.heard = now
        self._sessions: OrderedDict[SessionKey, bool] = OrderedDict()
        """Those whose SPMs announced the object, and whether data of them came since."""

    def announce(self, now: int, key: SessionKey) -> None:
        """Take an SPM with a position: it counts if its session sends the object as well."""
        has_sent = self._sessions.pop(key, False)
        if has_sent:
            self.heard = now
        elif len(self._sessions) >= MOST_SESSIONS:
            idle = (one for one, sent in self._sessions.items() if not sent)
            del self._sessions[next(idle, next(iter(self._sessions)))]
        self._sessions[key] = has_sent

    def bring(self, now: int, key: SessionKey) -> None:
        """Take data of a carousel: it counts if its session announced the object."""
        if key in self._sessions:
            self._sessions[key] = True
            self.heard = now

    def prove(self, now: int) -> None:
        """Take data that is known to be what was signed."""
        self.heard = now
