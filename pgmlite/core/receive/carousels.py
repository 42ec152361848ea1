"""Where carousels are, and what they went past (spec: NAK-1, NAK-2, NAK-7)."""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.config import NakConfig
from pgmlite.core.receive import policy
from pgmlite.core.receive.sessions import SessionKey


@dataclass(slots=True)
class Position:
    """How far the carousel of one session is, as this receiver saw it go by."""

    passed: int
    """Symbol up to which everything has come or is lost."""

    heard: int
    measured_at: int
    to_go: int
    """Symbols until it has come round to where it was first heard; 0 or less: it has."""

    since_measured: int = 0
    spm_head: int = -1
    """What the latest SPM said comes next."""

    symbol_time: float = 0.0
    """ns from symbol to symbol, smoothed; 0: not known yet."""

    def measure(self, now: int, gone: int, shortest: int) -> None:
        """Count `gone` symbols; take the speed once `shortest` ns have passed."""
        self.since_measured += gone
        elapsed = now - self.measured_at
        if elapsed >= shortest:
            self.symbol_time = policy.smoothed(self.symbol_time, elapsed / self.since_measured, 4)
            self.measured_at, self.since_measured = now, 0


class Carousels:
    """The positions of the sessions heard; the one silent for longest makes room."""

    def __init__(self, config: NakConfig, symbols: int) -> None:
        """
        Args:
            symbols: Symbols in the object.
        """
        self._config = config
        self._total = symbols
        self._positions: dict[SessionKey, Position] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def get(self, key: SessionKey) -> Position | None:
        """Return where a session is."""
        return self._positions.get(key)

    @property
    def passed(self) -> list[int]:
        """The last symbol that went by, of each session."""
        return [position.passed for position in self._positions.values()]

    def cycle_time(self, now: int, key: SessionKey) -> float:
        """Ns a cycle takes of the session `key`, or else of the slowest heard now; 0: not known."""
        own = self._positions.get(key)
        heard = [p for p in self._positions.values() if now - p.heard < self._config.silence]
        times = (position.symbol_time for position in ([own] if own else heard))
        return max(times, default=0.0) * self._total

    def follow(
        self, now: int, key: SessionKey, symbol: int, *, is_head: bool
    ) -> tuple[list[tuple[int, int]], int | None]:
        """Note that a session is at `symbol`.

        Args:
            is_head: `symbol` comes next, as an SPM says; else it just came.

        Returns:
            The (start, stop) of what has gone by; and the last symbol that has, if its block need
            not end any more: the carousel stands, or has come round to where it was first heard.
        """
        total = self._total
        if not total:
            return [], None
        last = (symbol - 1) % total if is_head else symbol
        position = self._known(now, key, last)
        gone = (last - position.passed) % total
        # spec: NAK-1: three packets may still overtake one another, but not a carousel that stands.
        stands = is_head and position.spm_head == symbol
        if is_head:
            position.spm_head = symbol
        if not stands:
            position.heard = now
            gone -= self._config.reorder_packets
        if gone <= 0:
            return [], position.passed if stands else None
        if gone > total // 2 and total > 2 * self._config.reorder_packets:
            # Backwards, or more than half the object in one gap: as if we had just joined.
            position.passed, position.to_go = last, total
            return [], None
        if not stands:
            position.measure(now, gone, self._config.measure_time)
        start = (position.passed + 1) % total
        position.passed = (position.passed + gone) % total
        is_round = stands or 0 < position.to_go <= gone
        position.to_go -= gone
        return self._spans(start, gone), position.passed if is_round else None

    def _known(self, now: int, key: SessionKey, last: int) -> Position:
        """Return where a session is; one that is new has just passed symbol `last`."""
        position = self._positions.pop(key, None)
        if position is None:
            while len(self._positions) >= self._config.max_positions:
                self._positions.pop(next(iter(self._positions)))
            # spec: NAK-2: what went by before we joined was not lost.
            position = Position(last, now, now, self._total)
        self._positions[key] = position  # the one silent for longest stands first
        return position

    def _spans(self, start: int, count: int) -> list[tuple[int, int]]:
        """Return the (start, stop) of `count` symbols from `start` on and round."""
        if start + count <= self._total:
            return [(start, start + count)]
        return [(start, self._total), (0, start + count - self._total)]

    def coming(self, now: int) -> list[Position]:
        """Return the carousels that are heard now and whose speed is known (spec: NAK-7)."""
        return [
            position
            for position in self._positions.values()
            if position.symbol_time and now - position.heard < self._config.silence
        ]
