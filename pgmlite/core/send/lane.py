"""One channel of a sender: what leaves it, in which order, when, under which numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import Transmit
from pgmlite.core.send.admission import Admission
from pgmlite.core.send.counters import Tally, odata_in, rate_of
from pgmlite.core.send.group import Group
from pgmlite.core.send.heartbeat import Heartbeat
from pgmlite.core.send.ledger import ledger_for
from pgmlite.core.send.nodes import NodeCarousel
from pgmlite.core.send.packets import Packets
from pgmlite.core.send.rate import Pacer, RateControl
from pgmlite.core.send.repairs import Repairs
from pgmlite.core.send.schedule import Coming, Schedule
from pgmlite.core.send.tiles import TileNodes
from pgmlite.core.tiles import TileTree
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch, Rows
from pgmlite.wire.control import Signature
from pgmlite.wire.digests import BlockTree
from pgmlite.wire.layout import PacketType, Tree
from pgmlite.wire.manifest import Manifest


class Lane:
    """Sends one object on one channel, paced by a rate of its own."""

    def __init__(
        self,
        channel: int,
        config: SenderConfig,
        manifest: Manifest,
        tree: BlockTree,
        *,
        tiles: TileTree | None,
        signatures: Sequence[Signature],
        rate: RateControl,
        schedule: Schedule | None,
        repair: RepairConfig | None,
        admission: Admission | None,
    ) -> None:
        """
        Args:
            tiles: Of a signed object: its tree of tiles, whose leaves go out with their tiles.
            signatures: Of the manifest.
            schedule: What it sends by itself; None: nothing, it only repeats.
            repair: How it answers NAKs; None, as `admission`: not at all.
        """
        self.channel = channel
        self.schedule = schedule
        self.tally = Tally(packet_overhead=config.packet_overhead)
        self._counters = self.tally.counters
        self._config = config
        self._geometry = manifest.geometry
        self._packets = Packets(manifest, channel, limit=config.transmit_limit)
        self._pacer = Pacer(rate, burst_time=config.burst_time)
        self._packet_size = self._wire_bytes(manifest.symbol_size, 1)
        self._heartbeat = Heartbeat(
            config, manifest, signatures, self._pacer, has_repairs=repair is not None
        )
        self._nodes = NodeCarousel(tree, manifest.symbols, share=config.tree_share)
        self._tiles = TileNodes(tiles) if tiles and schedule else None
        self._share = repair.share if repair and schedule else 1.0
        self.repairs: Repairs | None = None
        if repair and admission:
            self.repairs = Repairs(
                repair,
                ledger_for(
                    repair,
                    manifest.geometry,
                    schedule.ring if schedule else None,
                    by_tile=tiles is not None,
                ),
                tiles=TileNodes(tiles) if tiles else None,
                admission=admission,
                group=Group(repair, packet_time=self._packet_time),
                # spec: REP-5: two full steps.
                most_credit=2 * config.transmit_limit,
                counters=self._counters,
            )
        self._packets.repairs = self.repairs
        self._tsi = 0
        self._started = 0
        self._ended: tuple[int, int] | None = None
        """What `throughput` was when the schedule came to its end."""

    # What it did.

    def rate(self, now: int) -> int | None:
        """bit/s that it may send at now; None: not limited."""
        return self._pacer.rate(now)

    @property
    def is_over(self) -> bool:
        """Whether it has sent all that its schedule has, an empty object's SPM once."""
        if self.schedule is None or not self.schedule.is_over:
            return False
        # The last leaf too goes out once more.
        return self._counters.packets > 0 and not (self._tiles and self._tiles.left)

    @property
    def throughput(self) -> tuple[int, int]:
        """What its schedule and the repairs beside it let out: wire bytes, and in how many ns."""
        if self._ended:
            return self._ended
        if not self._is_moving:
            return 0, 0
        return self.tally.wire_bytes, self._pacer.due - self._started

    @property
    def achieved_rate(self) -> int:
        """Bit/s on the wire that went out, while the schedule moved; 0: no time has passed."""
        wire_bytes, elapsed = self.throughput
        return rate_of(self.tally.taken_of(wire_bytes), elapsed)

    def spm_interval(self, now: int) -> int:
        """Return the time between its SPMs, ns."""
        return self._heartbeat.interval(now)

    # What is done to it.

    def begin(self, tsi: int, sqn: int) -> None:
        """Send as session `tsi` from now on, the first packet with the number `sqn`."""
        self._tsi = tsi
        self._packets.headers.begin(tsi, sqn)

    def start(self, now: int) -> None:
        """Begin: an SPM is due at once."""
        self._started = now
        self._pacer.start(now)
        self._heartbeat.due = now

    def stood(self, elapsed: int) -> None:
        """Note that there was no link for so many ns."""
        self._started += elapsed
        self._pacer.stood(elapsed)

    def renew(self, now: int, held: Rows, *, tsi: int, sqn: int) -> None:
        """Go on as another session; what is `held` of the schedule will not have left."""
        # spec: SND-12
        back = odata_in(held)
        if back and self.schedule:
            self.schedule.back(back)
            self.tally.back(back)
        self.begin(tsi, sqn)
        # An SPM comes first, and a node after it; what it repeats needs no NCF of its own.
        self._heartbeat.due = now
        self._nodes.begin()
        for tiles in self._tile_nodes:
            tiles.begin()
        if self.repairs:
            self.repairs.confirmations.clear()

    def take_naks(self, now: int, batch: PacketBatch, elsewhere: Coming | None) -> None:
        """Answer NAKs.

        Args:
            elsewhere: What other sessions send unasked, if this lane has no schedule.
        """
        if self.repairs:
            last, own = self._packets.headers.last, self.schedule if self._is_moving else None
            self.repairs.take_naks(now, batch, self._tsi, last, own=own, elsewhere=elsewhere)

    # What it sends.

    @property
    def deadline(self) -> int:
        """When the next packet is due, ns."""
        work = self._heartbeat.due
        if self._is_moving or self._has_repairs:
            work = min(work, self._pacer.due)
        burst = max(self._pacer.due, work)
        if self.repairs and self.repairs.confirmations:
            return min(burst, self.repairs.confirmations.due)
        return burst

    def tick(self, now: int) -> list[Transmit]:
        """Send one burst, or in a row the NCFs or the nodes of the tree; call at its deadline."""
        if confirmations := self._confirm(now):
            return confirmations
        bursts = self._next_bursts(now)
        for burst in bursts:
            self._account(now, burst)
        return bursts

    def look(self) -> None:
        """Take note of the end of the schedule: nothing of it comes any more."""
        if self._is_moving and self.is_over:
            self._ended = self.throughput

    @property
    def _is_moving(self) -> bool:
        return self.schedule is not None and self._geometry.symbols > 0 and self._ended is None

    @property
    def _has_repairs(self) -> bool:
        return self.repairs is not None and self.repairs.is_waiting

    @property
    def _tile_nodes(self) -> list[TileNodes]:
        """Those beside the schedule, and those beside repairs."""
        both = self._tiles, self.repairs.tiles if self.repairs else None
        return [tiles for tiles in both if tiles]

    def _confirm(self, now: int) -> list[Transmit]:
        """Send NCFs, at once as long as they keep to their share (spec: REP-3)."""
        actions: list[Transmit] = []
        repairs = self.repairs
        while repairs and repairs.confirmations and repairs.confirmations.due <= now:
            body = repairs.confirmations.take()
            wire_bytes = self._wire_bytes(len(body), 1)
            # spec: REP-5: what confirms repairs is a part of what they cost.
            repairs.credit.spend(wire_bytes / self._packet_size)
            promise = self._promise(now, repairs)
            burst = self._packets.control(PacketType.NCF, body, offset=promise)
            self._account(now, burst)
            repairs.confirmations.sent(now, self._pacer.takes(now, wire_bytes, repairs.ncf_share))
            self._counters.ncfs_sent += 1
            actions.append(burst)
        return actions

    def _promise(self, now: int, repairs: Repairs) -> int:
        """Return within how many packets all that waits has left (spec: REP-11)."""
        packets = repairs.promise(between=self._burst_size(now), is_shared=self._is_moving)
        spms = -(-packets * self._packet_time(now) // self._heartbeat.interval(now))
        if not self._is_moving:
            return packets + spms
        nodes = self._nodes.most(packets, spms)
        if self._tiles and self.schedule:
            nodes += self._tiles.left + self._tiles.most(self.schedule.tiles(packets) + spms)
        return packets + spms + nodes

    def _next_bursts(self, now: int) -> list[Transmit]:
        """Return what is sent now, by rank: SPM, TREE, repairs within their share, ODATA."""
        if now >= self._heartbeat.due:
            return [self._spm(now)]
        if self._is_moving and self._tiles and self._tiles.is_pressing:
            return self._packets.nodes(Tree.TILES, self._next_tile_nodes(self._burst_size(now)))
        if self._is_moving and self._nodes.is_due:
            return self._packets.nodes(Tree.BLOCKS, self._nodes.take(self._burst_size(now)))
        if self._has_repairs and (bursts := self._repair_bursts(now)):
            return bursts
        if self.schedule and self._is_moving:
            return self._schedule_bursts(now, self.schedule)
        return []

    def _spm(self, now: int) -> Transmit:
        self._nodes.announced()
        for tiles in self._tile_nodes:
            tiles.announced()
        position = self.schedule.position if self.schedule else None
        repairs = self.repairs.option(now, self._share) if self.repairs else None
        body = self._heartbeat.body(now, position, repairs)
        return self._packets.control(PacketType.SPM, body)

    def _next_tile_nodes(self, most: int) -> list[tuple[int, bytes]]:
        """Return what comes before the schedule's next symbol, at most so many nodes."""
        if not self._tiles or not self.schedule:
            return []
        if self.schedule.is_over:
            self._tiles.finish()
        else:
            tile, begin, _ = self.schedule.tile
            self._nodes.make_room(self._tiles.enter(tile, begin))
        return self._tiles.take(most)

    def _repair_bursts(self, now: int) -> list[Transmit]:
        if self.repairs is None:
            return []
        limit = self._burst_size(now)
        if self._is_moving:
            # spec: REP-5: repairs go first as long as the carousel has its share.
            limit = min(limit, self.repairs.credit.packets)
        if not limit:
            return []
        if nodes := self.repairs.take_nodes(limit):
            wire_bytes = sum(self._wire_bytes(len(node), 1) for _, node in nodes)
            self.repairs.credit.spend(wire_bytes / self._packet_size)
            return self._packets.nodes(Tree.TILES, nodes)
        ids = self.repairs.take_out(now, limit)
        return [self._packets.data(PacketType.RDATA, self._geometry.named(ids))] if len(ids) else []

    def _schedule_bursts(self, now: int, schedule: Schedule) -> list[Transmit]:
        """Return ODATA, in a signed object tile by tile, each behind its nodes."""
        room = self._burst_size(now)
        if self._tiles is None:
            return [self._odata_burst(schedule, room)]
        bursts: list[Transmit] = []
        while room > 0 and not self._nodes.is_due:
            if nodes := self._next_tile_nodes(room):
                some = self._packets.nodes(Tree.TILES, nodes)
            elif schedule.is_over:
                break
            else:
                some = [self._odata_burst(schedule, min(room, schedule.tile[2]))]
            room -= sum(len(burst.rows) for burst in some)
            bursts += some
        return bursts

    def _odata_burst(self, schedule: Schedule, most: int) -> Transmit:
        ids = schedule.next(self._nodes.room(most))
        self._nodes.passed(len(ids))
        self._counters.odata += len(ids)
        if self.repairs:
            self.repairs.credit.earn(len(ids))
        return self._packets.data(PacketType.ODATA, ids)

    def _account(self, now: int, burst: Transmit) -> None:
        """Count a burst and pace what follows."""
        count = len(burst.rows)
        self._counters.packets += count
        self._counters.bytes += burst.length + count * HEADER_SIZE
        self._pacer.sent(now, self._wire_bytes(burst.length, count))

    def _burst_size(self, now: int) -> int:
        return self._pacer.burst(now, self._packet_size, self._config.transmit_limit)

    def _packet_time(self, now: int) -> int:
        return self._pacer.takes(now, self._packet_size)

    def _wire_bytes(self, payload: int, packets: int) -> int:
        return self.tally.on_wire(payload + packets * HEADER_SIZE, packets)
