"""Many receivers of one object as one machine: their bookkeeping is arrays, their NAKs are real.

What a single `Receiver` keeps for itself is here a row of a matrix: which symbols it has, which
packets of which session came. Each member has a `NakMachine` of its own, the very one that a
`Receiver` has, so that what is asked, when and of whom is the product's behaviour. A test runs the
same packets and losses through single receivers and demands the same NAKs and the same times.

What it leaves out: payloads and digests (a stored symbol is a right one), room for more symbols of
a block than it needs, an object that changes, packets of strangers, and packets that overtake
others of their session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from random import Random

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import SendNak
from pgmlite.core.needs import Count, Exact
from pgmlite.core.receive import policy
from pgmlite.core.receive.asks import Ask, build_nak_packet
from pgmlite.core.receive.nak import naks_for
from pgmlite.core.receive.sessions import SessionKey, repaired_by
from pgmlite.core.ring import Ring
from pgmlite.sim.stock import MemberStock, Stock
from pgmlite.wire.batch import Flags, PacketBatch
from pgmlite.wire.control import parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import Ids
from pgmlite.wire.layout import DATA_TYPES, PacketType
from pgmlite.wire.manifest import Manifest

Counts = npt.NDArray[np.int64]

NEVER = 1 << 62
"""ns; the deadline of a member with nothing to do, and the completion of one that has none."""


@dataclass(slots=True)
class _Session:
    """What each member has of one session, (members,) each."""

    received: Counts
    first: Counts
    """Sequence number of the first packet received, as it would be without wrapping; -1: none."""

    highest: Counts
    start: int
    """The first sequence number that anybody saw; the others count on from it."""

    def lost(self) -> Counts:
        """Return how many packets each member misses below the highest it saw."""
        lost: Counts = np.where(self.first < 0, 0, self.highest - self.first + 1 - self.received)
        return lost


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A batch on its way to a group, and which member gets which of its packets.

    Attributes:
        kept: (members, packets).
    """

    batch: PacketBatch
    kept: Flags


READING_ORDER = (
    PacketType.SPM,
    PacketType.TREE,
    PacketType.NCF,
    PacketType.ODATA,
    PacketType.RDATA,
)
"""What is read first of packets that waited together: an NCF leaves before its repairs do."""


