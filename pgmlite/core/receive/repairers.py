"""Who takes NAKs, as SPMs say it (spec: NAK-9 to NAK-11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgmlite.core.config import NakConfig
from pgmlite.core.receive import policy
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.timing import TokenBucket, grtt_of, gsize_of
from pgmlite.wire.control import Spm
from pgmlite.wire.endpoint import Endpoint


@dataclass(slots=True)
class KnownRepairer:
    """A session that takes NAKs, from its latest SPM."""

    endpoint: Endpoint
    key: SessionKey
    preferred: bool
    """We were told of it, by the manifest or by our own configuration."""

    trusted: bool = False
    """It sent data of the object, or we were told of it."""

    nonce: int = 0
    timestamp: int = 0
    heard: int = 0
    grtt: int = 0
    gsize: int = 10
    backoff_factor: int = 6
    dead_until: int = 0
    answered_at: int = 0
    """When an NCF or RDATA of it came last, ns; 0: none did."""

    rate: int = 0
    """bit/s that it says it may send; 0: not limited."""

    share: float = 1.0
    """What repairs may take of what it sends."""

    repair_delay: float = 0.0
    """ns from a NAK to its repair, smoothed; 0: none came yet."""

    def learn(self, now: int, spm: Spm, config: NakConfig) -> None:
        """Take what an SPM says."""
        self.timestamp, self.heard = spm.timestamp, now
        if repairs := spm.repairs:
            self.nonce = repairs.nonce
            self.grtt = policy.believed_grtt(config, grtt_of(repairs.grtt))
            self.gsize = gsize_of(repairs.gsize & 0xF)
            self.backoff_factor = min(max(repairs.backoff_factor, 1), 15)
            self.rate = spm.rate
            self.share = min(max(repairs.repair_share, 1), 100) / 100

    def repaired(self, after: int) -> None:
        """Take note that a repair came so many ns after its NAK."""
        self.repair_delay = policy.smoothed(self.repair_delay, after, 8)

    @property
    def patience(self) -> int:
        """Time that an NCF suppresses what it names, ns (spec: NAK-5)."""
        return policy.patience(self.backoff_factor, self.grtt)

    @property
    def expected_delay(self) -> int:
        """Time from the decision to ask to the repair, ns."""
        return policy.expected_delay(self.repair_delay, self.backoff_factor, self.grtt)

    def symbol_time(self, symbol_size: int, carousel_time: float) -> float:
        """Return the time from repair to repair, ns.

        Args:
            carousel_time: From symbol to symbol of its own carousel, ns; 0: it has none.
        """
        said = policy.symbol_time(self.rate, symbol_size)
        # A machine that is too slow for its rate has no more time for repairs.
        return max(said, carousel_time) / self.share


class Repairers:
    """The sessions that take NAKs, by endpoint."""

    def __init__(self, config: NakConfig) -> None:
        self._config = config
        self._repairers: dict[Endpoint, KnownRepairer] = {}
        # The first answers may be lost, as what is asked for was: a few are there from the start.
        depth = (config.ask_silent_at_once - 1) * config.ask_silent
        self._silent = TokenBucket(depth, -depth)
        """What those may be asked that never answered."""

    def __len__(self) -> int:
        return len(self._repairers)

    def take(
        self, now: int, endpoint: Endpoint, key: SessionKey, spm: Spm, *, preferred: bool
    ) -> None:
        """Take an SPM of a session that may be asked at `endpoint` (spec: NAK-9)."""
        repairer = self._repairers.get(endpoint)
        if repairer is None or repairer.key != key:
            if repairer is None and len(self._repairers) >= self._config.max_repairers:
                others = [r for r in self._repairers.values() if not r.preferred]
                if not others:
                    return
                gone = min(others, key=lambda r: (r.trusted, r.heard))
                del self._repairers[gone.endpoint]
            repairer = self._repairers[endpoint] = KnownRepairer(endpoint, key, preferred)
        repairer.trusted |= preferred
        repairer.learn(now, spm, self._config)

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget those whose repairs come on channels that are not heard (RTE-9)."""
        for endpoint in [one for one, known in self._repairers.items() if not hears(known.key[2])]:
            del self._repairers[endpoint]

    def trust(self, key: SessionKey) -> None:
        """Allow to ask the session at its own address: it sends data of the object."""
        for repairer in self._repairers.values():
            repairer.trusted |= repairer.key == key

    def of_session(self, key: SessionKey) -> KnownRepairer | None:
        """Return the repairer that is a session's own."""
        return next((r for r in self._repairers.values() if r.key == key), None)

    def may_ask(self, now: int, repairer: KnownRepairer) -> bool:
        """Whether a NAK may go to a repairer now (spec: NAK-19)."""
        return bool(repairer.answered_at) or not self._silent.is_overdrawn(now)

    @property
    def ask_silent_at(self) -> int:
        """When one that never answered may be asked next, ns."""
        return self._silent.due

    def asked(self, now: int, repairer: KnownRepairer) -> None:
        """Take note that a NAK leaves."""
        if not repairer.answered_at:
            self._silent.spend(now, self._config.ask_silent)

    @property
    def has_trusted(self) -> bool:
        """Whether somebody may be asked, alive or not."""
        return any(repairer.trusted for repairer in self._repairers.values())

    def choose(self, now: int) -> KnownRepairer | None:
        """Return the repairer to ask: those we were told of first, then the latest heard."""
        # spec: NAK-11
        alive = [
            repairer
            for repairer in self._repairers.values()
            if repairer.trusted
            and repairer.dead_until <= now
            and now - repairer.heard < self._config.spm_patience
        ]
        return max(alive, key=lambda r: (r.preferred, r.heard), default=None)
