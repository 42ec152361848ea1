"""The receiver: joins at any time, keeps what comes past, stops when every block verifies.

spec/protocol.md section 6 (RCV). The states, and what moves between them::

    LISTENING --data--> COLLECTING --manifest--> RECEIVING --last block verified--> COMPLETE
        `----------------manifest------------------^  ^----blocks found spoilt-------'
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from random import Random

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Adopted, Damaged, Superseded
from pgmlite.core.geometry import Geometry
from pgmlite.core.machine import (
    Action,
    Complete,
    Held,
    Prepare,
    SendNak,
    Store,
    Verify,
)
from pgmlite.core.ranges import runs
from pgmlite.core.receive import nak
from pgmlite.core.receive.counters import Counters
from pgmlite.core.receive.evidence import Evidence
from pgmlite.core.receive.nak import Ask, build_nak_packet
from pgmlite.core.receive.sessions import Senders, repaired_by, session_of
from pgmlite.core.receive.transfer import Transfer
from pgmlite.errors import ObjectError, RefusedPacket
from pgmlite.wire.batch import Octets, PacketBatch
from pgmlite.wire.control import Manifest, Spm, manifest_oid, parse_manifest, parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import DATA_TYPES, PacketType
from pgmlite.wire.request import Symbols, parse_request


class State(Enum):
    """Where a receiver is on its way."""

    LISTENING = auto()
    COLLECTING = auto()
    RECEIVING = auto()
    COMPLETE = auto()


class Event(Enum):
    """What moves a receiver from state to state."""

    DATA = auto()
    MANIFEST = auto()
    LAST_BLOCK = auto()
    DOUBT = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.LISTENING, Event.DATA): State.COLLECTING,
    (State.LISTENING, Event.MANIFEST): State.RECEIVING,
    (State.COLLECTING, Event.MANIFEST): State.RECEIVING,
    (State.RECEIVING, Event.MANIFEST): State.RECEIVING,
    (State.RECEIVING, Event.LAST_BLOCK): State.COMPLETE,
    (State.COMPLETE, Event.DOUBT): State.RECEIVING,
}


def _check_position(spm: Spm, manifest: Manifest) -> None:
    """
    Raises:
        RefusedPacket: reason ``spm``: the carousel is where the object has no symbol.
    """
    # spec: PKT-8
    if spm.position is None:
        return
    offset, esi = spm.position.offset, spm.position.esi
    if manifest.size and offset < manifest.size:
        place = np.array([offset]), np.array([esi])
        is_there = bool(Geometry.of(manifest).names(*place)[0])
    else:
        is_there = manifest.size == offset == esi == 0
    if not is_there:
        raise RefusedPacket("spm", "the carousel is where the object has no symbol")


class Receiver:
    """One receiver of one object. See `pgmlite.core.machine` for how to drive it."""

    def __init__(self, config: ReceiverConfig, *, rng: Random) -> None:
        """
        Args:
            rng: Draws the back-offs before NAKs.
        """
        self._config = config
        self._rng = rng
        self._transfer: Transfer | None = None
        self._first: tuple[int, PacketBatch] | None = None
        self._senders = Senders(config.max_senders)
        self._now = 0
        """The time of the latest input: answers come without one."""

        self.state = State.LISTENING
        self.counters = Counters()
        self.evidence = Evidence(config.oid)

    # What drivers and reports ask.

    @property
    def deadline(self) -> int | None:
        """0 (at once) while blocks wait to be verified, else when a NAK timer runs out."""
        transfer = self._transfer
        if transfer is None or self.state is State.COMPLETE:
            return None
        if transfer.due:
            return 0
        return transfer.naks.deadline if self._asks(transfer) else None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the object being received, once it came."""
        return self._transfer.manifest if self._transfer else None

    @property
    def progress(self) -> tuple[int, int]:
        """Symbols stored and symbols in the object; (0, 0) before the first packet."""
        transfer = self._transfer
        return (transfer.symbols.stored, transfer.symbols.symbols) if transfer else (0, 0)

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the object that are not stored."""
        transfer = self._transfer
        if transfer is None:
            return []
        size = transfer.symbol_size
        gone = np.flatnonzero(~transfer.symbols.have)
        return [
            (int(gone[start]) * size, min((int(gone[stop - 1]) + 1) * size, transfer.size))
            for start, stop in (runs(gone) if len(gone) else ())
        ]

    def _asks(self, transfer: Transfer) -> bool:
        """Whether NAKs may leave: not while what is missing may be there already."""
        return self._config.naks and not transfer.guards

    @property
    def knows_repairer(self) -> bool:
        """Whether somebody takes NAKs: until then no timer of NAK repair runs."""
        return bool(self._transfer and self._transfer.naks.knows_repairer)

    @property
    def naks(self) -> nak.Counters:
        """What was asked for of the object being received."""
        return self._transfer.naks.counters if self._transfer else nak.Counters()

    @property
    def lost(self) -> int:
        """Packets missing by their sequence numbers, over all senders and objects so far."""
        return self._senders.lost

    @property
    def lost_unbelieved(self) -> int:
        """Packets that seem to be missing by numbers that look made up (spec: RCV-9)."""
        return self._senders.lost_unbelieved

    @property
    def heard(self) -> int | None:
        """When a carousel of the object was heard last, ns; None: there is no object yet."""
        return self._transfer.heard if self._transfer else None

    @property
    def cycles(self) -> float:
        """Object lengths that went by, lost ones included."""
        transfer = self._transfer
        if not transfer or not transfer.size:
            return 0.0
        return transfer.odata_bytes / transfer.size / (1 - self._senders.loss)

    # The machine's contract.

    def start(self, now: int) -> list[Action]:
        """Begin to listen: nothing to do until a packet comes."""
        return []

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take a batch; what does not belong is counted in ``counters.refused``."""
        self._now = now
        if self.state is State.COMPLETE or not len(batch):
            return []
        self.counters.packets += len(batch)
        self.counters.bytes += batch.payload.size + len(batch) * batch.rows.itemsize
        if batch.kind is PacketType.SPM:
            return self._receive_spms(now, batch)
        if batch.kind is PacketType.NAK:
            return self._refuse("type", len(batch))  # ours to send, not to get
        if self._transfer is None and batch.kind in DATA_TYPES:
            return self._adopt_unannounced(now, batch)
        return self._take(now, batch)

    def _take(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take packets that are no SPMs."""
        transfer = self._transfer
        if transfer is None:
            return []
        mine = self._belonging(transfer, batch)
        if len(mine) and mine.kind in DATA_TYPES:
            mine = self._placed(transfer, mine)
        if not len(mine):
            return []
        actions: list[Action] = []
        self._senders.count(mine)
        self.evidence.take(mine)
        if mine.kind in DATA_TYPES:
            actions += self._receive_data(now, transfer, mine)
        elif mine.kind is PacketType.TREE:
            transfer.heard = now
            self._receive_nodes(transfer, mine)
        elif mine.kind is PacketType.NCF:
            self._receive_ncfs(now, transfer, mine)
        transfer.naks.take_sqn(now, session_of(mine), int(mine.rows["sqn"][-1]))
        return actions + self._verify_some()

    def tick(self, now: int) -> list[Action]:
        """Verify some of the blocks that wait for it; send the NAKs that are due."""
        self._now = now
        actions = self._verify_some()
        transfer = self._transfer
        if transfer and self._asks(transfer) and self.state is not State.COMPLETE:
            deadline = transfer.naks.deadline
            if deadline is not None and deadline <= now:
                actions += [self._nak(now, transfer, ask) for ask in transfer.naks.tick(now)]
        return actions

    def resume(self, held: Held) -> list[Action]:
        """Take what is there already; the answer to `Prepare`, before anything else is given."""
        first, self._first = self._first, None
        if self._transfer:
            self._transfer.hold(held)
        return self._take(*first) if first else []

    def verified(self, block: int, *, ok: bool) -> list[Action]:
        """Take the answer to `Verify`."""
        transfer = self._transfer
        if transfer is None or transfer.manifest is None:
            return []
        transfer.looked_at(block)
        if ok:
            transfer.symbols.fill(block)
            transfer.verified[block] = True
            return self._complete_if_whole(transfer)
        if not transfer.symbols.is_whole(block):
            return []  # the guess that an earlier run had finished it was wrong
        # spec: RCV-6
        transfer.symbols.drop(block)
        if block in transfer.believed:
            transfer.believed.remove(block)
            return []  # so was the record that an earlier run kept
        self.counters.damaged += 1
        return [Damaged(self._now, transfer.oid, block)]

    def doubt(self, blocks: Sequence[int]) -> list[Action]:
        """Fetch verified blocks again: after `Complete`, the disk has other bytes for them."""
        transfer = self._transfer
        if transfer is None or self.state is not State.COMPLETE or not blocks:
            return []
        self._enter(Event.DOUBT)
        for block in blocks:
            transfer.symbols.drop(block)
            transfer.verified[block] = False
        self.counters.damaged += len(blocks)
        return [Damaged(self._now, transfer.oid, block) for block in blocks]

    # Choosing the object.

    def _enter(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]

    def _refuse(self, reason: str, count: int) -> list[Action]:
        self.counters.refused[reason] += count
        return []

    def _admissible(self, oid: int, size: int, symbol_size: int) -> str:
        """Return why the object can't be taken, or an empty string."""
        if self._config.oid not in (None, oid):
            return "object"
        # spec: RCV-2
        symbols = -(-size // symbol_size)
        fits = size <= self._config.max_object_size and symbols <= self._config.max_symbols
        return "" if fits else "too_large"

    def _new_transfer(self, oid: int, size: int, symbol_size: int, now: int) -> Transfer:
        self.evidence.begin(now, oid, size, symbol_size)
        return Transfer(oid, size, symbol_size, now, self._config.nak, self._rng)

    def _adopt_unannounced(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take the object of the first packet before its manifest is known (spec: RCV-1)."""
        first = batch.rows[0]
        if self._config.oid is not None:
            # A stranger's packet must not speak for the others of its batch.
            wanted = np.flatnonzero(batch.rows["oid"] == np.uint64(self._config.oid))
            first = batch.rows[wanted[0]] if len(wanted) else first
        oid, size, symbol_size = int(first["oid"]), int(first["size"]), int(first["symbol_size"])
        if reason := self._admissible(oid, size, symbol_size):
            return self._refuse(reason, len(batch))
        self._enter(Event.DATA)
        self._transfer = self._new_transfer(oid, size, symbol_size, now)
        self._first = (now, batch)  # what may be stored is known after `resume`
        return [Prepare(oid, size, symbol_size)]

    def _receive_spms(self, now: int, batch: PacketBatch) -> list[Action]:
        actions: list[Action] = []
        for place in range(len(batch)):
            one = batch.select(slice(place, place + 1))
            try:
                spm = parse_spm(one.payload.tobytes())
                actions += self._receive_spm(now, one, spm)
            except RefusedPacket as refusal:
                self.counters.refused[refusal.reason] += 1
        return actions

    def _receive_spm(self, now: int, batch: PacketBatch, spm: Spm) -> list[Action]:
        row = batch.rows[0]
        oid, size, symbol_size = int(row["oid"]), int(row["size"]), int(row["symbol_size"])
        transfer = self._transfer
        known = transfer.manifest if transfer else None
        if transfer and known and known.oid == oid:
            # spec: RCV-3: two manifests with one oid can be made; the first one stays.
            if (known.raw, known.size, known.symbol_size) != (spm.manifest, size, symbol_size):
                raise RefusedPacket("manifest", "it contradicts the one in hand")
            _check_position(spm, known)
            # spec: RCV-4: who can only repeat an object does not keep it alive.
            if spm.position:
                transfer.heard = now
            self._senders.count(batch)
            self._take_spm(now, transfer, batch, spm)
            return []
        # spec: RCV-3
        if manifest_oid(spm.manifest) != oid:
            raise RefusedPacket("manifest", "its digest is not the oid")
        # Before the manifest is parsed: that costs more than all the rest.
        reason = self._admissible(oid, size, symbol_size)
        if not reason and (transfer is None or transfer.oid != oid) and self._holds(now, spm):
            reason = "object"
        if reason:
            self.evidence.take_other(now, row, spm, reason)
            raise RefusedPacket(reason)
        try:
            manifest = parse_manifest(spm.manifest)
        except ObjectError as error:
            raise RefusedPacket("manifest", str(error)) from error
        if (manifest.size, manifest.symbol_size) != (size, symbol_size):
            raise RefusedPacket("manifest", "it contradicts the header")
        if manifest.blocks > self._config.max_blocks:
            raise RefusedPacket("too_large")
        _check_position(spm, manifest)
        actions: list[Action] = []
        header = (oid, size, symbol_size)
        # One oid with two shapes: the unannounced packets that were taken first were forged.
        if transfer is None or (transfer.oid, transfer.size, transfer.symbol_size) != header:
            if transfer and transfer.manifest:
                actions.append(Superseded(now, transfer.oid, oid))
            self._senders.forget()
            transfer = self._transfer = self._new_transfer(oid, size, symbol_size, now)
            actions.append(Prepare(oid, size, symbol_size))
        self._enter(Event.MANIFEST)
        actions.append(Adopted(now, manifest, spm.rate))
        transfer.heard = now
        transfer.learn(manifest)
        self._senders.count(batch)
        self._take_spm(now, transfer, batch, spm)
        return actions + self._complete_if_whole(transfer)

    def _holds(self, now: int, spm: Spm) -> bool:
        """Whether the SPM of another object changes nothing."""
        # spec: RCV-4: a carousel keeps its object, and nothing else announces one.
        transfer = self._transfer
        is_alive = transfer is not None and now - transfer.heard < self._config.switch_after
        return not spm.position or (is_alive and self.manifest is not None)

    # Taking packets of the object.

    def _belonging(self, transfer: Transfer, batch: PacketBatch) -> PacketBatch:
        """Return the packets of `transfer`'s object; count the others."""
        rows = batch.rows
        mine = rows["oid"] == np.uint64(transfer.oid)
        if int(rows["symbol_size"][0]) != transfer.symbol_size:
            mine[:] = False
        mine &= rows["size"] == np.uint64(transfer.size)
        if mine.all():
            return batch
        # spec: RCV-5
        self.counters.refused["object"] += len(batch) - int(np.count_nonzero(mine))
        return batch.select(mine)

    def _placed(self, transfer: Transfer, batch: PacketBatch) -> PacketBatch:
        """Return the data packets that carry what their id says; count the others."""
        # spec: PKT-13: no object has repair symbols; ids are known once the manifest is.
        if batch.has_repair_symbols:
            good = np.zeros(len(batch), np.bool_)
        elif transfer.manifest:
            esis = batch.rows["esi"].astype(np.int64)
            good = Geometry.of(transfer.manifest).names(batch.offsets, esis)
        else:
            return batch
        if good.all():
            return batch
        self.counters.refused["esi"] += len(batch) - int(np.count_nonzero(good))
        return batch.select(good)

    def _receive_data(self, now: int, transfer: Transfer, batch: PacketBatch) -> list[Action]:
        symbols = batch.offsets // transfer.symbol_size
        actions = self._keep(transfer, symbols, batch.payload)
        key = session_of(batch)
        is_repair = batch.repairs
        passing, repaired = symbols[~is_repair], symbols[is_repair]
        self.counters.odata += len(passing)
        self.counters.rdata += len(repaired)
        if len(passing):
            transfer.heard = now
            transfer.odata_bytes += len(passing) * batch.payload.shape[1]
            transfer.head = int(passing[-1])
            transfer.naks.take_position(now, key, transfer.head, is_head=False)
            tracker = self._senders.get(key)
            if tracker and tracker.received >= self._config.nak.trusted_packets:
                transfer.naks.trust(key)
        if len(repaired):
            transfer.naks.take_repair(now, key, repaired)
        return actions

    def _keep(self, transfer: Transfer, symbols: Symbols, payload: Octets) -> list[Action]:
        """Store those of (n,) symbols, (n, width) bytes, that are new and may be stored."""
        early = transfer.early(symbols)
        if early is not None:
            self.counters.early += int(np.count_nonzero(early))
            symbols, payload = symbols[~early], payload[~early]
        places, whole = transfer.symbols.add(symbols)
        if transfer.candidates:
            transfer.candidates.add(whole)
        fresh = len(symbols[places])
        self.counters.fetched += fresh
        self.counters.duplicates += len(symbols) - fresh
        runs = transfer.symbols.runs(symbols, places, may_fill=not transfer.guards)
        return [Store(runs, payload)] if runs else []

    def _receive_nodes(self, transfer: Transfer, batch: PacketBatch) -> None:
        tree, candidates = transfer.tree, transfer.candidates
        if tree is None or candidates is None:
            self.counters.nodes_unused += len(batch)  # the root is in the manifest
            return
        for number, node in zip(batch.offsets.tolist(), batch.payload, strict=True):
            try:
                known = tree.add(number, node)
            except RefusedPacket as refusal:
                self.counters.refused[refusal.reason] += 1
                continue
            if known is None:
                self.counters.nodes_unused += 1
            else:
                candidates.learn(known)

    def _receive_ncfs(self, now: int, transfer: Transfer, batch: PacketBatch) -> None:
        for body, last in zip(batch.payload, repaired_by(batch), strict=True):
            try:
                symbols = parse_request(body.tobytes(), transfer.symbols.symbols)
            except RefusedPacket as refusal:
                self.counters.refused[refusal.reason] += 1
            else:
                transfer.naks.take_ncf(now, session_of(batch), symbols, last)

    def _take_spm(self, now: int, transfer: Transfer, batch: PacketBatch, spm: Spm) -> None:
        """Learn where the carousel is, and whether its sender may be asked."""
        key = session_of(batch)
        if spm.position:
            self.evidence.take_spm(batch, spm.position)
            head = spm.position.offset // transfer.symbol_size
            transfer.naks.take_position(now, key, head, is_head=True)
        if not spm.repairs:
            return
        endpoint = Endpoint(batch.source.address, spm.repairs.repair_port)
        named = transfer.manifest.repairers if transfer.manifest else ()
        is_told = endpoint in self._config.repairers or endpoint in named
        # spec: NAK-9: nobody is asked on the word of an SPM alone, but its own sender, who must
        # send data too: a forged SPM must not aim a fleet's NAKs at a victim.
        if is_told or spm.position:
            transfer.naks.take_repairer(now, endpoint, key, spm, preferred=is_told)

    def _nak(self, now: int, transfer: Transfer, ask: Ask) -> SendNak:
        tracker = self._senders.get(ask.repairer.key)
        return build_nak_packet(
            now,
            ask,
            symbol_size=transfer.symbol_size,
            oid=transfer.oid,
            size=transfer.size,
            sqn=tracker.highest if tracker else 0,
            loss=self._senders.loss,
        )

    def _verify_some(self) -> list[Action]:
        transfer = self._transfer
        if not transfer or not transfer.manifest or not transfer.tree or not transfer.candidates:
            return []
        actions: list[Action] = []
        manifest, candidates = transfer.manifest, transfer.candidates
        while candidates.due and len(actions) < self._config.resume_blocks:
            block = transfer.next_due(manifest, candidates)
            if not transfer.verified[block]:
                offset = block * manifest.block_size
                length = min(manifest.block_size, manifest.size - offset)
                actions.append(Verify(block, offset, length, transfer.tree.block_digest(block)))
        return actions

    def _complete_if_whole(self, transfer: Transfer) -> list[Action]:
        if (
            self.state is not State.RECEIVING
            or not transfer.manifest
            or not transfer.tree
            or not transfer.verified.all()
        ):
            return []
        self._enter(Event.LAST_BLOCK)
        return [Complete(transfer.manifest, transfer.tree.digests)]