def gather(arrived: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Yield what waited between two reads in piles of one type and session.

    Data is joined into one batch, unless a symbol came twice: it is new only once.
    """
    piles: dict[tuple[int, Endpoint, int], list[Arrival]] = {}
    for one in arrived:
        rank = READING_ORDER.index(one.batch.kind)
        key = rank, one.batch.source, int(one.batch.rows["tsi"][0])
        piles.setdefault(key, []).append(one)
    for key in sorted(piles, key=lambda key: key[0]):
        pile = piles[key]
        kind = READING_ORDER[key[0]]
        if kind is PacketType.NCF or len(pile) == 1:
            yield pile
            continue
        joined = _join(pile) if kind in DATA_TYPES else None
        if joined and _are_different(joined.batch):
            yield [joined]
        else:
            yield from ([one] for one in pile)


def _join(pile: Sequence[Arrival]) -> Arrival:
    """Return batches of data of one type and session as one."""
    rows = np.concatenate([one.batch.rows for one in pile])
    offsets = np.concatenate([one.batch.offsets for one in pile])
    payload = np.zeros((len(rows), 0), np.uint8)
    batch = replace(pile[0].batch, rows=rows, offsets=offsets, payload=payload)
    return Arrival(batch, np.concatenate([one.kept for one in pile], axis=1))


def _are_different(batch: PacketBatch) -> bool:
    """Whether no symbol comes twice: repair symbols of a block have one offset."""
    names = (batch.offsets << 16) + batch.rows["esi"]
    return len(np.unique(names)) == len(batch)


def _has_carousel(batch: PacketBatch) -> bool:
    """Whether SPMs are those of a session that sends the object, and not only repeats of it."""
    return parse_spm(batch.payload[0].tobytes()).position is not None


def _last(kept: Flags) -> Counts:
    """Return the place of the last packet that each member got; any place if it got none."""
    last: Counts = kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1)
    return last


class ReceiverGroup:
    """Receivers of one object. `receive` and `tick` return who sends which NAK."""

    def __init__(
        self,
        manifest: Manifest,
        config: ReceiverConfig,
        *,
        rngs: Sequence[Random],
        luck: np.random.Generator,
    ) -> None:
        """
        Args:
            manifest: Of the only object on this network; members know it from an SPM on.
            rngs: One for each member: draws the back-offs before its NAKs.
            luck: Draws how many symbols too many it takes to decode.
        """
        members = len(rngs)
        self._manifest = manifest
        self._config = config
        self._geometry = manifest.geometry
        self.stock = Stock(self._geometry, members, luck)
        self._has_begun: Flags = np.zeros(members, np.bool_)
        self._has_manifest: Flags = np.zeros(members, np.bool_)
        self._nodes: Flags = np.zeros((members, manifest.tree.nodes), np.bool_)
        self._sessions: dict[SessionKey, _Session] = {}
        self.completed: Counts = np.full(members, NEVER, np.int64)
        """(members,): when each was complete, ns; `NEVER` if it is not."""

        self._is_open: Flags = np.ones(members, np.bool_)
        self.left = members
        """Members that are not complete."""

        self._naks = [
            naks_for(config.nak, self._geometry, MemberStock(self.stock, member), rng=rng)
            for member, rng in enumerate(rngs)
        ]
        self._deadlines: Counts = np.full(members, NEVER, np.int64)
        self._is_stale: Flags = np.zeros(members, np.bool_)
        """(members,): what came since may have changed the member's deadline."""

    def __len__(self) -> int:
        return len(self._is_open)

    @property
    def deadline(self) -> int | None:
        """When the next NAK timer of any member runs out, ns."""
        self._reschedule()
        earliest = int(self._deadlines.min())
        return None if earliest == NEVER else earliest

    @property
    def naks_sent(self) -> int:
        """NAKs of all members together."""
        return sum(machine.counters.naks_sent for machine in self._naks)

    @property
    def naks_suppressed(self) -> int:
        """NAKs of all members together that were not sent because another was heard."""
        return sum(machine.counters.naks_suppressed for machine in self._naks)

    def receive(self, now: int, pile: Sequence[Arrival]) -> None:
        """Take a batch, or several batches of NCFs of one session."""
        batch = pile[-1].batch
        kept = np.concatenate([one.kept for one in pile], axis=1) & self._is_open[:, None]
        if batch.kind in DATA_TYPES or (batch.kind is PacketType.SPM and _has_carousel(batch)):
            self._has_begun |= kept.any(axis=1)
        else:
            kept &= self._has_begun[:, None]
        hit = np.flatnonzero(kept.any(axis=1))
        if not len(hit):
            return
        row = batch.rows[-1]
        key = (batch.source, int(row["tsi"]), int(row["channel"]))
        sqns = np.concatenate([one.batch.rows["sqn"] for one in pile]).astype(np.int64)
        session = self._track(key, sqns, kept)
        match batch.kind:
            case PacketType.ODATA | PacketType.RDATA:
                self._receive_data(now, key, session, batch, kept, hit)
            case PacketType.SPM:
                for number in range(len(batch)):
                    who = np.flatnonzero(kept[:, number])
                    self._receive_spm(now, key, session, batch, number, who)
            case PacketType.TREE if not batch.rows["esi"].any():
                self._receive_nodes(batch, kept)
            case PacketType.NCF if self._config.naks:
                self._receive_ncfs(now, key, [one.batch for one in pile], kept, hit)
        if self._config.naks and batch.kind is not PacketType.SPM:
            self._take_sqns(now, key, sqns[_last(kept)], hit)
        self._complete(now, hit)
        self._is_stale[hit] = True

    def _take_sqns(self, now: int, key: SessionKey, latest: Counts, hit: Counts) -> None:
        """Tell members the number of the latest packet that each got."""
        numbers = latest.tolist()
        for member in hit[self._has_manifest[hit]].tolist():
            self._naks[member].take_sqn(now, key, numbers[member])

    def _track(self, key: SessionKey, sqns: Counts, kept: Flags) -> _Session:
        """Count received and lost packets by session (spec: RCV-9)."""
        session = self._sessions.get(key)
        if session is None:
            members = len(self)
            session = self._sessions[key] = _Session(
                np.zeros(members, np.int64),
                np.full(members, -1, np.int64),
                np.full(members, -1, np.int64),
                int(sqns[0]),
            )
        places = (sqns - session.start) % (1 << 32)
        came = kept.any(axis=1)
        session.received += np.count_nonzero(kept, axis=1)
        fresh = came & (session.first < 0)
        if fresh.any():
            session.first[fresh] = places[kept[fresh].argmax(axis=1)]
        last = places[_last(kept)]
        np.maximum(session.highest, last, out=session.highest, where=came)
        return session

    def _receive_data(
        self,
        now: int,
        key: SessionKey,
        session: _Session,
        batch: PacketBatch,
        kept: Flags,
        hit: Counts,
    ) -> None:
        ids = Ids(batch.offsets // self._geometry.block_size, batch.rows["esi"].astype(np.int64))
        if self._geometry.repair_symbols:
            # Of an object that is not known yet nobody can tell what a repair symbol is.
            kept = kept & (self._has_manifest[:, None] | ~self._geometry.are_repairs(ids))
        self.stock.take(ids, kept)
        if not self._config.naks:
            return
        if batch.kind is PacketType.RDATA:
            whole = np.count_nonzero(kept, axis=1) == len(ids)
            for member in hit[self._has_manifest[hit]].tolist():
                mine = ids
                if not whole[member]:
                    mine = Ids(ids.blocks[kept[member]], ids.esis[kept[member]])
                self._naks[member].take_repair(now, key, mine)
            return
        latest = _last(kept)
        blocks, esis = ids.blocks[latest].tolist(), ids.esis[latest].tolist()
        is_trusted = policy.is_trusted(self._config.nak, session.received).tolist()
        for member in hit[self._has_manifest[hit]].tolist():
            machine = self._naks[member]
            machine.take_data(now, key, blocks[member], esis[member])
            if is_trusted[member]:
                machine.trust(key)

    def _receive_nodes(self, batch: PacketBatch, kept: Flags) -> None:
        """Take nodes of the tree of blocks: of use to who has their parent (spec: TREE-4)."""
        tree = self._manifest.tree
        for place, number in enumerate(batch.offsets.tolist()):
            knows = self._nodes[:, tree.parent(number)] if number else self._has_manifest
            fresh = kept[:, place] & knows & ~self._nodes[:, number]
            self._nodes[:, number] |= fresh
            if number in tree.leaves and fresh.any():
                numbers = tree.children(number)
                blocks = range(numbers.start - tree.nodes, numbers.stop - tree.nodes)
                self.stock.learn(blocks, np.flatnonzero(fresh))

    def _receive_spm(
        self,
        now: int,
        key: SessionKey,
        session: _Session,
        batch: PacketBatch,
        number: int,
        hit: Counts,
    ) -> None:
        spm = parse_spm(batch.payload[number].tobytes())
        if not self._config.naks:
            self._has_manifest[hit] = True
            return
        told = self._config.repairers.union(self._manifest.repairers)
        found = policy.endpoint_of(spm, key[0], told)
        ring = Ring.at(self._geometry, spm.position) if spm.position else None
        received = session.received.tolist()
        self._has_manifest[hit] = True
        for member in hit.tolist():
            machine = self._naks[member]
            if ring and spm.position:
                place = spm.position.place
                machine.take_position(now, key, ring, place, received=received[member])
            if found:
                endpoint, is_told = found
                machine.take_repairer(now, endpoint, key, spm, preferred=is_told)

    def _receive_ncfs(
        self, now: int, key: SessionKey, ncfs: Sequence[PacketBatch], kept: Flags, hit: Counts
    ) -> None:
        """Give each member what the NCFs that it got confirm, those of one read together.

        NCFs of one instant do together what their union does, and most members get them all.
        """
        bodies = tuple(body.tobytes() for ncf in ncfs for body in ncf.payload)
        last = repaired_by(ncfs[-1])[-1]
        for member in hit[self._has_manifest[hit]].tolist():
            mine = tuple(compress(bodies, kept[member].tolist()))
            self._naks[member].take_ncfs(now, key, mine, last)

    def _complete(self, now: int, hit: Counts) -> None:
        done = hit[(self.stock.open[hit] == 0) & self._has_manifest[hit]]
        if len(done):
            done = done[self._nodes[done].all(axis=1)]
            self.completed[done] = now
            self._is_open[done] = False
            self.left -= len(done)

    def _reschedule(self) -> None:
        """Ask the members whose deadlines may have changed for them: once for all that came."""
        if not self._config.naks:
            return
        for member in np.flatnonzero(self._is_stale).tolist():
            deadline = self._naks[member].deadline if self._is_open[member] else None
            self._deadlines[member] = NEVER if deadline is None else deadline
        self._is_stale[:] = False

    def tick(self, now: int) -> list[tuple[int, SendNak]]:
        """Move on the members whose timers ran out; return (member, NAK) for each NAK sent."""
        self._reschedule()
        sent: list[tuple[int, SendNak]] = []
        losses = self._losses()
        for member in np.flatnonzero(self._deadlines <= now).tolist():
            loss = losses[member]
            asks = self._naks[member].tick(now, loss=loss)
            sent += [(member, self._nak(now, member, ask, loss)) for ask in asks]
            self._is_stale[member] = True
        return sent

    def _losses(self) -> list[float]:
        """Return (members,) the share of packets lost, of all sessions (spec: RCV-9)."""
        lost = received = np.zeros(len(self), np.int64)
        for one in self._sessions.values():
            lost, received = lost + one.lost(), received + one.received
        shares: list[float] = policy.lost_share(lost, received).tolist()
        return shares

    def _nak(self, now: int, member: int, ask: Ask[Exact] | Ask[Count], loss: float) -> SendNak:
        session = self._sessions.get(ask.repairer.key)
        sqn = (session.start + int(session.highest[member])) % (1 << 32) if session else 0
        return build_nak_packet(
            now,
            ask,
            symbol_size=self._geometry.symbol_size,
            oid=self._manifest.oid,
            size=self._manifest.size,
            sqn=sqn,
            loss=loss,
        )
