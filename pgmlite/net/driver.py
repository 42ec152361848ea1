"""The loops that drive the machines: clock, signals, waiting; socket to machine to disk."""

from __future__ import annotations

import contextlib
import errno
import gc
import select
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from pgmlite.core.impair import Loss
from pgmlite.core.machine import (
    MS,
    SECOND,
    Action,
    Adopted,
    Complete,
    Damaged,
    Finished,
    Prepare,
    SendNak,
    Store,
    Superseded,
    Transmit,
    Verify,
)
from pgmlite.core.sender import Sender
from pgmlite.errors import Interrupted, NetworkError, TimedOut
from pgmlite.net.storage import PartFile, SourceFile
from pgmlite.net.udp import PASSING, STRANGERS, NakSocket, ReceiverSocket, SenderSocket
from pgmlite.wire import batch as wire

if TYPE_CHECKING:
    from pgmlite.core.receiver import Receiver  # a sender starts sooner without it

POLL = 100 * MS
"""Longest wait before signals and time limits are looked at again."""

REJOIN_AFTER = 5 * SECOND
"""Silence after which the group is joined anew: a switch may have forgotten us."""

REPORT_EVERY = 1 * SECOND

EXPECTED_SYMBOL_SIZE = 1_404
"""Bytes; what senders on one Ethernet choose. A guess: others cost one more copy, once."""

LISTEN_TIME = MS // 4
"""Packets that are there are taken for so long, even if that makes a burst late."""

LISTEN_LATE = 8 * MS
"""A sender that is behind its rate listens no more often: a flood of NAKs must not cost the
carousel its share."""

BATCH_BYTES = 1 << 20
"""At high rates a receiver sleeps until about this much has come: large batches cost less."""

LONGEST_NAP = 10 * MS
SHORTEST_NAP = MS // 5


class Stop:
    """Turns SIGINT and SIGTERM into `Interrupted` at the next safe point."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def install(self) -> None:
        """Take over both signals, in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def check(self) -> None:
        """
        Raises:
            Interrupted: A signal came.
        """
        if self._signal:
            raise Interrupted(f"stopped by {self._signal.name}")


class Listener(Protocol):
    """What the loops tell the user."""

    def adopted(self, action: Adopted) -> None:
        """The manifest came."""

    def superseded(self, action: Superseded) -> None:
        """Another object took this one's place."""

    def damaged(self, action: Damaged) -> None:
        """A block did not verify and will be fetched again."""

    def progress(self) -> None:
        """Called about once a second."""

    def warn(self, text: str) -> None:
        """Something the user can mend."""


def _sleep(nanoseconds: int) -> None:
    if nanoseconds > 0:
        time.sleep(min(nanoseconds, POLL) / SECOND)


def attend(action: Action, machine: Receiver, part: PartFile, listener: Listener) -> list[Action]:
    """Do what a receiver says of disks and people; return what follows from it.

    Raises:
        DiskError: The disk refuses.
    """
    match action:
        case Store():
            for runs in action.pieces():
                part.write(runs)
        case Verify():
            ok = part.matches(action.offset, action.length, action.digest)
            return machine.verified(action.block, ok=ok)
        case Prepare():
            machine.resume(part.prepare(action.size))
        case Adopted():
            part.begin(action.manifest.size, action.manifest.block_size)
            listener.adopted(action)
        case Superseded():
            listener.superseded(action)
        case Damaged():
            listener.damaged(action)
    return []


