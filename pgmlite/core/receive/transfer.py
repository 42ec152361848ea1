"""One object being received: a machine that takes packets of this object and no other.

What is received is `pgmlite.core.receive.receiver`'s business. The states, and what moves between
them (spec/protocol.md section 6)::

    COLLECTING --manifest--> RECEIVING --last block verified--> COMPLETE
                                 ^-------blocks found spoilt-------'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from random import Random

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Adopted
from pgmlite.core.machine import Action, Complete, Held, Prepare
from pgmlite.core.receive.asking import Asking
from pgmlite.core.receive.attribution import Attribution, Released, attribution_of
from pgmlite.core.receive.counters import ReceiverCounters
from pgmlite.core.receive.evidence import LargePackets
from pgmlite.core.receive.liveness import Liveness
from pgmlite.core.receive.losses import LossCounts
from pgmlite.core.receive.sessions import session_of
from pgmlite.core.receive.stock import Stock
from pgmlite.core.ring import Ring
from pgmlite.errors import RefusedPacket, UsageError
from pgmlite.wire.batch import Flags, PacketBatch
from pgmlite.wire.control import Spm
from pgmlite.wire.geometry import Geometry, Sizes
from pgmlite.wire.layout import DATA_TYPES, PacketType, Tree
from pgmlite.wire.manifest import Manifest


class TransferState(Enum):
    """Where a transfer is on its way."""

    COLLECTING = auto()
    RECEIVING = auto()
    COMPLETE = auto()


class TransferEvent(Enum):
    """What moves a transfer from state to state."""

    MANIFEST = auto()
    LAST_BLOCK = auto()
    DOUBT = auto()


TRANSFER_TRANSITIONS: dict[tuple[TransferState, TransferEvent], TransferState] = {
    (TransferState.COLLECTING, TransferEvent.MANIFEST): TransferState.RECEIVING,
    (TransferState.RECEIVING, TransferEvent.LAST_BLOCK): TransferState.COMPLETE,
    (TransferState.COMPLETE, TransferEvent.DOUBT): TransferState.RECEIVING,
}


def check_position(geometry: Geometry, spm: Spm) -> None:
    """
    Raises:
        RefusedPacket: reason ``spm``: no carousel of the object can be there.
    """
    # spec: PKT-8
    if spm.position:
        try:
            Ring.at(geometry, spm.position)
        except UsageError as error:
            raise RefusedPacket("spm", str(error)) from error


class Transfer:
    """One object being received; thrown away whole when another takes its place.

    Attributes:
        oid: Its identifier; `size` and `symbol_size` are those of its headers.
        state: Where it is.
        manifest: None: it did not come yet.
        is_there: The object is in place already: every block counts as verified.
        losses: Packets lost and received of the object's sessions.
        large: Whether its largest packets get through.
        asking: What is asked for.
        came: When something that a carousel sends came last, whoever sent it, ns: for people.
    """

    def __init__(
        self,
        oid: int,
        size: int,
        symbol_size: int,
        *,
        now: int,
        config: ReceiverConfig,
        counters: ReceiverCounters,
        rng: Random,
    ) -> None:
        """
        Args:
            counters: Of the receiver, over all objects.
            rng: Draws the back-offs before NAKs.
        """
        self.oid, self.size, self.symbol_size = oid, size, symbol_size
        self.state = TransferState.COLLECTING
        self.manifest: Manifest | None = None
        self.is_there = False
        self.losses = LossCounts(config.max_senders)
        self.large = LargePackets(min(size, symbol_size))
        self._config = config
        self._counters = counters
        self._now = now
        """The time of the latest input: answers come without one."""

        self._sizes = Sizes(size, symbol_size)
        self._stock = Stock(oid, self._sizes, config=config, counters=counters)
        self.came = now
        self._liveness = Liveness(now)
        self.asking = Asking(config, counters=counters, losses=self.losses, rng=rng)
        self._attribution: Attribution | None = None
        """None: the object has no tiles, or the manifest did not come yet."""

        self._odata_bytes = 0
        self._head = 0
        """Symbol of the latest ODATA."""

        self._first: PacketBatch | None = None
        """What came before it was known what is there."""

    # What receivers and reports ask.

    def is_of(self, batch: PacketBatch) -> Flags:
        """Return which packets of a batch are of this object (spec: RCV-5)."""
        rows = batch.rows
        mine: Flags = rows["oid"] == np.uint64(self.oid)
        if int(rows["symbol_size"][0]) != self.symbol_size:
            mine[:] = False
        mine &= rows["size"] == np.uint64(self.size)
        return mine

    @property
    def heard(self) -> int:
        """When a carousel of the object was heard last, ns."""
        return self._liveness.heard

    @property
    def is_complete(self) -> bool:
        """Whether every block was verified: nothing is taken any more."""
        return self.state is TransferState.COMPLETE

    @property
    def deadline(self) -> int | None:
        """0 (at once) while blocks wait to be verified or decoded, else when a NAK is due."""
        if self.is_complete:
            return None
        if self._stock.has_due:
            return 0
        times = [self.asking.deadline] if self._asks else []
        if self._attribution:
            times.append(self._attribution.deadline)
        return min((at for at in times if at is not None), default=None)

    @property
    def _asks(self) -> bool:
        """Whether NAKs may leave: not while what is missing may be there already."""
        return self._config.naks and not self._stock.guards

    @property
    def progress(self) -> tuple[int, int]:
        """How much is stored and how much there is, in source symbols."""
        return self._stock.progress

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object that are not stored."""
        return self._stock.missing

    @property
    def cycles(self) -> float:
        """Object lengths that went by, lost ones included."""
        return self._odata_bytes / self.size / (1 - self.losses.share) if self.size else 0.0

    @property
    def forgers(self) -> dict[str, int]:
        """Addresses from which wrong symbols came, and how many, as far as that can be said."""
        return self._attribution.blame.forgers if self._attribution else self._stock.forgers

    # The machine's contract, and its answers.

    def begin(self, batch: PacketBatch | None) -> list[Action]:
        """Begin with the first packets, which wait until `resume`."""
        self._first = batch
        return [Prepare(self.oid, self.size, self.symbol_size)]

    def resume(self, held: Held) -> list[Action]:
        """Take what is there already; the answer to `Prepare`, before anything else is given."""
        first, self._first = self._first, None
        self._stock.hold(held)
        return self.receive(self._now, first) if first else []

    def forget(self, hears: Callable[[int], bool]) -> None:
        """Forget the sessions of channels that are not heard: what they send is not lost."""
        # spec: RTE-9
        self.losses.forget(hears)
        self.asking.forget(hears)

    def receive(self, now: int, batch: PacketBatch, *, is_heard: bool = True) -> list[Action]:
        """Take packets that are no SPMs, not once it is complete; all of them if `is_heard` is
        their channel, otherwise only symbols and nodes.
        """
        self._now = now
        if batch.kind in DATA_TYPES:
            batch = self._stock.right(batch)
        if not len(batch) or (batch.kind in DATA_TYPES and self._stock.shuns(batch)):
            return []
        actions: list[Action] = []
        self.losses.count(batch, is_heard=is_heard)
        self.large.take(batch)
        if batch.kind in DATA_TYPES:
            if self._attribution is None:
                actions += self._receive_data(now, batch, is_heard=is_heard)
            else:
                released = self._attribution.take(now, batch, is_heard=is_heard)
                actions += self._receive_released(now, released)
            if batch.kind is PacketType.ODATA:
                self.came = now
        elif batch.kind is PacketType.TREE:
            self.came = now
            actions += self._receive_nodes(now, batch)
        elif batch.kind is PacketType.NCF and is_heard:
            self.asking.take_ncfs(now, batch)
        if is_heard and (self._attribution is None or batch.kind not in DATA_TYPES):
            self.asking.take_sqn(now, batch)
        return [*actions, *self._stock.take_due(self._head)]

    def receive_spm(
        self, now: int, batch: PacketBatch, spm: Spm, *, is_heard: bool = True
    ) -> list[Action]:
        """Take an SPM that repeats the manifest in hand, and may be of a channel that is not heard.

        Raises:
            RefusedPacket: It has another one.
        """
        self._now = now
        # spec: RCV-3: two manifests with one oid can be made; the first one stays.
        row, known = batch.rows[0], self.manifest
        sizes = int(row["size"]), int(row["symbol_size"])
        if known is None or known.raw != spm.manifest or sizes != (self.size, self.symbol_size):
            raise RefusedPacket("manifest", "it contradicts the one in hand")
        check_position(known.geometry, spm)
        # spec: RCV-4: who can only repeat an object does not keep it alive.
        if spm.position:
            self.came = now
            if self._attribution is None:
                self._liveness.announce(now, session_of(batch))
        if is_heard:
            self._take_spm(now, batch, spm)
        return []

    def adopt(
        self, now: int, batch: PacketBatch, spm: Spm, manifest: Manifest, heard: int
    ) -> list[Action]:
        """Take the manifest, and the SPM that brought it; it counts as `heard` then, ns."""
        self._now = self.came = now
        self._liveness.prove(heard)
        self.manifest = manifest
        self._enter(TransferEvent.MANIFEST)
        self._stock.learn(manifest)
        if manifest.geometry.symbols:
            self.asking.learn(manifest, self._stock)
            self._attribution = attribution_of(
                manifest, self._config, self._counters, self._is_ending
            )
        if spm.position:
            self._liveness.announce(now, session_of(batch))
        self._take_spm(now, batch, spm)
        return [Adopted(now, manifest, spm.rate), *self._complete_if_whole()]

    def tick(self, now: int) -> list[Action]:
        """Verify and decode some of the blocks that wait for it; send the NAKs that are due."""
        self._now = now
        actions: list[Action] = []
        if self._attribution and not self.is_complete:
            actions += self._receive_released(now, self._attribution.tick(now))
        actions += self._stock.take_due(self._head)
        if self._asks and not self.is_complete:
            actions += self.asking.tick(now)
        return actions

    def verified(self, block: int, *, ok: bool) -> list[Action]:
        """Take the answer to `Verify`."""
        return self._stock.verified(self._now, block, ok=ok) + self._complete_if_whole()

    def decoded(self, block: int, lacks: int, forged: Sequence[int], *, ok: bool) -> list[Action]:
        """Take the answer to `Decode`."""
        told = self._stock.decoded(self._now, block, lacks, forged, ok=ok)
        return told + self._complete_if_whole()

    def doubt(self, blocks: Sequence[int]) -> list[Action]:
        """Fetch verified blocks again: after `Complete`, the disk has other bytes for them."""
        if not self.is_complete or not blocks:
            return []
        self._enter(TransferEvent.DOUBT)
        return self._stock.doubt(self._now, blocks)

    # How.

    def _enter(self, event: TransferEvent) -> None:
        self.state = TRANSFER_TRANSITIONS[self.state, event]

    def _is_ending(self) -> bool:
        """Whether so little is missing that nothing should wait (spec: RCV-20)."""
        stored, symbols = self.progress
        return symbols - stored < self._config.last_symbols

    def _receive_released(self, now: int, released: Released) -> list[Action]:
        """Take data packets that are known to be what was signed."""
        actions: list[Action] = []
        for batch, is_heard in released:
            before = self._counters.fetched
            actions += self._receive_data(now, batch, is_heard=is_heard)
            if self._attribution and (fresh := self._counters.fetched - before):
                self._attribution.blame.bring(now, batch.source.address, fresh)
            if is_heard:
                self.asking.take_sqn(now, batch)
        return actions

    def _receive_nodes(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take packets that carry nodes of either tree."""
        of_tiles = batch.rows["esi"] == Tree.TILES
        if self._attribution is None or not of_tiles.any():
            self._stock.take_nodes(batch)
            return []
        if not of_tiles.all():
            self._stock.take_nodes(batch.select(~of_tiles))
        released = self._attribution.take_nodes(now, batch.select(of_tiles))
        return self._receive_released(now, released)

    def _receive_data(self, now: int, batch: PacketBatch, *, is_heard: bool) -> list[Action]:
        actions = self._stock.keep(batch)
        is_repair = batch.repairs
        repairs = int(np.count_nonzero(is_repair))
        passing = len(batch) - repairs
        self._counters.odata += passing
        self._counters.rdata += repairs
        if passing:
            last = len(batch) - 1 - int(is_repair[::-1].argmin())
            if self._attribution or self.manifest is None:
                self._liveness.prove(now)
            else:
                self._liveness.bring(now, session_of(batch))
            self._odata_bytes += passing * batch.payload.shape[1]
            self._head = self._sizes.number(int(batch.offsets[last]))
        if is_heard:
            self.asking.take_data(now, session_of(batch), batch)
        return actions

    def _take_spm(self, now: int, batch: PacketBatch, spm: Spm) -> None:
        """Learn where the carousel is, and whether its sender may be asked."""
        self.losses.count(batch)
        if spm.position:
            self.large.take_spm(now, batch, spm.position)
        self.asking.take_spm(now, batch, spm)

    def _complete_if_whole(self) -> list[Action]:
        if self.state is not TransferState.RECEIVING or self.manifest is None:
            return []
        digests = b"" if self.is_there else self._stock.digests
        if digests is None:
            return []
        self._enter(TransferEvent.LAST_BLOCK)
        return [Complete(self.oid, self.manifest, digests)]
