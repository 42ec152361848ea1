"""What one lane repeats: which NAKs, in parts, become which RDATA and NCFs (spec: section 8)."""

from __future__ import annotations

from pgmlite.core.config import RepairConfig
from pgmlite.core.needs import Exact
from pgmlite.core.send.admission import Admission, Asked
from pgmlite.core.send.confirmations import Confirmations
from pgmlite.core.send.counters import SendCounters
from pgmlite.core.send.credit import Credit
from pgmlite.core.send.group import Group
from pgmlite.core.send.log import SentLog
from pgmlite.core.send.queue import RepairQueue
from pgmlite.core.send.schedule import Coming
from pgmlite.core.timing import cost_of
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import SpmRepairs
from pgmlite.wire.geometry import Geometry, Ids


class Repairs:
    """Takes what is asked for on one lane, and says what is confirmed and sent."""

    def __init__(
        self,
        config: RepairConfig,
        geometry: Geometry,
        *,
        admission: Admission,
        group: Group,
        most_credit: int,
        counters: SendCounters,
    ) -> None:
        """
        Args:
            admission: Of the session; its lanes share it.
            most_credit: Packets of credit that are kept.
            counters: Of the lane.
        """
        self._config = config
        self._geometry = geometry
        self._admission = admission
        self._counters = counters
        self.group = group
        self.credit = Credit(config.share, most=most_credit)
        self.confirmations = Confirmations(geometry.symbols, burst=config.ncf_burst)
        self.log = SentLog(geometry, longest=config.max_in_flight)
        self._queue = RepairQueue(geometry.symbols, max_held=config.max_held)
        self.ncf_share = config.share * config.ncf_share
        """What NCFs may take of the rate."""

        self._symbol_cost = cost_of(config.source_symbols_per_second)

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self._queue.waiting

    @property
    def queued(self) -> Exact:
        """What waits to be repeated, ascending."""
        return self._queue.queued

    def take_naks(
        self, now: int, batch: PacketBatch, *, tsi: int, last: int, coming: Coming | None
    ) -> None:
        """Queue and confirm what a batch of NAKs asks for.

        Args:
            tsi: The session.
            last: The latest sqn sent.
            coming: What is sent unasked; None: nothing.
        """
        for asked in self._admission.admitted(now, batch, tsi):
            self._counters.naks_received += 1
            self.group.measure(now, asked.timestamp)
            self.confirmations.add(self._enqueue(now, asked, last, coming))

    def _enqueue(self, now: int, asked: Asked, last: int, coming: Coming | None) -> Exact:
        """Queue what has to be sent; return what to confirm."""
        need = asked.need
        if self._queue.has_any(need):
            self.group.overlap()
        # spec: REP-4: what is queued, on its way, or repaired a moment ago is not queued again.
        wanted = self.log.not_in_flight(need, asked.heard, last)
        wanted = self._queue.missing(now, wanted)
        # spec: REP-5: nor what comes anyway before the queue would bring it.
        if coming:
            wanted = coming.later(wanted, self.credit.scheduled(self.waiting))
        room = self._config.max_waiting - self.waiting
        # Over its budget: serve what is left of it, confirm no more than that.
        most = asked.source.symbols.take(now, min(room, len(wanted)), self._symbol_cost)
        served, left = wanted.cut(most)
        self._queue.add(served)
        return need.less(left)

    def take_heard(self, now: int, need: Exact) -> None:
        """Note what another repairer repairs: it need not be sent again within the hold-off."""
        self._queue.hold(now, need, self.group.grtt(now))

    def take_out(self, now: int, limit: int) -> Ids:
        """Return what to repeat now, up to `limit` symbols, in the order of sending."""
        need = self._queue.take(now, limit, self.group.grtt(now))
        self.credit.spend(len(need))
        self._counters.rdata += len(need)
        return self._geometry.ids(need.symbols)

    def promise(self, *, between: int, is_shared: bool) -> int:
        """Return within how many packets all that waits now has left (`Credit.promise`)."""
        between += self._config.ncf_slack
        return self.credit.promise(self.waiting, between=between, is_shared=is_shared)

    def option(self, now: int, share: float) -> SpmRepairs:
        """Return what the SPM of now says of repairs, which may take `share` of the rate."""
        self._admission.forget(now)
        asking = self._admission.sources
        self.group.age(now, asking)
        grtt, gsize = self.group.announced(now)
        return SpmRepairs(
            nonce=self._admission.nonce(now),
            grtt=grtt,
            gsize=gsize,
            backoff_factor=self.group.backoff_factor(asking),
            repair_share=round(share * 100),
            repair_port=self._config.port,
        )
