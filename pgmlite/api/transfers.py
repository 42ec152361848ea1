"""Sending, receiving, repairing, and looking at what is announced."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgmlite.core.events import Stopped
from pgmlite.core.events_listening import Listed
from pgmlite.errors import UsageError
from pgmlite.net.arguments import (
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_RATE,
    DEFAULT_REPAIR_SHARE,
    check_beside_follow,
    check_beside_keys,
    check_beside_name,
    check_channels,
    check_fec,
    check_hops,
    check_pattern,
    check_rate_limit,
    check_seconds,
    check_share,
    parse_hearing,
    parse_oid,
    parse_order,
    source_path,
)
from pgmlite.net.handle import Handle

if TYPE_CHECKING:
    # A sender starts sooner without it.
    from pgmlite.net.job_receive import Receiving

StrPath = str | os.PathLike[str]


def receive(
    output: StrPath | None = None,
    *,
    device: StrPath | None = None,
    spool: StrPath | None = None,
    keep: int = 0,
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
) -> Receiving:
    """Receive one object into a file; or, with ``receive(...).follow()``, one after another.

    What comes is kept beside it, in ``OUTPUT.part``; the output is put in place when every byte
    has been verified.

    Args:
        output: A file; a folder, if there is a slash at its end, for what was sent of one; ``-``:
            standard output, in order, as soon as it is verified.
        device: A block device, in place of `output`.
        spool: The folder of the partial file of these two; None: that for temporary files.
        keep: How many folders that were replaced are kept beside the output.
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
    from pgmlite.net.destinations.choice import parse_where
    from pgmlite.net.hook import find_command
    from pgmlite.net.job_receive import Receiving
    from pgmlite.net.limits import check_size
    from pgmlite.net.reception import ReceiveArguments

    check_beside_name(name, is_given=group is not None or port is not None)
    key_paths = tuple(map(Path, keys))
    check_beside_keys(key_paths, stream=stream, allow_rollback=allow_rollback)
    arguments = ReceiveArguments(
        where=parse_where(
            None if output is None else os.fspath(output),
            device=None if device is None else os.fspath(device),
            spool=None if spool is None else os.fspath(spool),
            keep=keep,
        ),
        name=name,
        group=group or DEFAULT_GROUP,
        port=DEFAULT_PORT if port is None else port,
        interface=interface,
        sources=tuple(sources),
        oid=parse_oid(oid) if isinstance(oid, str) else oid,
        keys=key_paths,
        stream=stream or "",
        object_name=check_pattern(object_name),
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
    return Receiving(arguments)


def together(handles: Mapping[str, Handle[Any]]) -> Handle[tuple[Any, ...]]:
    """Return several receivers, or what else there is, as one: in one thread, side by side.

    An error ends the one that has it, and is raised when all have ended: the worst, if there are
    several. To stop it is to stop all.

    Args:
        handles: By their names, which are in the events as `job`; they are not used by themselves.
    """
    from pgmlite.net.together import together as all_of

    starts = {name: handle.start for name, handle in handles.items()}

    def reload() -> None:
        for handle in handles.values():
            handle.reload()

    return Handle(lambda tell: all_of(starts, tell), reload=reload)


def send(
    file: StrPath,
    *,
    content: StrPath | None = None,
    group: str = DEFAULT_GROUP,
    port: int = DEFAULT_PORT,
    interface: str | None = None,
    source: str | None = None,
    rate: int | None = DEFAULT_RATE,
    channels: Iterable[tuple[str, int]] = (),
    hops: int = 1,
    name: str | None = None,
    fec: float | None = None,
    block_symbols: int | None = None,
    order: str = "rounds",
    start: str | None = None,
    cycles: int | None = None,
    duration: float | None = None,
    follow: bool = False,
    mtu: int | None = None,
    symbol_size: int | None = None,
    repair: bool = False,
    listen: str | None = None,
    repair_share: float = DEFAULT_REPAIR_SHARE,
    repairers: Iterable[str] = (),
    spool: StrPath | None = None,
) -> Handle[Stopped]:
    """Send a file, a folder, a block device or standard input, over and over.

    Args:
        file: What to send, ``-`` is standard input; or ``FILE.pglm``, which `sign` wrote: then
            `name`, `fec`, `block_symbols`, `mtu`, `symbol_size` and `repairers` are in it, and the
            channels if it has several.
        content: Of ``FILE.pglm``; None: ``FILE`` beside it.
        group: ``ADDR`` or ``ADDR%INTERFACE``.
        interface: None: the only one that can be meant.
        source: The address of the interface to send from; None: the system chooses.
        rate: bit/s on the wire, IP headers included; None: as fast as this machine can.
        channels: Group and rate of each of several, in place of `group` and `rate`, all at `port`:
            receivers take what fits them. At most 6, each with another group and rate.
        hops: Routers that may forward, plus 1.
        name: Of the object; None: the file's.
        fec: Repair symbols as a share of the object; 0: none; None: 0.5, and of several channels
            as much as makes each enough by itself, (4 · channels - 3) / 3.
        block_symbols: Symbols of a block, at most 1024, without repair symbols 4096; None: 1024.
        order: ``rounds``: some symbols of each block in turn; ``blocks``: block after block first.
        start: The sector with which to begin, such as ``0/2``; ``random``: in an order of its own;
            None: somewhere.
        cycles: Object lengths to send, on each channel; None: without end.
        duration: Seconds after which it ends; None: never.
        follow: When another file gets the name of `file` by a rename, send that in its place; of a
            signed object another ``FILE.pglm``. To be stopped is the usual end then, and no error.
        mtu: Bytes of the largest IP packet; None: what fits the link, or routers on the way.
        symbol_size: Bytes of the file in a packet; overrides `mtu`.
        repair: Answer NAKs.
        listen: ``[ADDR]:PORT`` where they are taken; None: the interface, at the port after
            `port`.
        repair_share: Share of the rate that repairs may take.
        repairers: ``ADDR:PORT`` of stand-alone repairers that the manifest names.
        spool: The folder for a copy of what can't be sent from where it is, that is of folders, as
            an archive, and of standard input; None: that for temporary files.

    Raises:
        UsageError: An argument is wrong on any machine.
    """
    from pgmlite.net.job_send import SendJob
    from pgmlite.net.outlet import Way
    from pgmlite.net.planning import ObjectPlan

    if follow:
        check_beside_follow([file, content or file], cycles)
    chosen, sector = parse_order(order, start)
    channels = tuple(channels)
    if channels and (group, rate) != (DEFAULT_GROUP, DEFAULT_RATE):
        raise UsageError(
            "channel: each has a group and a rate; give no others beside them", cause="channel"
        )
    job = SendJob(
        file=source_path(file),
        content=None if content is None else source_path(content),
        plan=ObjectPlan(
            name=name,
            mtu=mtu,
            symbol_size=symbol_size,
            block_symbols=block_symbols,
            fec=check_fec(fec),
            repairers=tuple(repairers),
        ),
        way=Way(
            channels=check_channels(channels, chosen) or ((group, rate),),
            port=port,
            interface=interface,
            source=source,
            hops=check_hops(hops),
            order=chosen,
            repair=repair,
            listen=listen,
        ),
        sector=sector,
        cycles=cycles,
        duration=check_seconds("duration", duration),
        repair_share=repair_share,
        follow=follow,
        spool=None if spool is None else Path(spool),
    )
    return Handle(job.run)


def repair(
    file: StrPath,
    *,
    content: StrPath | None = None,
    group: str = DEFAULT_GROUP,
    port: int = DEFAULT_PORT,
    interface: str | None = None,
    sources: Iterable[str] = (),
    rate: int | None = DEFAULT_RATE,
    hops: int = 1,
    listen: str | None = None,
    spool: StrPath | None = None,
) -> Handle[Stopped]:
    """Answer NAKs from a copy of a file, while a sender that hears nothing loops it.

    Args:
        file: The copy; or ``FILE.pglm``, as of `send`.
        content: Of ``FILE.pglm``; None: ``FILE`` beside it.
        group: ``ADDR`` or ``ADDR%INTERFACE``, as of the sender.
        interface: None: the only one that can be meant.
        sources: Addresses of the senders, as of `receive`.
        rate: bit/s of the repairs, IP headers included; None: as fast as this machine can.
        hops: Routers that may forward, plus 1.
        listen: ``[ADDR]:PORT`` where NAKs are taken; None: the interface, at the port after `port`.
        spool: As of `send`.

    Raises:
        UsageError: An argument is wrong on any machine.
    """
    from pgmlite.net.job_repair import RepairJob

    job = RepairJob(
        file=source_path(file),
        content=None if content is None else source_path(content),
        group=group,
        port=port,
        interface=interface,
        sources=tuple(sources),
        rate=rate,
        hops=check_hops(hops),
        listen=listen,
        spool=None if spool is None else Path(spool),
    )
    return Handle(job.run)


def list_sessions(
    name: str | None = None,
    *,
    group: str | None = None,
    port: int | None = None,
    interface: str | None = None,
    sources: Iterable[str] = (),
    keys: Iterable[StrPath] = (),
    seconds: float = 3.0,
) -> Handle[Listed]:
    """Listen to a group, and tell which objects are announced there: one event for each.

    Nothing is received or kept, and what is told are claims, but for signatures by `keys`.

    Args:
        name: Of a service in DNS: all its channels are heard; as of `receive`.
        group: ``ADDR`` or ``ADDR%INTERFACE``; None: `DEFAULT_GROUP`, if there is no name.
        port: None: `DEFAULT_PORT`, if there is no name.
        interface: None: the only one that can be meant.
        sources: Of the senders that are heard, as of `receive`.
        keys: Public keys (PEM), or folders of them, by which signatures are checked.
        seconds: For how long; senders announce what they send once a second, at least.

    Raises:
        UsageError: An argument is wrong on any machine.
    """
    from pgmlite.net.job_list import ListJob

    check_beside_name(name, is_given=group is not None or port is not None)
    limit = check_seconds("seconds", seconds)
    assert limit is not None  # noqa: S101 - only None becomes None
    job = ListJob(
        name=name,
        group=group or DEFAULT_GROUP,
        port=DEFAULT_PORT if port is None else port,
        interface=interface,
        sources=tuple(sources),
        keys=tuple(map(Path, keys)),
        seconds=limit,
    )
    return Handle(job.run)
