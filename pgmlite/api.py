"""What a program imports: send, receive and repair, to the end or event by event, with or without
asyncio.

Each call checks its arguments and returns a `Handle`; nothing is opened before that is used::

    done = pgmlite.receive("copy.bin", group="239.1.2.3").run()      # to the end

    with pgmlite.receive("copy.bin", group="239.1.2.3") as transfer:  # event by event
        for event in transfer:
            ...

    done = await pgmlite.receive("copy.bin", group="239.1.2.3")      # the same with asyncio
    async with pgmlite.receive("copy.bin", group="239.1.2.3") as transfer:
        async for event in transfer:
            ...

Events are the classes of `pgmlite.core.events`, errors those of `pgmlite.errors`. No signal is
taken over, nothing is printed, and no thread stays.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from pgmlite.core.events import Completed, Event, Stopped, Tell
from pgmlite.errors import UsageError
from pgmlite.net.arguments import (
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_RATE,
    DEFAULT_REPAIR_SHARE,
    check_beside_keys,
    check_beside_name,
    check_channels,
    check_fec,
    check_hops,
    check_rate_limit,
    check_seconds,
    check_share,
    parse_hearing,
    parse_oid,
    parse_order,
)
from pgmlite.net.waiting import Stop, Waits, Work

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

StrPath = str | os.PathLike[str]


class Handle(Iterator[Event], AsyncIterator[Event], Awaitable[T], Generic[T]):
    """A sender, receiver or repairer: used once, and in one of three ways.

    `run` blocks to the end. Iteration gives events, and blocks between them; what happens while
    the program is busy with one waits in the system's buffers. ``await`` and ``async for`` do
    the same and let the event loop go on; their disk work is done in its thread, batch by batch.
    As a context, of either kind, it is closed at the end: sockets too, and what came is kept. A
    task that is cancelled is so when that is done.

    Attributes:
        began: When it was made, in ns of the clock of its events.
    """

    def __init__(self, start: Callable[[Tell], Waits[T]], *, began: int | None = None) -> None:
        """
        Args:
            start: Makes the work, given what takes its events.
            began: ns on the clock of the events; None: now, of the system's.
        """
        self.began = time.monotonic_ns() if began is None else began
        happened: deque[Event] = deque()
        self._stop = Stop()
        self._work = Work(start(happened.append), happened, self._stop)
        self._blocking: Generator[Event, None, None] | None = None
        self._async: AsyncGenerator[Event, None] | None = None
        self._turn: asyncio.Lock | None = None
        """Held by the task that waits for the next event."""

    @property
    def result(self) -> T:
        """What it came to: its last event, once that is there.

        Raises:
            UsageError: It has not ended, or an error ended it.
        """
        if self._work.result is None:
            raise UsageError("there is no result: it has not ended, or an error ended it")
        return self._work.result

    def stop(self, reason: str = "stopped") -> None:
        """Have it end soon, with `Interrupted`; from another thread or a signal handler, too."""
        self._stop.ask(reason)

    # By blocking.

    def run(self) -> T:
        """Go on to the end.

        Raises:
            PgmliteError: It came to no good end.
        """
        for _ in self:
            pass
        return self.result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._blocking is None:
            self._blocking = self._work.run()
        return next(self._blocking)

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._blocking is not None:
            self._blocking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # With asyncio.

    def __await__(self) -> Generator[object, None, T]:
        return self._to_the_end().__await__()

    async def _to_the_end(self) -> T:
        async with self:
            async for _ in self:
                pass
        return self.result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        # Imported where it is used: whoever blocks starts sooner without it.
        import asyncio

        if self._async is None or self._turn is None:
            self._async, self._turn = self._work.arun(), asyncio.Lock()
        async with self._turn:
            return await anext(self._async)

    async def aclose(self) -> None:
        """End it, if it has not ended; another task may be at it, or be ending it."""
        if self._async is None or self._turn is None:
            return
        self._stop.ask("closed")
        async with self._turn:
            await self._async.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def receive(
    output: StrPath,
    *,
    name: str | None = None,
    group: str | None = None,
    port: int | None = None,
    interface: str | None = None,
    sources: Iterable[str] = (),
    oid: str | int | None = None,
    keys: Iterable[StrPath] = (),
    stream: str | None = None,
    object_name: str | None = None,
    allow_rollback: bool = False,
    timeout: float | None = None,
    naks: bool = True,
    repairers: Iterable[str] = (),
    channels: str | int = "auto",
    rate_limit: int | None = None,
    max_size: int | None = None,
    on_complete: str | None = None,
    hook_timeout: float | None = None,
    bases: Iterable[StrPath] = (),
    verify_media: bool = False,
    loss: float = 0.0,
    seed: int = 0,
) -> Handle[Completed]:
    """Receive one object into a file.

    What comes is kept beside it, in ``OUTPUT.part``; the output is put in place when every byte
    has been verified.

    Args:
        name: Of a service in DNS, such as ``fw.example.org``: it has the groups, the port and the
            senders. Needs dnspython (``pip install 'pgmlite[dns]'``), as names in `sources` do.
        group: ``ADDR`` or ``ADDR%INTERFACE``; None: `DEFAULT_GROUP`, if there is no name.
        port: None: `DEFAULT_PORT`, if there is no name.
        interface: None: the only one that can be meant.
        sources: Addresses of the senders that are heard, or names of hosts in DNS; none: whoever
            sends. A source-specific group (ff3x::/32, 232.0.0.0/8) needs one. Beside a name they
            are heard as well.
        oid: The only object that is taken, as a number or 16 hexadecimal digits; None: the first.
        keys: Public keys (PEM), or folders of them: only what the owner of one has signed is taken,
            and no release that is older than what was installed. None: whoever sends is believed.
            Needs cryptography (``pip install 'pgmlite[trust]'``).
        stream: The only stream whose releases are taken; needs `keys`.
        object_name: A pattern such as ``router-*.bin``: only objects with such a name are taken.
        allow_rollback: Take an older release than was installed as well; needs `keys`.
        timeout: Seconds after which it gives up; None: never.
        naks: Ask for repairs.
        repairers: ``ADDR:PORT`` of stand-alone repairers that may be asked.
        channels: Of an object that is sent at several rates: ``auto`` hears the one that fits, a
            number that one, ``0-2`` all of these at once.
        rate_limit: bit/s that all channels which are heard may have together; None: no limit.
        max_size: Bytes; larger objects are not taken; None: any that the machine can hold.
        on_complete: A command that is run, with the output's path as its last argument, once that
            is in place; at least once, so again if a receiver before this one could not.
        hook_timeout: Seconds after which it is ended; None: never.
        bases: Files that may have a part of the object.
        verify_media: Read everything back from the disk before it is put in place.
        loss: Share of the packets that is dropped on purpose, the same for the same `seed`.

    Raises:
        UsageError: An argument is wrong on any machine, or the command is not there.
    """
    # Imported when needed: a sender starts sooner without it.
    from pgmlite.net.hook import find_command
    from pgmlite.net.job_receive import ReceiveJob
    from pgmlite.net.limits import check_size

    check_beside_name(name, is_given=group is not None or port is not None)
    key_paths = tuple(map(Path, keys))
    check_beside_keys(key_paths, stream=stream, allow_rollback=allow_rollback)
    job = ReceiveJob(
        output=Path(output),
        name=name,
        group=group or DEFAULT_GROUP,
        port=DEFAULT_PORT if port is None else port,
        interface=interface,
        sources=tuple(sources),
        oid=parse_oid(oid) if isinstance(oid, str) else oid,
        keys=key_paths,
        stream=stream or "",
        object_name=object_name or "",
        allow_rollback=allow_rollback,
        timeout=check_seconds("timeout", timeout),
        naks=naks,
        repairers=tuple(repairers),
        channels=parse_hearing(channels),
        rate_limit=check_rate_limit(rate_limit),
        max_size=check_size("max_size", max_size),
        hook_timeout=check_seconds("hook_timeout", hook_timeout),
        command=None if on_complete is None else find_command(on_complete),
        bases=tuple(map(Path, bases)),
        verify_media=verify_media,
        loss=check_share("loss", loss),
        seed=seed,
    )
    return Handle(job.run)


def send(
    file: StrPath,
    *,
    group: str = DEFAULT_GROUP,
    port: int = DEFAULT_PORT,
    interface: str | None = None,
    source: str | None = None,
    rate: int | None = DEFAULT_RATE,
    channels: Iterable[tuple[str, int]] = (),
    hops: int = 1,
    fec: float | None = None,
    order: str = "rounds",
    start: str | None = None,
    cycles: int | None = None,
    duration: float | None = None,
    mtu: int | None = None,
    symbol_size: int | None = None,
    repair: bool = False,
    listen: str | None = None,
    repair_share: float = DEFAULT_REPAIR_SHARE,
    repairers: Iterable[str] = (),
) -> Handle[Stopped]:
    """Send a file, over and over.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``.
        interface: None: the only one that can be meant.
        source: The address of the interface to send from; None: the system chooses.
        rate: bit/s on the wire, IP headers included; None: as fast as this machine can.
        channels: Group and rate of each of several, in place of `group` and `rate`, all at `port`:
            receivers take what fits them. At most 6, each with another group and rate.
        hops: Routers that may forward, plus 1.
        fec: Repair symbols as a share of the object; 0: none; None: 0.5, and of several channels
            as much as makes each enough by itself, (4 · channels - 3) / 3.
        order: ``rounds``: some symbols of each block in turn; ``blocks``: block after block first.
        start: The sector with which to begin, such as ``0/2``; ``random``: in an order of its own;
            None: somewhere.
        cycles: Object lengths to send, on each channel; None: without end.
        duration: Seconds after which it ends; None: never.
        mtu: Bytes of the largest IP packet; None: what fits the link, or routers on the way.
        symbol_size: Bytes of the file in a packet; overrides `mtu`.
        repair: Answer NAKs.
        listen: ``[ADDR]:PORT`` where they are taken; None: the interface, at the port after
            `port`.
        repair_share: Share of the rate that repairs may take.
        repairers: ``ADDR:PORT`` of stand-alone repairers that the manifest names.

    Raises:
        UsageError: An argument is wrong on any machine.
    """
    from pgmlite.net.job_send import SendJob

    chosen, sector = parse_order(order, start)
    channels = tuple(channels)
    if channels and (group, rate) != (DEFAULT_GROUP, DEFAULT_RATE):
        raise UsageError(
            "channel: each has a group and a rate; give no others beside them", cause="channel"
        )
    job = SendJob(
        file=Path(file),
        channels=check_channels(channels, chosen) or ((group, rate),),
        port=port,
        interface=interface,
        source=source,
        hops=check_hops(hops),
        fec=check_fec(fec),
        order=chosen,
        sector=sector,
        cycles=cycles,
        duration=check_seconds("duration", duration),
        mtu=mtu,
        symbol_size=symbol_size,
        repair=repair,
        listen=listen,
        repair_share=repair_share,
        repairers=tuple(repairers),
    )
    return Handle(job.run)


def repair(
    file: StrPath,
    *,
    group: str = DEFAULT_GROUP,
    port: int = DEFAULT_PORT,
    interface: str | None = None,
    sources: Iterable[str] = (),
    rate: int | None = DEFAULT_RATE,
    hops: int = 1,
    listen: str | None = None,
) -> Handle[Stopped]:
    """Answer NAKs from a copy of a file, while a sender that hears nothing loops it.

    Args:
        group: ``ADDR`` or ``ADDR%INTERFACE``, as of the sender.
        interface: None: the only one that can be meant.
        sources: Addresses of the senders, as of `receive`.
        rate: bit/s of the repairs, IP headers included; None: as fast as this machine can.
        hops: Routers that may forward, plus 1.
        listen: ``[ADDR]:PORT`` where NAKs are taken; None: the interface, at the port after `port`.

    Raises:
        UsageError: An argument is wrong on any machine.
    """
    from pgmlite.net.job_repair import RepairJob

    job = RepairJob(
        file=Path(file),
        group=group,
        port=port,
        interface=interface,
        sources=tuple(sources),
        rate=rate,
        hops=check_hops(hops),
        listen=listen,
    )
    return Handle(job.run)
