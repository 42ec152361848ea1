"""The loop of a sender or repairer: machine to socket, NAKs to machine."""

from __future__ import annotations

import contextlib
import errno
import gc
import select
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pgmlite.core.machine import MS, SECOND, Action, Finished, Transmit
from pgmlite.core.sender import Sender
from pgmlite.errors import NetworkError
from pgmlite.net.loop import EXPECTED_SYMBOL_SIZE, POLL, REPORT_EVERY, Listener, Stop, sleep
from pgmlite.net.udp import PASSING, STRANGERS, NakSocket, ReceiverSocket, SenderSocket
from pgmlite.storage.source import SourceFile
from pgmlite.wire import batch as wire

LISTEN_TIME = MS // 4
"""Packets that are there are taken for so long, even if that makes a burst late."""

LISTEN_LATE = 8 * MS
"""A sender that is behind its rate listens no more often: a flood of NAKs must not cost the
carousel its share."""


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
                sleep(deadline - now)
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
        sleep(POLL)
        if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
            # The socket may be tied to an index or an address that is no more.
            with contextlib.suppress(NetworkError):  # still gone: the next burst tries again
                self.socket.reopen()
                for ear in self.ears:
                    ear.rejoin()
