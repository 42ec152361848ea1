"""What one lane repeats: which NAKs, in parts, become which RDATA and NCFs (spec: section 8)."""

from __future__ import annotations

from functools import partial

from pgmlite.core.config import RepairConfig
from pgmlite.core.send.admission import Admission, Asked
from pgmlite.core.send.alone import Account
from pgmlite.core.send.counters import SendCounters
from pgmlite.core.send.credit import Credit
from pgmlite.core.send.group import Group
from pgmlite.core.send.ledger import Ledger
from pgmlite.core.send.schedule import Coming, Schedule
from pgmlite.core.send.tiles import TileNodes
from pgmlite.core.timing import cost_of
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import SpmRepairs
from pgmlite.wire.geometry import Ids


class Repairs:
    """Takes what is asked for on one lane, and says what is confirmed and sent."""

    def __init__(
        self,
        config: RepairConfig,
        ledger: Ledger,
        *,
        tiles: TileNodes | None,
        admission: Admission,
        group: Group,
        most_credit: int,
        counters: SendCounters,
    ) -> None:
        """
        Args:
            ledger: For what is asked for, empty.
            tiles: The nodes that go out with repairs of a signed object.
            admission: Of the session; its lanes share it.
            most_credit: Packets of credit that are kept.
            counters: Of the lane.
        """
        self._config = config
        self.ledger = ledger
        self.tiles = tiles
        self._admission = admission
        self._counters = counters
        self.group = group
        self.credit = Credit(config.share, most=most_credit)
        self.confirmations = ledger.confirmations
        self.log = ledger.log
        self.ncf_share = config.share * config.ncf_share
        """What NCFs may take of the rate."""

        self._symbol_cost = cost_of(config.source_symbols_per_second)

    @property
    def waiting(self) -> int:
        """Symbols in the queue."""
        return self.ledger.waiting

    @property
    def is_waiting(self) -> bool:
        """Whether anything is to be sent, be it the node of a tile."""
        return self.waiting > 0 or (self.tiles is not None and self.tiles.left > 0)

    def take_naks(
        self,
        now: int,
        batch: PacketBatch,
        tsi: int,
        last: int,
        *,
        own: Schedule | None,
        elsewhere: Coming | None,
    ) -> None:
        """Queue and confirm what a batch of NAKs asks for.

        Args:
            tsi: The session.
            last: The latest sqn sent.
            own: What the lane sends unasked; None: nothing, or nothing any more.
            elsewhere: What other sessions do, in that case.
        """
        for asked in self._admission.admitted(now, batch, tsi):
            self._counters.naks_received += 1
            self.group.measure(now, asked.nak.timestamp)
            is_known = self.ledger.take_nak(
                now,
                asked.nak,
                asked.heard,
                last,
                coming=own or elsewhere,
                than=self.credit.scheduled(self.waiting),
                most=partial(self._most, now, asked, own.sent if own else None),
            )
            if is_known:
                self.group.overlap()

    def _most(self, now: int, asked: Asked, passed: int | None, wanted: int) -> int:
        """Return how many of so many symbols may be queued for who asked."""
        # Over its budget: serve what is left of it, confirm no more than that.
        source, config = asked.source, self._config
        room = config.max_waiting - self.waiting
        if passed is None:
            return source.symbols.take(now, min(room, wanted), self._symbol_cost)
        # spec: REP-16
        account = source.accounts.setdefault(self.ledger, Account(passed))
        left = account.left(config, self.ledger.symbols, passed, asked.nak.loss)
        most = min(room, wanted, max(0, left))
        taken = source.symbols.take(now, most, self._symbol_cost)
        account.had += taken
        return taken

    def hear_data(self, now: int, ids: Ids) -> None:
        """Note what another repairer sends: within the hold-off it need not be sent from here."""
        self.ledger.hear_data(now, ids, self.group.grtt(now))

    def hear_ncf(self, now: int, body: bytes) -> None:
        """Note what another repairer is about to send.

        Raises:
            RefusedPacket: reason ``request``.
        """
        self.ledger.hear_ncf(now, body, self.group.grtt(now))

    def take_out(self, now: int, limit: int) -> Ids:
        """Return what to send now, up to `limit` symbols, in their order."""
        ids = self.ledger.take(now, limit, self.group.grtt(now))
        self.credit.spend(len(ids))
        self._counters.rdata += len(ids)
        return ids

    def take_nodes(self, most: int) -> list[tuple[int, bytes]]:
        """Return nodes of the tree of tiles that go out before what is next, at most so many."""
        if self.tiles is None:
            return []
        tile = self.ledger.tile
        if tile is None:
            self.tiles.finish()
        else:
            self.tiles.enter(tile)
        return self.tiles.take(most)

    def promise(self, *, between: int, is_shared: bool) -> int:
        """Return within how many packets all that waits now has left (`Credit.promise`)."""
        between += self._config.ncf_slack
        waiting = self.waiting
        if self.tiles:
            waiting += self.tiles.left + self.tiles.most(self.ledger.tiles)
        return self.credit.promise(waiting, between=between, is_shared=is_shared)

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
