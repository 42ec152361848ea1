"""The loop of a receiver: socket to machine to disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from pgmlite.core.causes import Fact
from pgmlite.core.decode import Decoded
from pgmlite.core.events import Adopted, ReceiveProgress, ReceiveStarted, Tell, Warned
from pgmlite.core.figures import NetworkFigures, ReceiveFigures
from pgmlite.core.human import MOST_NAMED, human_bytes, human_list, human_rate
from pgmlite.core.impair import Loss
from pgmlite.core.machine import (
    MS,
    SECOND,
    Action,
    Complete,
    Decode,
    DnsAnswer,
    Join,
    Leave,
    Prepare,
    Resolve,
    SendNak,
)
from pgmlite.core.receive.diagnosis import Diagnosis, Load
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.speed import Speed
from pgmlite.errors import TimedOut
from pgmlite.net.address import Channel
from pgmlite.net.decoding import Decoder
from pgmlite.net.discovery import Discovery
from pgmlite.net.listener import Listener
from pgmlite.net.loop import (
    EXPECTED_SYMBOL_SIZE,
    REJOIN_AFTER,
    REPORT_EVERY,
    attend,
    take_decoded,
    tell_of_disk,
)
from pgmlite.net.membership import Memberships
from pgmlite.net.nak_sender import NakSender
from pgmlite.net.receiver_socket import ReceiverSocket
from pgmlite.net.waiting import POLL, Wait, Waits, in_thread
from pgmlite.storage.contract import Part
from pgmlite.wire.buffers import ReceiveBuffer

BATCH_BYTES = 1 << 20
"""At high rates a receiver sleeps until about this much has come: large batches cost less."""

LONGEST_NAP = 10 * MS
SHORTEST_NAP = MS // 5
IDLE_NAP = 20 * MS
"""As long as nothing is received."""

FOREVER = 1 << 62
"""ns."""

BUFFER_MS = 100
"""A receive buffer should hold this much of the rate: the longest pause of a busy machine."""


Todo = Action | Decoded | DnsAnswer
"""What a machine says, and answers to what it said before, which others took their time for."""


def receive_figures(machine: Receiver, seconds: float) -> ReceiveFigures:
    """Return what a receiver has counted, `seconds` after its start."""
    counters, naks = machine.counters, machine.naks
    return ReceiveFigures(
        seconds=round(seconds, 3),
        cycles=round(machine.cycles, 4),
        packets=counters.packets,
        bytes=counters.bytes,
        odata=counters.odata,
        rdata=counters.rdata,
        repair_symbols_received=counters.repair_symbols_received,
        naks_sent=naks.naks_sent,
        naks_suppressed=naks.naks_suppressed,
        lost=machine.lost,
        fetched=counters.fetched,
        early=counters.early,
        unneeded=counters.unneeded,
        lost_unbelieved=machine.lost_unbelieved,
        duplicates=counters.duplicates,
        congested=counters.congested,
        decoded=counters.decoded,
        recovered=counters.recovered,
        damaged=counters.damaged,
        forged=counters.forged,
        refused=dict(sorted(counters.refused.items())),
    )


def network_figures(
    machine: Receiver, memberships: Memberships, speed: Speed, began: int, now: int
) -> NetworkFigures:
    """Return what a receiver that listens since `began` ns has counted of its network."""

    def between(start: int | None, end: int | None) -> float | None:
        return None if start is None or end is None else round((end - start) / SECOND, 3)

    counters, first = machine.counters, machine.evidence.began
    overhead = memberships.channel.overhead if memberships.channel else 0
    return NetworkFigures(
        kernel_drops=memberships.kernel_drops,
        naks_unsent=machine.evidence.naks_unsent,
        rate=speed.rate(now, counters.bytes + counters.packets * overhead),
        waited_seconds=between(began, first),
        transfer_seconds=between(first, now),
        silence=between(machine.heard, now),
    )


class ReceiveLoop:
    """Drives a `Receiver`, its `machine`, until its object is all there, or time is up."""

    def __init__(
        self,
        machine: Receiver,
        memberships: Memberships,
        part: Part,
        tell: Tell,
        *,
        output: str,
        keys: tuple[bytes, ...] = (),
        timeout: int | None = None,
        loss: Loss | None = None,
        discovery: Discovery | None = None,
    ) -> None:
        """
        Args:
            memberships: None yet; none are left at the end.
            output: Where the object will be, for who is told.
            keys: Ids of those whose objects are taken, likewise.
            timeout: ns from the start; None: wait for ever.
            loss: Drops packets on purpose, for tests and demonstrations.
            discovery: Looks names up; is closed at the end. None: there are none.
        """
        self.machine = machine
        self._memberships = memberships
        self._part = part
        self._tell = tell
        self._names = output, keys
        self._timeout = timeout
        self._loss = loss
        self._discovery = discovery or Discovery(())
        self._unresolved = "DNS has not answered yet"
        """Why it is a member of nothing yet."""

        self._buffer = ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
        self._decoder = Decoder(part.decode)
        self._refused: Counter[str] = machine.counters.refused
        self._began = self._now = self._heard = 0
        self._disk_time = 0
        self._speed = Speed()
        self._listener = Listener(memberships, tell, self._begin)
        self._asker = NakSender(memberships, machine.evidence, self._warn)
        self._diagnosis: Diagnosis | None = None
        """Why it does not get on; None: it is a member of nothing yet."""

        # No nap may fill more than a part of what the system buffers for us.
        self._read_at = self._gathered_at = 0
        self._byte_time = 0.0
        """ns from byte to byte that comes, at the latest read."""

    def run(self) -> Waits[Complete]:
        """Return once the object is whole and settled; it is left to the caller to publish.

        Raises:
            Interrupted: It was asked to stop.
            TimedOut: `timeout` passed.
            DiskError: The disk refuses.
            UsageError: What it shall hear first can't be heard.
            NetworkError: The network can't be used as asked, or DNS says that there is no service.
        """
        try:
            return (yield from self._run())
        finally:
            self._leave()
            self._decoder.close()
            self._discovery.close()

    def _run(self) -> Waits[Complete]:
        self._now = self._began = self._heard = now = time.monotonic_ns()
        end = now + (FOREVER if self._timeout is None else self._timeout)
        report = now + REPORT_EVERY
        self._speed.rate(now, 0)
        done = self._do(self.machine.start(now))
        self._watch(now)
        while True:
            if done:
                # Perhaps all of it is read back: that takes its time.
                bad = yield from in_thread(partial(self._part.settle, done))
                if not bad:
                    break
                done = self._do(self.machine.doubt(done.oid, bad))
                continue
            if now >= end:
                raise TimedOut(self._why_late(now))
            if now >= report:
                report = now + REPORT_EVERY
                self._watch(now)
                self._tell(self._progress(now))
                self._part.idle()
            deadline = self.machine.deadline
            wait = POLL if deadline is None else deadline - now
            if (yield from self._wait(min(wait, end - now), now)):
                done = self._read()
            done = done or self._do([*self._decoder.take(), *self._discovery.take()])
            self._now = now = time.monotonic_ns()
            if done is None and deadline is not None and now >= deadline:
                self.machine.listening.dropped(self._memberships.kernel_drops)
                done = self._do(self.machine.tick(now))
            if now - self._heard >= REJOIN_AFTER:
                self._heard = now
                self._listener.rejoin(now)
                self._asker.rejoin()
        # Leave first: publishing may take long, and the group costs others.
        self._leave()
        tell_of_disk(self._now, self._part, self._tell)
        return done

    def _wait(self, wait: int, now: int) -> Waits[bool]:
        """Wait `wait` ns at most for packets or a decoded block; return whether to read packets."""
        decoding = self._decoder.fds
        stored, symbols = self.machine.progress
        if decoding and stored == symbols:
            # What comes now is hardly needed, and reading it keeps the decoder from its work.
            rest = min(LONGEST_NAP, int(self._batch_bytes * self._byte_time))
            yield Wait(min(wait, rest), decoding)
            return time.monotonic_ns() - self._read_at >= rest
        fds = self._memberships.fds
        ready = yield Wait(wait, (*fds, *decoding, *self._discovery.fds))
        if set(fds).isdisjoint(ready):
            return False
        if nap := self._nap(now):
            yield Wait(nap)
        return True

    # What there is to tell.

    def _warn(self, text: str, cause: str = "", facts: Mapping[str, Fact] | None = None) -> None:
        self._tell(Warned(self._now, text, cause, facts))

    def figures(self, now: int) -> tuple[ReceiveFigures, NetworkFigures]:
        """Return the counters at `now` ns."""
        network = network_figures(self.machine, self._memberships, self._speed, self._began, now)
        return receive_figures(self.machine, (now - self._began) / SECOND), network

    def _progress(self, now: int) -> ReceiveProgress:
        stored, symbols = self.machine.progress
        has_manifest = self.machine.manifest is not None
        left = self.machine.time_left(now)
        seconds = None if left is None else round(left / SECOND, 3)
        return ReceiveProgress(now, stored, symbols, has_manifest, seconds, *self.figures(now))

    def _watch(self, now: int) -> None:
        """Say what keeps the transfer from getting on."""
        if self._diagnosis is None:
            return
        load = Load(self._memberships.kernel_drops, self._disk_time)
        for finding in self._diagnosis.look(now, load):
            self._warn(finding.text, finding.cause, finding.facts)

    def _why_late(self, now: int) -> str:
        if self._diagnosis is None:
            return f"timed out: {self._unresolved}"
        return self._diagnosis.why_late(now)

    def _nap(self, now: int) -> int:
        """Return for how long packets may gather, ns: they come so fast that it is worth it."""
        wait = self._gathered_at - now
        if self.machine.current is None:  # what is not taken shall not wake us packet by packet
            return max(0, min(wait, IDLE_NAP))
        # Half a batch in the longest is worth it.
        return min(wait, LONGEST_NAP) if SHORTEST_NAP <= wait <= 2 * LONGEST_NAP else 0

    @property
    def _batch_bytes(self) -> int:
        return min(BATCH_BYTES, self._memberships.granted // 8)

    def _batch_worth(self) -> int:
        """Return the bytes that are worth a nap: no more than are missing, if repairs bring them.

        The last repairs are asked for one after another: a nap makes every one of them late.
        """
        if not self.machine.knows_repairer:
            return self._batch_bytes
        stored, symbols = self.machine.progress
        return min(self._batch_bytes, (symbols - stored) * self._buffer.stride)

    def _read(self) -> Complete | None:
        """Read what is there, up to a buffer, and give it to the machine in few batches."""
        count = sum(self._read_from(socket) for socket in self._memberships.in_turn())
        buffer = self._buffer
        self._now = now = time.monotonic_ns()
        if count:
            self._heard = now
            self._gathered_at = now + (now - self._read_at) * self._batch_worth() // count
            self._byte_time = (now - self._read_at) / count
            self._read_at = now
        for batch in buffer.batches(self._refused, now):
            kept = self._loss.apply(batch) if self._loss else batch
            done = self._do(self.machine.receive(now, kept))
            if done:
                return done
        return None

    def _read_from(self, socket: ReceiverSocket) -> int:
        """Read what one socket has, up to a buffer; return the bytes."""
        count = 0
        buffer = self._buffer
        for _ in range(buffer.ROWS):
            room = buffer.room()
            if room is None:
                break
            try:
                arrival = socket.read_into(room)
            except OSError as error:
                self._warn(f"{socket.channel}: {error.strerror}", "interface")
                break
            if arrival is None:
                break
            if not arrival.length:
                self._refused["short"] += 1
                continue
            buffer.add(
                arrival.length, arrival.stride, arrival.source, is_congested=arrival.is_congested
            )
            count += arrival.length
        return count

    def _do(self, actions: Sequence[Todo]) -> Complete | None:
        """Do what the machine says, and note how long it takes: hardly anything but disks does."""
        began = time.monotonic_ns()
        done = self._perform(actions)
        self._disk_time += time.monotonic_ns() - began
        return done

    def _perform(self, actions: Sequence[Todo]) -> Complete | None:
        """Do what the machine says; return `Complete` once every block is verified."""
        todo, done = actions, None
        while todo:
            follow_up: list[Todo] = []
            for action in todo:
                match action:
                    case SendNak():
                        self._asker.send(action)
                    case Join():
                        self._listener.join(self._now, action)
                    case Leave():
                        self._listener.leave(self._now, action)
                    case Resolve():
                        self._discovery.add(action)
                    case DnsAnswer():
                        self._unresolved = action.text
                        follow_up += self.machine.resolved(self._now, action)
                    case Complete():
                        done = action
                    case Decode():
                        self._decoder.add(action)
                    case Decoded():
                        follow_up += take_decoded(action, self.machine, self._part)
                    case _:
                        if isinstance(action, Prepare):
                            self._buffer.expect(action.symbol_size)
                            self._decoder.forget()  # of another object
                        follow_up += attend(action, self.machine, self._part, self._tell)
                        if isinstance(action, Adopted):
                            self._look_at_buffer(action.rate)
            todo = follow_up
        self._listener.tell_of_joined(self._now)
        tell_of_disk(self._now, self._part, self._tell)
        return done

    def _leave(self) -> None:
        self._listener.close(self._now)
        self._asker.close()

    def _begin(self, channel: Channel, sources: tuple[str, ...]) -> None:
        """Take note, and tell, that it listens: to `channel` at first."""
        memberships = self._memberships
        self._diagnosis = Diagnosis(
            self.machine,
            f"{channel} from {human_list(sources, MOST_NAMED)}" if sources else str(channel),
            overhead=channel.overhead,
            granted=memberships.granted,
            wanted=memberships.wanted,
        )
        where = (channel.group, channel.port, channel.interface, sources)
        self._tell(ReceiveStarted(self._now, *where, memberships.granted, *self._names))

    def _look_at_buffer(self, rate: int) -> None:
        """Say so if the system buffers too little of `rate` bit/s."""
        granted = self._memberships.granted
        wanted = rate * BUFFER_MS // 8_000
        if granted < wanted:
            held = granted * 8_000 // rate
            self._warn(
                f"the receive buffer of {human_bytes(granted)} holds {held} ms of "
                f"{human_rate(rate)}: packets may be lost; as root: sysctl -w "
                f"net.core.rmem_max={wanted}",
                "buffer",
            )