@dataclass(slots=True)
class SendLoop:
    """Drives a `Sender` until it is finished or stopped."""

    machine: Sender
    socket: SenderSocket
    source: SourceFile
    buffer: wire.SendBuffer
    call_packets: int
    """Packets one system call takes."""

    listener: Listener
    stop: Stop
    ears: Sequence[NakSocket | ReceiverSocket] = ()
    """Where NAKs arrive, and for a stand-alone repairer the group; none for a pure carousel."""

    _down_since: int | None = None
    _heard: wire.ReceiveBuffer = field(
        default_factory=lambda: wire.ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
    )

    def run(self) -> None:
        """
        Raises:
            Interrupted: A signal came.
            DiskError: The source changed or can't be read.
            NetworkError: Packets can't be sent, and waiting would not help.
        """
        gc.freeze()  # nothing of the start-up becomes garbage: do not look at it again
        now = time.monotonic_ns()
        self.machine.start(now)
        report = now + REPORT_EVERY
        listen_at = now
        while True:
            self.stop.check()
            if self._perform(self.machine.tick(now), now):
                self.source.check()
                return
            now = time.monotonic_ns()
            if now >= report:
                report = now + REPORT_EVERY
                self.source.check()
                self.listener.progress()
            deadline = self.machine.deadline
            if self.ears and (deadline is None or deadline > now or now >= listen_at):
                self._listen(0 if deadline is None else deadline - now)
                now = time.monotonic_ns()
                listen_at = now + LISTEN_LATE if self.machine.is_paced else now
            elif deadline is not None and deadline > now:
                _sleep(deadline - now)
                now = time.monotonic_ns()

    def _perform(self, actions: list[Action], now: int) -> bool:
        """Do what the machine says; True if it has finished."""
        for action in actions:
            if isinstance(action, Finished):
                return True
            if isinstance(action, Transmit):
                self._transmit(action, now)
        return False

    def _listen(self, patience: int) -> None:
        """Wait `patience` ns at most for packets; take what there is time for."""
        end = time.monotonic_ns() + max(patience, LISTEN_TIME)
        wait = min(max(patience, 0), POLL) / SECOND
        ready = select.select(self.ears, (), (), wait)[0]
        while ready:
            ready = [ear for ear in ready if self._take(ear)]
            if time.monotonic_ns() >= end:
                break

    def _take(self, ear: NakSocket | ReceiverSocket) -> bool:
        """Give the machine what a few reads bring; False if nothing is left."""
        arrival = None
        refused = self.machine.repairs.refused if self.machine.repairs else Counter[str]()
        for _ in range(ear.READS_AT_ONCE):
            room = self._heard.room()
            try:
                arrival = ear.read_into(room) if room else None
            except OSError as error:
                self.listener.warn(f"{self.socket.channel}: {error.strerror}")
                arrival = None
            if arrival is None:
                break
            if arrival.length:
                self._heard.add(arrival.length, arrival.stride, arrival.source)
            else:
                refused["short"] += 1
        now = time.monotonic_ns()
        for batch in self._heard.batches(refused):
            self._perform(self.machine.receive(now, batch), now)
        return arrival is not None

    def _transmit(self, burst: Transmit, now: int) -> None:
        payload, length = burst.payload, burst.length
        if isinstance(payload, bytes):
            if len(burst.rows) == 1:  # an SPM may be longer than a small symbol
                self._send([burst.rows.tobytes(), payload], now)
                return
            self.buffer.payload[:length] = payload
        else:
            self.source.gather(self.buffer.payload, payload.extents())
        self.buffer.write_headers(burst.rows)
        count = len(burst.rows)
        for start in range(0, count, self.call_packets):
            stop = min(start + self.call_packets, count)
            self._send(self.buffer.pieces(start, stop, length), now)

    def _send(self, pieces: Sequence[bytes | memoryview], now: int) -> None:
        try:
            try:
                self.socket.send(pieces, self.buffer.stride)
            except OSError:
                # spec: SND-10: it may be an ICMP message, true or forged, that waited for a call:
                # this call took it away, and sent nothing.
                self.socket.send(pieces, self.buffer.stride)
        except OSError as error:
            if error.errno in STRANGERS:
                return
            if error.errno == errno.EMSGSIZE:
                raise NetworkError(
                    f"{self.socket.channel}: packets do not fit the interface's MTU; lower --mtu"
                ) from error
            if error.errno not in PASSING:
                raise NetworkError(f"{self.socket.channel}: {error.strerror}") from error
            self._wait_for_link(error, now)
        else:
            if self._down_since is not None:
                seconds = (now - self._down_since) / SECOND
                self.listener.warn(f"{self.socket.channel}: sending again after {seconds:.1f} s")
                self._down_since = None

    def _wait_for_link(self, error: OSError, now: int) -> None:
        """Say once that the link is down, and give it time; the carousel goes on by the clock."""
        if self._down_since is None:
            self._down_since = now
            self.listener.warn(f"{self.socket.channel}: {error.strerror}; trying on")
        _sleep(POLL)
        if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
            # The socket may be tied to an index or an address that is no more.
            with contextlib.suppress(NetworkError):  # still gone: the next burst tries again
                self.socket.reopen()
                for ear in self.ears:
                    ear.rejoin()


