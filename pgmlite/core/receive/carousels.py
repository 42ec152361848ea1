"""Where carousels are, what they went past, and what they bring (spec: NAK-1, NAK-2, NAK-7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import NakConfig
from pgmlite.core.course import Course, course_of, place_near
from pgmlite.core.receive import policy
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.ring import Ring

Numbers = npt.NDArray[np.integer]

TOO_MANY = 2
"""Symbols beyond K with which blocks are mostly decoded."""


@dataclass(frozen=True, slots=True)
class Passing:
    """What a carousel went past between two looks, from place `start` to `stop`.

    Attributes:
        joined: Place from which on it was heard.
        is_all: No block has anything to come that was not sent since: it stands, or has come round.
    """

    course: Course
    start: int
    stop: int
    joined: int
    is_all: bool


@dataclass(slots=True)
class Carousel:
    """How far the carousel of one session is, as this receiver heard it go by.

    Attributes:
        joined: Place from which on it was heard.
        sent: Place behind the latest symbol that is known to have left.
        passed: Place before which everything has come or is lost.
        heard: When something moved it last, ns.
        told: What the latest SPM said.
        measured: When and where its speed was measured last.
        has_data: ODATA came of it, most likely.
        stands: Two SPMs in a row said the same, and nothing came in between.
        symbol_time: ns from symbol to symbol, smoothed; 0: not known yet.
    """

    course: Course
    joined: int
    sent: int
    passed: int
    heard: int
    told: int
    measured: tuple[int, int]
    has_data: bool = False
    stands: bool = False
    symbol_time: float = 0.0
    _is_over: bool = False
    """An SPM that shows that it stands was not looked at yet."""

    _latest: tuple[int, int] | None = None
    """Block and ESI of the latest ODATA that was not looked at yet: few of many are."""

    def tell(self, now: int, place: int, *, shortest: int) -> None:
        """Take what an SPM says: `place` comes next.

        Args:
            shortest: Speeds are measured over at least so many ns.
        """
        self.settle()
        if place + self.course.ring.turn // 2 < self.sent:
            # spec: NAK-2: further back than packets can overtake: as if we had just joined.
            self.joined = self.sent = self.passed = place
            self.measured = now, place
        # spec: NAK-1: packets may overtake one another, but not a carousel that stands.
        self.stands = self._is_over = place == self.told and place >= self.sent
        self.told = place
        if place > self.sent:
            self.sent, self.heard = place, now
        self._measure(shortest)

    def bring(self, now: int, block: int, esi: int) -> None:
        """Take note of ODATA."""
        self._latest = block, esi
        self.has_data = True
        self.stands = self._is_over = False
        self.heard = now

    def settle(self) -> None:
        """Find out where it is by what came."""
        if self._latest:
            self.sent = max(self.sent, place_near(self.course.ring, *self._latest, self.sent) + 1)
            self._latest = None

    def _measure(self, shortest: int) -> None:
        gone, elapsed = self.sent - self.measured[1], self.heard - self.measured[0]
        if gone > 0 and elapsed >= shortest:
            self.symbol_time = policy.smoothed(self.symbol_time, elapsed / gone, 4)
            self.measured = self.heard, self.sent

    def look(self, config: NakConfig) -> Passing | None:
        """Return what went past since the last time; None: nothing did."""
        if not (self.has_data or self._is_over):
            # spec: RCV-18: a place that only an SPM says may be made up, and so may its ring.
            return None
        self.settle()
        self._measure(config.measure_time)
        start = self.passed
        stop = max(start, self.sent - config.reorder_packets)
        is_all = self._is_over or start < self.joined + self.course.ring.turn <= stop
        if stop == start and not is_all:
            return None
        self.passed, self._is_over = stop, False
        return Passing(self.course, start, stop, self.joined, is_all)


class Carousels:
    """The carousels of the sessions heard; the one silent for longest makes room.

    One of which no data came goes before those that send some: strangers can invent SPMs.
    """

    def __init__(self, config: NakConfig) -> None:
        self._config = config
        self._carousels: dict[SessionKey, Carousel] = {}

    def __len__(self) -> int:
        return len(self._carousels)

    def get(self, key: SessionKey) -> Carousel | None:
        """Return where a session is."""
        return self._carousels.get(key)

    def tell(self, now: int, key: SessionKey, ring: Ring, place: int, received: int) -> None:
        """Take what an SPM says of a session's carousel.

        Args:
            place: What comes next.
            received: Packets that came of the session so far.
        """
        carousel = self._carousels.pop(key, None)
        if carousel is None or carousel.course.ring != ring:
            while len(self._carousels) >= self._config.max_positions:
                silent = (key for key, one in self._carousels.items() if not one.has_data)
                self._carousels.pop(next(silent, None) or next(iter(self._carousels)))
            # spec: NAK-2: what went by before we heard it was not lost. For as many symbols as
            # packets came we were there, at least, but for SPMs and the like.
            joined = max(0, place - received)
            carousel = Carousel(course_of(ring), joined, place, joined, now, place, (now, place))
            carousel.has_data = bool(policy.is_trusted(self._config, received))
        else:
            carousel.tell(now, place, shortest=self._config.measure_time)
        self._carousels[key] = carousel  # the one silent for longest stands first

    def bring(self, now: int, key: SessionKey, block: int, esi: int) -> None:
        """Take note of the latest ODATA of a session."""
        if carousel := self._carousels.pop(key, None):
            carousel.bring(now, block, esi)
            self._carousels[key] = carousel

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget those of channels that are not heard: nothing of them goes past us (RTE-9)."""
        for key in [key for key in self._carousels if not hears(key[2])]:
            del self._carousels[key]

    def look(self) -> Iterator[Passing]:
        """Find out where all are; yield what went past since the last time."""
        for carousel in self._carousels.values():
            if passing := carousel.look(self._config):
                yield passing

    def coming(self, now: int) -> list[Carousel]:
        """Return those that are heard now and go on (spec: NAK-7)."""
        found = []
        for carousel in self._carousels.values():
            is_heard = carousel.has_data and now - carousel.heard < self._config.silence
            if is_heard and not carousel.stands:
                carousel.settle()
                found.append(carousel)
        return found

    def cycle_time(self, now: int, key: SessionKey | None) -> float:
        """Ns a cycle takes of the session `key`, or else of the slowest heard now; 0: not known."""
        own = self._carousels.get(key) if key else None
        some = [own] if own else self.coming(now)
        return max((c.symbol_time * c.course.ring.geometry.symbols for c in some), default=0.0)


def time_left(coming: Sequence[Carousel], held: Numbers, sources: Numbers, loss: float) -> float:
    """Return the ns until carousels will have brought all blocks of an object with repair symbols.

    All blocks advance alike, so the one that has least decides, and all carousels help it. Infinite
    if they bring nothing of it: a short block may have no part in a small territory.

    Args:
        coming: Those whose speed is known.
        held: (blocks,) symbols that are held of each block; of one that is whole, `TOO_MANY` more
            than K.
        sources: (blocks,) K of each.
        loss: Share of packets lost, 0 to less than 1.
    """
    speed = np.zeros(len(held))
    for carousel in coming:
        # What a lead is still to send of a block comes before the rounds that are counted.
        led = np.where(carousel.course.has_left(carousel.sent), 0, sources * (1 - loss))
        numbers = np.maximum(0, sources + TOO_MANY - np.maximum(held, led)) / (1 - loss)
        takes = carousel.course.symbols_until(carousel.sent, numbers) * carousel.symbol_time
        speed += 1 / np.maximum(takes, 1)
    slowest = float(speed.min())
    return 1 / slowest if slowest else inf
