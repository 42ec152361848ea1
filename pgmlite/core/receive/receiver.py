"""The receiver: which objects are taken, and which packet is of which (spec/protocol.md section 6).

It admits objects and deals packets out to their transfers; all that is done with a packet of an
object is done by its `Transfer`. A policy (`offers`) says which objects are taken, and where there
are keys, `trust` whose (`intake`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import numpy as np

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Adopted, Superseded
from pgmlite.core.machine import Action, DnsAnswer, Held
from pgmlite.core.receive.counters import NakCounters, ReceiverCounters
from pgmlite.core.receive.evidence import Evidence, LargePackets
from pgmlite.core.receive.intake import Intake
from pgmlite.core.receive.listening import Listening
from pgmlite.core.receive.offers import Offer, OneObject, Place, Policy, Refuse, Take
from pgmlite.core.receive.sources import Sources
from pgmlite.core.receive.transfer import Transfer
from pgmlite.core.trust import Trust
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import Flags, PacketBatch
from pgmlite.wire.control import parse_spm
from pgmlite.wire.layout import DATA_TYPES, PacketType
from pgmlite.wire.manifest import Manifest


class Receiver:
    """One receiver. See `pgmlite.core.machine` for how to drive it.

    Attributes:
        transfers: Of the objects being received, by oid, and of those that are complete.
        current: The one that began last; None: none did.
        counters: Over all objects.
        evidence: Why nothing arrives, it may tell.
        listening: Which groups are heard.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        *,
        rng: Random,
        policy: Policy | None = None,
        listening: Listening | None = None,
        trust: Trust | None = None,
        name: str = "",
        place: Place | None = None,
    ) -> None:
        """
        Args:
            rng: Draws the back-offs before NAKs.
            policy: Which objects are taken; None: one, as `config` says.
            listening: Which groups are heard; None: that is its driver's business.
            trust: Whose objects are taken; None: anybody's.
            name: A pattern, as of `fnmatch`, that the names of objects match; empty: any.
            place: Where objects go; None: any can go there.
        """
        self._config = config
        self._rng = rng
        self._lost = self._unbelieved = 0
        """What transfers that are gone had lost."""

        self.listening = listening or Listening((), Sources())
        self.transfers: dict[int, Transfer] = {}
        self.current: Transfer | None = None
        self.counters = ReceiverCounters()
        self.evidence = Evidence(config.oid)
        policy = policy or OneObject(config.oid, config.switch_after, is_chosen=bool(trust or name))
        self._intake = Intake(config, policy, self.evidence, trust=trust, name=name, place=place)

    # What drivers and reports ask.

    @property
    def deadline(self) -> int | None:
        """When it has something to do, ns; 0: at once."""
        deadlines = [one.deadline for one in self.transfers.values()] + [self.listening.deadline]
        return min((one for one in deadlines if one is not None), default=None)

    @property
    def per_source(self) -> dict[str, int]:
        """Packets of the current object by the address that they came from."""
        return dict(self.current.losses.per_source) if self.current else {}

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the current object, once it came."""
        return self.current.manifest if self.current else None

    @property
    def signers(self) -> tuple[bytes, ...]:
        """Ids of the keys, of those that were given, that signed the current object."""
        return self._intake.signers.get(self.current.oid, ()) if self.current else ()

    @property
    def progress(self) -> tuple[int, int]:
        """Symbols stored and symbols in the current object; (0, 0) before the first packet."""
        return self.current.progress if self.current else (0, 0)

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The (start, stop) byte ranges of the current object that are not stored."""
        return self.current.missing if self.current else []

    @property
    def cycles(self) -> float:
        """Lengths of the current object that went by, lost ones included."""
        return self.current.cycles if self.current else 0.0

    def time_left(self, now: int) -> float | None:
        """Return the ns until carousels bring what is missing of the current object, if known."""
        return self.current.asking.time_left(now) if self.current else None

    @property
    def heard(self) -> int | None:
        """When a carousel of the current object was heard last, ns; None: there is none yet."""
        return self.current.came if self.current else None

    @property
    def knows_repairer(self) -> bool:
        """Whether somebody takes NAKs: until then no timer of NAK repair runs."""
        return any(transfer.asking.knows_repairer for transfer in self.transfers.values())

    @property
    def naks(self) -> NakCounters:
        """What was asked for of the current object."""
        return self.current.asking.counters if self.current else NakCounters()

    @property
    def large(self) -> LargePackets:
        """Whether the largest packets of the current object get through."""
        return self.current.large if self.current else LargePackets(0)

    @property
    def lost(self) -> int:
        """Packets missing by their sequence numbers, over all sessions and objects so far."""
        return self._lost + sum(one.losses.lost for one in self.transfers.values())

    @property
    def lost_unbelieved(self) -> int:
        """Packets that seem to be missing by numbers that look made up (spec: RCV-9)."""
        return self._unbelieved + sum(one.losses.unbelieved for one in self.transfers.values())

    # The machine's contract.

    def start(self, now: int) -> list[Action]:
        """Begin to listen."""
        return self.listening.start(now)

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take a batch; what does not belong is counted in ``counters.refused``.

        What comes of an object that is complete is not even counted.
        """
        for transfer in self.transfers.values():
            if transfer.is_complete:
                batch = batch.select(batch.rows["oid"] != np.uint64(transfer.oid))
        if not len(batch):
            return []
        self.counters.packets += len(batch)
        self.counters.congested += batch.congested
        self.counters.bytes += batch.payload.size + len(batch) * batch.rows.itemsize
        if batch.kind is PacketType.SPM:
            return self._each(batch, lambda one: self._receive_spm(now, one))
        if batch.kind is PacketType.NAK:
            return self._refuse("type", len(batch))  # ours to send, not to get
        return self._deal_out(now, batch)

    def tick(self, now: int) -> list[Action]:
        """Let the transfers do what is due, and hear what is wanted by now."""
        actions = [one for transfer in self.transfers.values() for one in transfer.tick(now)]
        return actions + self._listen(self.listening.tick(now, self.progress))

    def _listen(self, actions: list[Action]) -> list[Action]:
        """Forget what belongs to channels that were just left; return `actions`."""
        if self.listening.has_changed():
            for transfer in self.transfers.values():
                transfer.forget(self.listening.hears)
        return actions

    def resolved(self, now: int, answer: DnsAnswer) -> list[Action]:
        """Take the answer to `Resolve`; errors are as of `Listening.resolved`."""
        return self._listen(self.listening.resolved(now, answer))

    def resume(self, oid: int, held: Held) -> list[Action]:
        """Take what is there already; the answer to `Prepare`, before anything else is given."""
        transfer = self.transfers.get(oid)
        return transfer.resume(held) if transfer else []

    def verified(self, oid: int, block: int, *, ok: bool) -> list[Action]:
        """Take the answer to `Verify`."""
        transfer = self.transfers.get(oid)
        return transfer.verified(block, ok=ok) if transfer else []

    def decoded(
        self, oid: int, block: int, lacks: int = 0, forged: Sequence[int] = (), *, ok: bool
    ) -> list[Action]:
        """Take the answer to `Decode`, which says what these are."""
        transfer = self.transfers.get(oid)
        return transfer.decoded(block, lacks, forged, ok=ok) if transfer else []

    def doubt(self, oid: int, blocks: Sequence[int]) -> list[Action]:
        """Fetch verified blocks again: after `Complete`, the disk has other bytes for them."""
        transfer = self.transfers.get(oid)
        return transfer.doubt(blocks) if transfer else []

    # Dealing out.

    def _refuse(self, reason: str, count: int) -> list[Action]:
        self.counters.refused[reason] += count
        return []

    def _deal_out(self, now: int, batch: PacketBatch) -> list[Action]:
        """Give packets that are no SPMs to the transfers that they are of."""
        actions: list[Action] = []
        rest: Flags = np.ones(len(batch), np.bool_)
        for transfer in tuple(self.transfers.values()):
            mine = transfer.is_of(batch)
            if mine.all():
                return actions + self._give(now, transfer, batch)
            if mine.any():
                actions += self._give(now, transfer, batch.select(mine))
                rest &= ~mine
        if not rest.any():
            return actions
        if batch.kind in DATA_TYPES:
            actions += self._receive_unknown(now, batch, rest)
        elif self.transfers:
            # spec: RCV-5
            self._refuse("object", int(np.count_nonzero(rest)))
        return actions

    def _give(self, now: int, transfer: Transfer, batch: PacketBatch) -> list[Action]:
        """Give packets to the transfer that they are of."""
        told = transfer.receive(now, batch, is_heard=self.listening.hears(batch.channel))
        return told + self.listening.receive(now, batch)

    def _receive_unknown(self, now: int, batch: PacketBatch, rest: Flags) -> list[Action]:
        """Take data of objects that are not being received, before their manifests are known.

        Args:
            rest: (n,), which packets of the batch are of none that is.
        """
        if reason := self._intake.data_reason(self.transfers):
            return self._refuse(reason, int(np.count_nonzero(rest)))
        actions: list[Action] = []
        places = np.flatnonzero(rest)
        _, firsts, counts = np.unique(
            batch.rows["oid"][places], return_index=True, return_counts=True
        )
        for number in np.argsort(firsts).tolist():
            count = int(counts[number])
            offer = Offer.of(batch.rows[places[firsts[number]]])
            # spec: RCV-5: one oid has one shape.
            is_other = offer.oid in self.transfers
            answer = Refuse() if is_other else self._intake.answer(now, offer, self.transfers)
            if isinstance(answer, Take):
                # spec: RCV-1
                transfer = self._begin(now, offer, answer)
                mine = transfer.is_of(batch)
                actions += transfer.begin(batch.select(mine))
                count -= int(np.count_nonzero(mine))
                answer = Refuse()
            if count:
                self._refuse(answer.reason, count)
        return actions

    # Announced objects.

    def _each(
        self, batch: PacketBatch, take: Callable[[PacketBatch], list[Action]]
    ) -> list[Action]:
        """Take the packets of a batch one by one; count those that are refused."""
        actions: list[Action] = []
        for place in range(len(batch)):
            try:
                actions += take(batch.select(slice(place, place + 1)))
            except RefusedPacket as refusal:
                self.counters.refused[refusal.reason] += 1
        return actions + self._intake.warnings()

    def _receive_spm(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take one SPM.

        Raises:
            RefusedPacket: It is not one, it contradicts itself, or its object is not taken.
        """
        spm = parse_spm(batch.payload.tobytes())
        oid = int(batch.rows["oid"][0])
        if (known := self.transfers.get(oid)) and known.manifest:
            told = known.receive_spm(now, batch, spm, is_heard=self.listening.hears(batch.channel))
            self._intake.repeated(now, batch, spm)
            return told + self.listening.receive(now, batch)
        taken = self._intake.announced(now, batch, spm, self.transfers)
        actions: list[Action] = []
        # One oid with two shapes: the unannounced packets that were taken first were forged.
        if known is None or not known.is_of(batch).all():
            given_up = [old for old in taken.in_place_of if self.transfers[old].manifest]
            actions += [Superseded(now, old, oid, taken.release) for old in given_up]
            known = self._begin(now, Offer.of(batch.rows[0]), Take(taken.in_place_of))
            actions += known.begin(None)
        self._intake.adopt(taken)
        known.is_there = taken.is_there
        actions += [
            replace(one, signed_by=self.signers) if isinstance(one, Adopted) else one
            for one in known.adopt(now, batch, spm, taken.manifest, self._intake.heard(now, oid))
        ]
        return actions + self._listen(self.listening.adopt(now, taken.manifest))

    def _begin(self, now: int, offer: Offer, answer: Take) -> Transfer:
        """Return the transfer of an object, which begins now, in place of others."""
        for oid in {*answer.in_place_of, offer.oid} & self.transfers.keys():
            gone = self.transfers.pop(oid)
            self._intake.give_up(now, gone)
            self._lost += gone.losses.lost
            self._unbelieved += gone.losses.unbelieved
        self.evidence.begin(now, offer.oid)
        transfer = self.transfers[offer.oid] = self.current = Transfer(
            *(offer.oid, offer.size, offer.symbol_size),
            now=now,
            config=self._config,
            counters=self.counters,
            rng=self._rng,
        )
        return transfer
