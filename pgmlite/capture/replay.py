"""Replay: a capture in place of the socket, and its clock in place of ours."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pgmlite.capture.datagrams import Datagrams, split
from pgmlite.capture.file import Capture
from pgmlite.capture.notes import hints, notes, why_none
from pgmlite.core.events import NakDue, Tell
from pgmlite.core.impair import Loss, Reorder
from pgmlite.core.machine import MS, SECOND, Action, Complete, SendNak
from pgmlite.core.ranges import runs
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import ObjectError, TimedOut
from pgmlite.net.loop import attend, tell_of_disk
from pgmlite.net.waiting import Wait, Waits
from pgmlite.storage.contract import Part
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import pieces
from pgmlite.wire.layout import HEADER, MAGIC, VERSION, PacketType
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import parse_nak

GATHER = 5 * MS
"""Packets this close together are given to the machine at once, as a busy `recv` finds them."""

GATHER_LOSSLESS = 50 * MS
"""The same where no timer depends on when exactly a packet came: nobody takes NAKs, or nothing was
lost so far."""

MAX_SOURCES = 64
"""Sources whose last sqn is remembered, and sessions that were heard."""

PAUSE = 10 * SECOND
"""What is taken to have passed where the clock was set and a session is heard that was not before:
longer than another object keeps a receiver (spec: RCV-4)."""

SHOWN_RANGES = 4
"""Missing ranges in an error message."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which packets of a capture count.

    Attributes:
        group: Destination address; None: that of the first valid packet.
        port: Destination port; likewise.
        oid: Object that this first packet has to be of; None: any.
        start: ns from the first packet of the capture.
        stop: ns from the first packet of the capture; None: to the end.
    """

    group: str | None = None
    port: int | None = None
    oid: int | None = None
    start: int = 0
    stop: int | None = None

    def admits(self, destination: Endpoint, batch: PacketBatch) -> bool:
        """Whether `batch` shows that packets to `destination` are those that count."""
        is_there = self.group in (None, destination[0]) and self.port in (None, destination[1])
        oids = batch.rows["oid"]
        return is_there and (self.oid is None or bool((oids == np.uint64(self.oid)).any()))


def find_group(capture: Capture, choice: Choice) -> Endpoint:
    """Return where the first packet of a session goes that `choice` admits.

    Raises:
        ObjectError: There is none.
    """
    others: dict[Endpoint, None] = {}
    refused: Counter[str] = Counter()
    for datagrams in capture.datagrams():
        for batch in split(datagrams, refused):
            if batch.kind is PacketType.NAK:
                continue  # they go to a repairer, not to a group
            if choice.admits(datagrams.destination, batch):
                return datagrams.destination
            if len(others) < SHOWN_RANGES:
                others[datagrams.destination] = None
    if others:
        names = ", ".join(f"{address} port {port}" for address, port in others)
        raise ObjectError(f"{capture.path}: no pgmlite packets as asked for; there are: {names}")
    cut = "cut off inside a packet, and " if capture.is_cut else ""
    raise ObjectError(f"{capture.path}: {cut}no pgmlite packets{why_none(capture, refused)}")


def nak_due(now: int, nak: SendNak, manifest: Manifest | None) -> NakDue:
    """Return what there is to tell of a NAK that would be sent.

    Args:
        manifest: Of the object; without one nothing is asked for by count.
    """
    header = HEADER.parse(nak.packet)
    total = pieces(header.size, header.symbol_size)
    rings = manifest.geometry.counted if manifest else None
    asked = parse_nak(nak.packet[HEADER_SIZE:], total, rings)
    if asked.counts:
        counts = zip(asked.counts.blocks.tolist(), asked.counts.counts.tolist(), strict=True)
        return NakDue(now, nak.endpoint, (), tuple(counts), nak.packet)
    symbols = asked.symbols
    ranges = tuple((int(symbols[start]), int(symbols[stop - 1])) for start, stop in runs(symbols))
    return NakDue(now, nak.endpoint, ranges, (), nak.packet)


class ReplayLoop:
    """Drives a `Receiver` by a capture, under its clock."""

    def __init__(
        self,
        machine: Receiver,
        capture: Capture,
        part: Part,
        tell: Tell,
        *,
        choice: Choice,
        group: Endpoint,
        loss: Loss | None = None,
        reorder: Reorder | None = None,
        realtime: bool = False,
    ) -> None:
        """
        Args:
            group: Address and port that `find_group` gave.
            realtime: Take the time that the capture took.
        """
        self._machine = machine
        self._capture = capture
        self._part = part
        self._tell = tell
        self._choice = choice
        self._group = group
        self._loss = loss
        self._reorder = reorder
        self._realtime = realtime
        self._behind: int | None = None
        """ns that our clock is ahead of the capture's."""

        self._sqns: dict[Endpoint, int] = {}
        """Source -> sqn of its last packet."""

        self._heard: dict[tuple[Endpoint, int], None] = {}
        """Sources and tsis, the one heard last at the end."""

        self._steps: int | None = None
        """How often the capture's clock was set before its last packet."""

        self._passed = 0
        """ns that are taken to have passed while it was."""

        self.now = 0
        """Time in the capture, ns."""

    def run(self) -> Waits[Complete]:
        """Return once the object is whole and settled; it is left to the caller to publish.

        Raises:
            Interrupted: It was asked to stop.
            TimedOut: The capture ended before the object was complete.
            DiskError: The disk refuses.
            ObjectError: The capture is damaged.
        """
        machine = self._machine
        done: Complete | None = None
        for datagrams in self._chosen():
            yield Wait(0)
            done = yield from self._take(datagrams)
            if done:
                return done
        for batch in self._reorder.flush() if self._reorder else ():
            done = done or self._perform(machine.receive(self.now, batch))
        done = done or self._tick(self.now)
        if done:
            return done
        raise TimedOut(self._why())

    def _chosen(self) -> Iterator[Datagrams]:
        """Yield the datagrams that count."""
        capture, choice = self._capture, self._choice
        for datagrams in capture.datagrams():
            if datagrams.destination != self._group:
                continue
            first = (capture.first or 0) + choice.start
            last = None if choice.stop is None else (capture.first or 0) + choice.stop
            times = datagrams.times
            if last is not None and int(times[0]) >= last:
                return
            if int(times[0]) >= first and (last is None or int(times[-1]) < last):
                yield datagrams
                continue
            inside = times >= first
            if last is not None:
                inside &= times < last
            if inside.any():
                yield datagrams.select(inside)

    def _take(self, datagrams: Datagrams) -> Waits[Complete | None]:
        machine = self._machine
        self._pass_steps(datagrams)
        times, at, count = datagrams.times + self._passed, 0, len(datagrams)
        gaps = self._has_gap(datagrams) or bool(self._loss or self._reorder)
        while at < count:
            due = int(times[at])
            if self._realtime:
                yield from self._wait(due)
            done = self._tick(due)
            if done:
                return done
            # Not beyond the next timer: what it does may depend on what came before it only.
            is_timed = machine.knows_repairer and (gaps or machine.lost)
            limit = due + (GATHER if is_timed else GATHER_LOSSLESS)
            deadline = machine.deadline
            if deadline is not None:
                limit = min(limit, max(deadline, due))
            stop = int(times.searchsorted(limit, "right"))
            self.now = int(times[stop - 1])
            some = datagrams.select(slice(at, stop))
            for batch in split(some, machine.counters.refused, self.now):
                kept = self._loss.apply(batch) if self._loss else batch
                for one in self._reorder.apply(kept) if self._reorder else (kept,):
                    done = self._perform(machine.receive(self.now, one))
                    if done:
                        return done
            at = stop
        return None

    def _pass_steps(self, datagrams: Datagrams) -> None:
        """Decide how much time passed where the clock was set: none, if a session goes on."""
        rows = datagrams.rows
        if rows is None:
            return
        ours = (rows["magic"] == MAGIC) & (rows["version"] == VERSION)
        keys = [(datagrams.source, tsi) for tsi in np.unique(rows["tsi"][ours]).tolist()]
        if not keys:
            return
        if self._steps not in (None, datagrams.steps) and not any(k in self._heard for k in keys):
            self._passed += PAUSE
        self._steps = datagrams.steps
        for key in keys:
            self._heard.pop(key, None)
            self._heard[key] = None
        while len(self._heard) > MAX_SOURCES:
            del self._heard[next(iter(self._heard))]

    def _has_gap(self, datagrams: Datagrams) -> bool:
        """Whether the sqns do not count up by one, from those before on."""
        rows = datagrams.rows
        if rows is None:
            return True
        sqns = rows["sqn"].astype(np.int64)
        before = self._sqns.get(datagrams.source)
        if len(self._sqns) >= MAX_SOURCES:
            self._sqns.clear()
        self._sqns[datagrams.source] = int(sqns[-1])
        steps = np.diff(sqns, prepend=sqns[0] - 1 if before is None else before)
        return bool((steps % (1 << 32) != 1).any())

    def _tick(self, until: int) -> Complete | None:
        """Let the timers run out that end by `until`."""
        machine = self._machine
        while (deadline := machine.deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            done = self._perform(machine.tick(self.now))
            if done:
                return done
        return None

    def _perform(self, actions: list[Action]) -> Complete | None:
        """Do what the machine says; return `Complete` once the object is all there."""
        todo = actions
        while todo:
            follow_up: list[Action] = []
            for action in todo:
                if isinstance(action, SendNak):
                    self._tell(nak_due(self.now, action, self._machine.manifest))
                elif isinstance(action, Complete):
                    if bad := self._part.settle(action):
                        follow_up += self._machine.doubt(action.oid, bad)
                        continue
                    tell_of_disk(self.now, self._part, self._tell)
                    return action
                else:
                    follow_up += attend(action, self._machine, self._part, self._tell)
            todo = follow_up
        tell_of_disk(self.now, self._part, self._tell)
        return None

    def _wait(self, due: int) -> Waits[None]:
        """Wait until the capture's time `due` has come."""
        if self._behind is None:
            self._behind = time.monotonic_ns() - due
        while (left := due + self._behind - time.monotonic_ns()) > 0:
            yield Wait(left)

    def _why(self) -> str:
        """Say what was missing at the end of the capture."""
        text = "; ".join([self._missing(), *hints(self._capture), *notes(self._capture)])
        return f"{self._capture.path}: {text}"

    def _missing(self) -> str:
        machine = self._machine
        end = "cut off inside a packet" if self._capture.is_cut else "the capture ends"
        if not machine.counters.packets:
            return f"{end}, and no valid packet was in the chosen part"
        stored, symbols = machine.progress
        if stored < symbols:
            ranges = machine.missing
            shown = ", ".join(f"{start}-{stop - 1}" for start, stop in ranges[:SHOWN_RANGES])
            more = len(ranges) - SHOWN_RANGES
            rest = f" and {more} more ranges" if more > 0 else ""
            return (
                f"{end}, {symbols - stored} of {symbols} symbols are missing: bytes {shown}{rest}"
            )
        return f"{end}, the {'tree of blocks' if machine.manifest else 'manifest'} is missing"
