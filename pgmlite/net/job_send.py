"""A sender from its arguments to its end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.events import Stopped, Tell, Warned
from pgmlite.core.send.rate import Fixed
from pgmlite.core.send.rings import rings_of
from pgmlite.core.send.sender import Sender
from pgmlite.net.address import Channel, interface_mtu
from pgmlite.net.arguments import Sector, choose_symbol_size
from pgmlite.net.contents import open_content
from pgmlite.net.groups import is_for_routers
from pgmlite.net.hashing import hash_content, hash_signed
from pgmlite.net.outlet import Outlet, Way, packets_a_call
from pgmlite.net.planning import ObjectPlan
from pgmlite.net.resending import Resending
from pgmlite.net.session import Session, open_signed, open_symbols, to_its_end
from pgmlite.net.waiting import Waits
from pgmlite.storage.signed import SignedFile
from pgmlite.wire.buffers import SendBuffer

SHORT_WAY = (
    "group {} is source-specific, which is of use across routers, and packets with 1 hop stay on "
    "this link: give them more if receivers are behind routers"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendJob:
    """Arguments as of `pgmlite.send`; `duration` in ns.

    Attributes:
        sector: i and n of i/n, with which it begins; None: somewhere.
        follow: Send what replaces the file, too.
    """

    file: Path
    content: Path | None
    plan: ObjectPlan
    way: Way
    sector: Sector | None
    cycles: int | None
    duration: int | None
    repair_share: float
    follow: bool
    spool: Path | None

    def run(self, tell: Tell) -> Waits[Stopped]:
        """
        Raises:
            UsageError: An argument does not fit this machine, the group or the file.
            NetworkError: The network can't be used as asked.
            ObjectError: What was signed is damaged, or is not of this content.
            DiskError: The file can't be read, or changed.
            Interrupted: It was asked to stop.
        """
        if self.follow:
            following = Resending(self.file, self.content, self.prepare, self.duration, tell)
            return (yield from following.run())
        session = yield from self.prepare(tell)
        with session.opened:
            session.opened.callback(session.outlet.close)
            return (yield from to_its_end(session.loop(tell), session.started(), tell))

    def prepare(
        self, tell: Tell, before: Session | None = None, ends: int | None = None
    ) -> Waits[Session]:
        """Make ready to send what is there now.

        Whatever can be wrong with an argument is looked at before the content is read: that may
        take minutes.

        Args:
            before: What is sent now: of its outlet is used what serves.
            ends: When sending ends, ns; None: `duration` from its start on.

        Raises:
            PgmliteError: As of `run`.
        """
        with ExitStack() as sockets, ExitStack() as opened:
            signed = yield from open_signed(
                opened, self.file, self.content, self.plan, tell, takes_expired=before is None
            )
            was = before.outlet if before else None
            places = self.way.places(signed)
            channels = self.way.resolve(places)
            size = self._symbol_size(channels[0], signed)
            outlet = yield from self.way.open(places, channels, tell, was)
            sockets.callback(outlet.close, was)
            source = yield from open_content(opened, self.file, self.content, self.spool, tell)
            source.may_be_replaced = self.follow
            if signed:
                manifest = signed.manifest
                tree = yield from hash_signed(source, signed, tell)
            else:
                planned = self.plan.manifest(source, size, outlet.ladder, channel=channels[0])
                tree = yield from hash_content(source, planned.geometry, tell)
                manifest = replace(planned, tree_digest=tree.root)
            if before is None:
                self._warn_of_hops(outlet, tell)
            rates = outlet.rates
            config = SenderConfig(
                rate=None if None in rates else sum(rate or 0 for rate in rates),
                packet_overhead=channels[0].overhead,
                max_burst=packets_a_call(size),
                cycles=self.cycles,
                duration=self.duration if ends is None else max(0, ends - time.monotonic_ns()),
            )
            geometry, order = manifest.geometry, self.way.order
            rings = rings_of(geometry, len(rates), order, self.sector, SystemRandom())
            naks = outlet.naks
            machine = Sender(
                config,
                manifest,
                tree,
                rings=rings,
                repair=RepairConfig(port=naks.port, share=self.repair_share) if naks else None,
                rng=SystemRandom(),
                rates=[Fixed(rate) for rate in rates],
                tiles=signed.tiles if signed else None,
                signatures=signed.signatures if signed else (),
            )
            buffer = SendBuffer(size, config.transmit_limit)
            spare = before.symbols.occupied if before else 0
            symbols = open_symbols(opened, source, manifest, machine, spare=spare)
            sockets.pop_all()
            kept = opened.pop_all()
        return Session(kept, outlet, manifest, machine, tuple(rings), symbols, buffer)

    def _symbol_size(self, channel: Channel, signed: SignedFile | None) -> int:
        """Return the bytes of a symbol.

        Raises:
            UsageError: An argument of the manifest is wrong, or packets are too large for the
                interface.
        """
        mtu = interface_mtu(channel)
        hops = self.way.hops
        if signed:
            return choose_symbol_size(
                signed.manifest.symbol_size, None, hops=hops, interface_mtu=mtu
            )
        self.plan.check(channel)
        return self.plan.size(hops, mtu)

    def _warn_of_hops(self, outlet: Outlet, tell: Tell) -> None:
        far = next((one.group for one in outlet.channels if is_for_routers(one.group)), None)
        if self.way.hops == 1 and far:
            tell(Warned(time.monotonic_ns(), SHORT_WAY.format(far), "hops"))
