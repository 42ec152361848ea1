"""One content on its way out: what is opened, checked and computed for it, and its loop."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pgmlite.core.events import RepairStarted, SendStarted, Stopped, Tell, Warned
from pgmlite.core.figures import SendChannel
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.errors import ObjectError, PgmliteError, UsageError
from pgmlite.net.address import Channel
from pgmlite.net.hashing import hash_beside
from pgmlite.net.outlet import Outlet, in_manifest, packets_a_call
from pgmlite.net.planning import ObjectPlan, has_expired
from pgmlite.net.sending import SendLoop
from pgmlite.net.waiting import Waits
from pgmlite.storage.encoded import EncodedSymbols
from pgmlite.storage.signed import SignedFile, is_signed_name
from pgmlite.storage.source import SourceFile
from pgmlite.storage.symbols import SymbolFile
from pgmlite.wire.buffers import SendBuffer
from pgmlite.wire.manifest import Manifest


def open_signed(
    opened: ExitStack,
    file: Path,
    content: Path | None,
    plan: ObjectPlan,
    tell: Tell,
    *,
    takes_expired: bool = True,
) -> Waits[SignedFile | None]:
    """Open a FILE.pglm, if that is what is to be sent; `opened` closes it.

    Raises:
        UsageError: Something was given that it has, or that belongs to one.
        ObjectError: It is damaged, has no signature, or has expired if that is not taken.
        DiskError: It can't be read.
        Interrupted: It was asked to stop.
    """
    if not is_signed_name(file):
        if content is not None:
            raise UsageError("content: goes with FILE.pglm", cause="content")
        return None
    if plan.given:
        raise in_manifest(plan.given[0], file)
    signed = yield from hash_beside(partial(SignedFile, file), tell)
    opened.callback(signed.close)
    # spec: SIG-5
    if not signed.signatures:
        raise ObjectError(f"{file}: has no signature yet; `pgmlite sign` adds one")
    if has_expired(signed.release):
        text = f"{file}: has expired: who has a key takes it no more"
        if not takes_expired:
            raise ObjectError(text)
        tell(Warned(time.monotonic_ns(), text))
    return signed


def open_symbols(
    opened: ExitStack, source: SourceFile, manifest: Manifest, machine: Sender, *, spare: int = 0
) -> SymbolFile:
    """Return what is sent of an object; `opened` closes it.

    Args:
        spare: As of `EncodedSymbols`.
    """
    geometry = manifest.geometry
    if not geometry.is_coded:
        return SymbolFile(source, geometry)
    carousels = [
        (lane.schedule.ring, float(lane.rate(time.monotonic_ns()) or 1))
        for lane in machine.lanes
        if lane.schedule
    ]
    encoded = EncodedSymbols(source, geometry, carousels=carousels, spare=spare)
    opened.callback(encoded.close)
    return SymbolFile(source, geometry, encoded)


def to_its_end(loop: SendLoop, started: SendStarted | RepairStarted, tell: Tell) -> Waits[Stopped]:
    """Run a loop, with what is told of its beginning and its end.

    Raises:
        PgmliteError: As `SendLoop.run`.
    """
    tell(started)
    try:
        yield from loop.run()
    except PgmliteError as error:
        tell(stopped(loop, str(error), error))
        raise
    last = stopped(loop, "finished", None)
    tell(last)
    return last


def stopped(loop: SendLoop, reason: str, error: PgmliteError | None) -> Stopped:
    """Return the summary of a loop that has ended."""
    loop.look_at_rate(is_over=True)
    now = time.monotonic_ns()
    return Stopped(now, reason, error, *loop.figures(now))


@dataclass(frozen=True, slots=True)
class Session:
    """What is ready to be sent.

    Attributes:
        opened: What has to be closed when it is sent no more; the outlet is not among it.
        rings: By channel, as the machine has them.
    """

    opened: ExitStack
    outlet: Outlet
    manifest: Manifest
    machine: Sender
    rings: tuple[Ring, ...]
    symbols: SymbolFile
    buffer: SendBuffer

    def loop(self, tell: Tell) -> SendLoop:
        """Return what sends it."""
        outlet, burst = self.outlet, packets_a_call(self.manifest.symbol_size)
        naks = [outlet.naks] if outlet.naks else []
        return SendLoop(self.machine, outlet.sockets, self.symbols, self.buffer, burst, tell, naks)

    def started(self, replaces: int | None = None) -> SendStarted:
        """Return what there is to tell of its beginning.

        Args:
            replaces: The object that was sent before it.
        """
        outlet = self.outlet
        channels = map(_started, outlet.channels, outlet.rates, self.rings)
        return SendStarted(
            time.monotonic_ns(),
            self.manifest,
            outlet.channels[0].interface,
            outlet.sockets[0].address,
            tuple(channels),
            replaces,
        )


def _started(channel: Channel, rate: int | None, ring: Ring) -> SendChannel:
    order = ring.order.name.lower()
    where = order, ring.first, ring.sector, ring.sectors
    return SendChannel(channel.group, channel.port, rate or 0, *where)
