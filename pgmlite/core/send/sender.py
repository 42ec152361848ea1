"""The sender: lanes that loop the object, paced; the NAKs that they answer; and an end.

Without repairs it never reads a packet. spec/protocol.md sections 5 (SND) and 8 (REP).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import Action, Finished
from pgmlite.core.ring import Ring
from pgmlite.core.send.admission import Admission
from pgmlite.core.send.counters import SendCounters
from pgmlite.core.send.lane import Lane
from pgmlite.core.send.rate import Fixed, RateControl
from pgmlite.core.send.schedule import Carousel, Coming
from pgmlite.core.tiles import TileTree
from pgmlite.wire.batch import PacketBatch, Rows
from pgmlite.wire.control import Signature
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Manifest


class Sender:
    """One sender of one object. See `pgmlite.core.machine` for how to drive it.

    Attributes:
        tsi: Its session, on all channels.
        lanes: One for each channel.
        refused: What was refused of what arrived, by reason; drivers count here too.
    """

    def __init__(
        self,
        config: SenderConfig,
        manifest: Manifest,
        tree: BlockTree,
        *,
        tiles: TileTree | None = None,
        signatures: Sequence[Signature] = (),
        rings: Sequence[Ring | None] = (),
        repair: RepairConfig | None = None,
        rng: Random,
        rates: Sequence[RateControl] = (),
        channel: int = 0,
    ) -> None:
        """
        Args:
            tree: The tree of blocks whose root the manifest names.
            tiles: Of a signed object: the tree of tiles whose root the manifest names.
            signatures: Of the manifest, beside which all SPMs have them.
            rings: In which order each channel sends the object, None: it sends nothing by itself;
                none: rounds from the start, on each.
            repair: Answer NAKs; None: send, and hear nothing.
            rng: Draws the tsi, the first sqns (spec: SND-1) and the nonces; asked again by `renew`.
            rates: Who owns the rate of each channel; none: one channel at the rate of `config`.
            channel: Number of the first channel.
        """
        self._config = config
        self._repair = repair or RepairConfig()
        self._rng = rng
        self._names_repairers = bool(manifest.repairers)
        self.tsi = rng.getrandbits(64)
        rates = rates or [Fixed(config.rate)]
        sqns = [rng.getrandbits(32) for _ in rates]
        self._admission = Admission(repair, manifest, rng=rng) if repair else None
        self.refused: Counter[str] = self._admission.refused if self._admission else Counter()
        rings = rings or [Ring(manifest.geometry) for _ in rates]
        self.lanes = tuple(
            Lane(
                number,
                config,
                manifest,
                tree,
                tiles=tiles,
                signatures=signatures,
                rate=rate,
                schedule=Carousel(ring, config.cycles) if ring else None,
                repair=repair,
                admission=self._admission,
            )
            for number, (rate, ring) in enumerate(zip(rates, rings, strict=True), channel)
        )
        for lane, sqn in zip(self.lanes, sqns, strict=True):
            lane.begin(self.tsi, sqn)
        self._end: int | None = None
        self._lingers_until: int | None = None
        self._finished = False

    # What it did, for reports.

    @property
    def counters(self) -> SendCounters:
        """What all lanes did."""
        return SendCounters.total(lane.tally.counters for lane in self.lanes)

    @property
    def cycles(self) -> float:
        """Object lengths sent since the start, on all lanes."""
        return sum((lane.schedule.cycles for lane in self.lanes if lane.schedule), 0.0)

    @property
    def has_schedule(self) -> bool:
        """Whether it sends the object, and does not only answer NAKs."""
        return any(lane.schedule for lane in self.lanes)

    @property
    def answers_naks(self) -> bool:
        """Whether it repeats what receivers ask for."""
        return self._admission is not None

    def is_paced(self, now: int) -> bool:
        """Whether it has a rate to keep."""
        return self.rate(now) is not None

    def rate(self, now: int) -> int | None:
        """bit/s that it may send at now, on all lanes; None: as fast as it can."""
        rates = [lane.rate(now) for lane in self.lanes]
        return None if None in rates else sum(rate or 0 for rate in rates)

    @property
    def achieved_rate(self) -> int:
        """Bit/s on the wire that went out, while schedules moved; 0: no time has passed."""
        return sum(lane.achieved_rate for lane in self.lanes)

    @property
    def wire_bytes(self) -> int:
        """Bytes on the wire that the system took, on all lanes, repairs among them."""
        return sum(lane.tally.taken_of(lane.tally.wire_bytes) for lane in self.lanes)

    @property
    def has_sent_nothing(self) -> bool:
        """Whether there was something to send, and nothing of the object could be sent."""
        return all(lane.tally.has_sent_nothing for lane in self.lanes)

    @property
    def waiting(self) -> int:
        """Symbols that are to be repeated."""
        return sum(lane.repairs.waiting for lane in self.lanes if lane.repairs)

    @property
    def sources(self) -> int:
        """Addresses that sent NAKs lately."""
        return self._admission.sources if self._admission else 0

    def grtt(self, now: int) -> int:
        """Group round-trip time, ns: the longest of all lanes; 0 without repairs."""
        return max((lane.repairs.group.grtt(now) for lane in self.lanes if lane.repairs), default=0)

    # The contract.

    @property
    def deadline(self) -> int | None:
        """When the next packet is due, in ns; None after the end."""
        return None if self._finished else min(lane.deadline for lane in self.lanes)

    def start(self, now: int) -> list[Action]:
        """Begin: the first tick is due at once."""
        for lane in self.lanes:
            lane.start(now)
        if self._config.duration is not None:
            self._end = now + self._config.duration
        return []

    def receive(self, now: int, batch: PacketBatch) -> list[Action]:
        """Take NAKs; nothing else that arrives means anything (spec: SND-2, REP-1)."""
        if batch.kind is PacketType.NAK and len(batch):
            # A receiver hears one channel: what it asks for has to come there.
            number = self.lane_of(batch.channel)
            lane = self.lanes[number if 0 <= number < len(self.lanes) else 0]
            lane.take_naks(now, batch, self._coming(now))
        return []

    def lane_of(self, channel: int) -> int:
        """Return which of its lanes sends on a channel, if one of them does."""
        return channel - self.lanes[0].channel

    def _coming(self, now: int) -> Coming | None:
        """Return what others send unasked."""
        return None

    def tick(self, now: int) -> list[Action]:
        """Send what is due on each lane."""
        due = [lane for lane in self.lanes if lane.deadline <= now]
        if self._finished or not due:
            return []
        for lane in self.lanes:
            lane.look()
        if self._is_over(now):
            self._finished = True
            return [Finished()]
        return [burst for lane in due for burst in lane.tick(now)]

    def unsent(self, rows: Rows, octets: int) -> None:
        """Count packets of one channel, `octets` bytes, that were not taken.

        The schedule goes on past them.
        """
        # spec: SND-11
        self.lanes[self.lane_of(int(rows["channel"][0]))].tally.unsent(rows, octets)

    def renew(self, now: int, held: Rows) -> None:
        """Go on as another session: its packets will come from another address or port.

        The schedules, what waits to be repeated, and what is known of the group go on.

        Args:
            held: Headers of the latest packets, which will not leave: the schedules go back.
        """
        # spec: SND-12
        self.tsi = self._rng.getrandbits(64)
        for lane in self.lanes:
            mine = held[held["channel"] == lane.channel]
            lane.renew(now, mine, tsi=self.tsi, sqn=self._rng.getrandbits(32))

    def stood(self, elapsed: int) -> None:
        """Note that the driver had no link for so many ns: no rate could be kept in them."""
        for lane in self.lanes:
            lane.stood(elapsed)

    def time_is_up(self, now: int) -> bool:
        """Whether its duration is over."""
        return self._end is not None and now >= self._end

    def _is_over(self, now: int) -> bool:
        if self.time_is_up(now):
            return True
        if not all(lane.is_over for lane in self.lanes):
            return False
        if not self.answers_naks and not self._names_repairers:
            return True
        # spec: SND-9: who lost something of the last cycle still has time to ask, and without us
        # would not know that it was the last.
        if self._lingers_until is None or self.waiting:
            self._lingers_until = now + max(
                self._repair.linger,
                self._repair.linger_grtt * self.grtt(now),
                self._repair.linger_spms * max(lane.spm_interval(now) for lane in self.lanes),
            )
        return now >= self._lingers_until