class ReceiveLoop:
    """Drives a `Receiver` until its object is published, time is up, or it is stopped."""

    def __init__(
        self,
        machine: Receiver,
        socket: ReceiverSocket,
        part: PartFile,
        listener: Listener,
        stop: Stop,
        *,
        timeout: int | None,
        loss: Loss | None,
    ) -> None:
        """
        Args:
            timeout: ns from the start; None: wait for ever.
            loss: Drops packets on purpose, for tests and demonstrations.
        """
        self._machine = machine
        self._socket = socket
        self._part = part
        self._listener = listener
        self._stop = stop
        self._timeout = timeout
        self._loss = loss
        self._buffer = wire.ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
        self._refused: Counter[str] = machine.counters.refused
        self._heard = 0
        self._is_down = False
        self._nak_socket: NakSocket | None = None
        # No nap may fill more than a part of what the system buffers for us.
        self._read_at = self._gathered_at = 0
        self._batch_bytes = min(BATCH_BYTES, socket.granted // 8)

    def run(self) -> Complete:
        """
        Raises:
            Interrupted: A signal came.
            TimedOut: `timeout` passed.
            DiskError: The disk refuses.
        """
        gc.freeze()
        now = time.monotonic_ns()
        end = None if self._timeout is None else now + self._timeout
        self._heard = now
        report = now + REPORT_EVERY
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        done = self._perform(self._machine.start(now))
        while done is None:
            self._stop.check()
            if end is not None and now >= end:
                raise TimedOut(self._why_late())
            if now >= report:
                report = now + REPORT_EVERY
                self._listener.progress()
            deadline = self._machine.deadline
            wait = POLL if deadline is None else max(0, min(POLL, deadline - now))
            if end is not None:
                wait = min(wait, end - now)
            if poller.poll(wait / MS):
                self._nap(now)
                done = self._read()
            now = time.monotonic_ns()
            if done is None and deadline is not None and now >= deadline:
                done = self._perform(self._machine.tick(now))
            if now - self._heard >= REJOIN_AFTER:
                self._rejoin(now)
                poller = select.poll()
                poller.register(self._socket, select.POLLIN)
        return done

    def _why_late(self) -> str:
        """Say what was missing when the time was up."""
        channel = self._socket.channel
        if not self._machine.counters.packets:
            return f"timed out: no valid packet came to {channel}"
        if not self._machine.manifest:
            return f"timed out: packets but no manifest came to {channel}"
        stored, symbols = self._machine.progress
        return f"timed out: {symbols - stored} of {symbols} symbols are missing"

    def _nap(self, now: int) -> None:
        """Let packets gather if they come so fast that the batch will be worth it."""
        wait = self._gathered_at - now
        if SHORTEST_NAP <= wait <= 2 * LONGEST_NAP:  # half a batch in the longest is worth it
            time.sleep(min(wait, LONGEST_NAP) / SECOND)

    def _batch_worth(self) -> int:
        """Return the bytes that are worth a nap: no more than are missing, if repairs bring them.

        The last repairs are asked for one after another: a nap makes every one of them late.
        """
        if not self._machine.knows_repairer:
            return self._batch_bytes
        stored, symbols = self._machine.progress
        return min(self._batch_bytes, (symbols - stored) * self._buffer.stride)

    def _read(self) -> Complete | None:
        """Read what is there, up to a buffer, and give it to the machine in few batches."""
        count = 0
        buffer = self._buffer
        for _ in range(buffer.ROWS):
            room = buffer.room()
            if room is None:
                break
            try:
                arrival = self._socket.read_into(room)
            except OSError as error:
                self._listener.warn(f"{self._socket.channel}: {error.strerror}")
                break
            if arrival is None:
                break
            if not arrival.length:
                self._refused["short"] += 1
                continue
            buffer.add(arrival.length, arrival.stride, arrival.source)
            count += arrival.length
        now = time.monotonic_ns()
        if count:
            self._heard = now
            self._gathered_at = now + (now - self._read_at) * self._batch_worth() // count
            self._read_at = now
        for batch in buffer.batches(self._refused):
            kept = self._loss.apply(batch) if self._loss else batch
            done = self._perform(self._machine.receive(now, kept))
            if done:
                return done
        return None

    def _perform(self, actions: list[Action]) -> Complete | None:
        """Do what the machine says; return `Complete` once the object is published."""
        todo = actions
        while todo:
            follow_up: list[Action] = []
            for action in todo:
                match action:
                    case SendNak():
                        self._send_nak(action)
                    case Complete():
                        # Leave first: syncing may take long, and the group costs others.
                        self._socket.close()
                        if self._nak_socket:
                            self._nak_socket.close()
                        self._part.publish(action.manifest.size)
                        return action
                    case _:
                        if isinstance(action, Prepare):
                            self._buffer.expect(action.symbol_size)
                        follow_up += attend(action, self._machine, self._part, self._listener)
            todo = follow_up
        return None

    def _send_nak(self, nak: SendNak) -> None:
        try:
            if self._nak_socket is None:
                self._nak_socket = NakSocket(self._socket.channel, 0)
            self._nak_socket.send(nak.packet, nak.endpoint)
        except NetworkError as error:
            # The carousel brings what a NAK would: a missing socket is no reason to stop.
            self._listener.warn(f"{error}; waiting for the carousel instead")

    def _rejoin(self, now: int) -> None:
        self._heard = now
        try:
            self._socket.rejoin()
            if self._nak_socket:
                self._nak_socket.rejoin()
            self._is_down = False
        except NetworkError as error:
            if not self._is_down:
                self._listener.warn(f"{error}; waiting for it")
            self._is_down = True
