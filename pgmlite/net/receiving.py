"""The loop of a receiver: socket to machine to disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from pgmlite.core.decode import Decoded
from pgmlite.core.events import Adopted, Fact, ReceiveProgress, Tell, Warned
from pgmlite.core.figures import NetworkFigures, ReceiveFigures
from pgmlite.core.human import human_bytes, human_rate
from pgmlite.core.impair import Loss
from pgmlite.core.machine import MS, SECOND, Action, Complete, Decode, Prepare, SendNak
from pgmlite.core.receive.diagnosis import Diagnosis, Load
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import NetworkError, TimedOut
from pgmlite.net.decoding import Decoder
from pgmlite.net.loop import (
    EXPECTED_SYMBOL_SIZE,
    REJOIN_AFTER,
    REPORT_EVERY,
    attend,
    take_decoded,
    tell_of_disk,
)
from pgmlite.net.udp import NakSocket, ReceiverSocket
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.part import PartFile
from pgmlite.wire import batch as wire

BATCH_BYTES = 1 << 20
"""At high rates a receiver sleeps until about this much has come: large batches cost less."""

LONGEST_NAP = 10 * MS
SHORTEST_NAP = MS // 5

BUFFER_MS = 100
"""A receive buffer should hold this much of the rate: the longest pause of a busy machine."""


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


class ReceiveLoop:
    """Drives a `Receiver` until its object is published, or time is up."""

    def __init__(
        self,
        machine: Receiver,
        socket: ReceiverSocket,
        part: PartFile,
        tell: Tell,
        *,
        timeout: int | None = None,
        loss: Loss | None = None,
    ) -> None:
        """
        Args:
            socket: Is closed at the end.
            timeout: ns from the start; None: wait for ever.
            loss: Drops packets on purpose, for tests and demonstrations.
        """
        self._machine = machine
        self._socket = socket
        self._part = part
        self._tell = tell
        self._timeout = timeout
        self._loss = loss
        self._buffer = wire.ReceiveBuffer(EXPECTED_SYMBOL_SIZE)
        self._decoder = Decoder(part.decode)
        self._refused: Counter[str] = machine.counters.refused
        self._began = self._now = self._heard = 0
        self._is_down = False
        self._nak_socket: NakSocket | None = None
        self.is_new = True
        """False, after `run`: the output was the object already, and was not touched."""

        self._nak_errors: set[int | None] = set()
        self._disk_time = 0
        self._diagnosis = Diagnosis(
            machine,
            str(socket.channel),
            overhead=socket.channel.overhead,
            granted=socket.granted,
            wanted=socket.wanted,
        )
        # No nap may fill more than a part of what the system buffers for us.
        self._read_at = self._gathered_at = 0
        self._byte_time = 0.0
        """ns from byte to byte that comes, at the latest read."""

        self._batch_bytes = min(BATCH_BYTES, socket.granted // 8)

    def run(self) -> Waits[Complete]:
        """
        Raises:
            Interrupted: It was asked to stop.
            TimedOut: `timeout` passed.
            DiskError: The disk refuses.
        """
        try:
            return (yield from self._run())
        finally:
            self._leave()
            self._decoder.close()

    def _run(self) -> Waits[Complete]:
        self._now = self._began = self._heard = now = time.monotonic_ns()
        end = None if self._timeout is None else now + self._timeout
        report = now + REPORT_EVERY
        self._watch(now)
        done = self._do(self._machine.start(now))
        while done is None:
            if end is not None and now >= end:
                raise TimedOut(self._diagnosis.why_late(now))
            if now >= report:
                report = now + REPORT_EVERY
                self._watch(now)
                self._tell(self._progress(now))
                self._part.write_back.idle()
            deadline = self._machine.deadline
            wait = POLL if deadline is None else deadline - now
            if end is not None:
                wait = min(wait, end - now)
            if (yield from self._wait(wait, now)):
                done = self._read()
            done = done or self._do(self._decoder.take())
            self._now = now = time.monotonic_ns()
            if done is None and deadline is not None and now >= deadline:
                done = self._do(self._machine.tick(now))
            if now - self._heard >= REJOIN_AFTER:
                self._rejoin(now)
        return done

    def _wait(self, wait: int, now: int) -> Waits[bool]:
        """Wait `wait` ns at most for packets or a decoded block; return whether to read packets."""
        decoding = self._decoder.fds
        stored, symbols = self._machine.progress
        if decoding and stored == symbols:
            # What comes now is hardly needed, and reading it keeps the decoder from its work.
            rest = min(LONGEST_NAP, int(self._batch_bytes * self._byte_time))
            yield Wait(min(wait, rest), decoding)
            return time.monotonic_ns() - self._read_at >= rest
        ready = yield Wait(wait, (self._socket.fileno(), *decoding))
        if self._socket.fileno() not in ready:
            return False
        if nap := self._nap(now):
            yield Wait(nap)
        return True

    # What there is to tell.

    def _warn(self, text: str, cause: str = "", facts: Mapping[str, Fact] | None = None) -> None:
        self._tell(Warned(self._now, text, cause, facts))

    def figures(self, now: int) -> tuple[ReceiveFigures, NetworkFigures]:
        """Return the counters at `now` ns."""
        evidence = self._machine.evidence

        def since(moment: int | None) -> float | None:
            return None if moment is None else round((now - moment) / SECOND, 3)

        network = NetworkFigures(
            kernel_drops=self._socket.kernel_drops,
            naks_unsent=evidence.naks_unsent,
            transfer_seconds=since(evidence.began),
            silence=since(self._machine.heard),
        )
        return receive_figures(self._machine, (now - self._began) / SECOND), network

    def _progress(self, now: int) -> ReceiveProgress:
        stored, symbols = self._machine.progress
        has_manifest = self._machine.manifest is not None
        left = self._machine.time_left(now)
        seconds = None if left is None else round(left / SECOND, 3)
        return ReceiveProgress(now, stored, symbols, has_manifest, seconds, *self.figures(now))

    def _watch(self, now: int) -> None:
        """Say what keeps the transfer from getting on."""
        load = Load(self._socket.kernel_drops, self._disk_time)
        for finding in self._diagnosis.look(now, load):
            self._warn(finding.text, finding.cause, finding.facts)

    def _nap(self, now: int) -> int:
        """Return for how long packets may gather, ns: they come so fast that it is worth it."""
        wait = self._gathered_at - now
        # Half a batch in the longest is worth it.
        return min(wait, LONGEST_NAP) if SHORTEST_NAP <= wait <= 2 * LONGEST_NAP else 0

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
                self._warn(f"{self._socket.channel}: {error.strerror}", "interface")
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
        self._now = now = time.monotonic_ns()
        if count:
            self._heard = now
            self._gathered_at = now + (now - self._read_at) * self._batch_worth() // count
            self._byte_time = (now - self._read_at) / count
            self._read_at = now
        for batch in buffer.batches(self._refused, now):
            kept = self._loss.apply(batch) if self._loss else batch
            done = self._do(self._machine.receive(now, kept))
            if done:
                return done
        return None

    def _do(self, actions: Sequence[Action | Decoded]) -> Complete | None:
        """Do what the machine says, and note how long it takes: hardly anything but disks does."""
        began = time.monotonic_ns()
        done = self._perform(actions)
        self._disk_time += time.monotonic_ns() - began
        return done

    def _perform(self, actions: Sequence[Action | Decoded]) -> Complete | None:
        """Do what the machine says; return `Complete` once the object is published."""
        todo = actions
        while todo:
            follow_up: list[Action] = []
            for action in todo:
                match action:
                    case SendNak():
                        self._send_nak(action)
                    case Complete():
                        if bad := self._part.settle(action):
                            follow_up += self._machine.doubt(action.oid, bad)
                            continue
                        # Leave first: syncing may take long, and the group costs others.
                        self._leave()
                        self.is_new = self._part.publish(action)
                        tell_of_disk(self._now, self._part, self._tell)
                        return action
                    case Decode():
                        self._decoder.add(action)
                    case Decoded():
                        follow_up += take_decoded(action, self._machine, self._part)
                    case _:
                        if isinstance(action, Prepare):
                            self._buffer.expect(action.symbol_size)
                            self._decoder.forget()  # of another object
                        follow_up += attend(action, self._machine, self._part, self._tell)
                        if isinstance(action, Adopted):
                            self._look_at_buffer(action.rate)
            todo = follow_up
        tell_of_disk(self._now, self._part, self._tell)
        return None

    def _leave(self) -> None:
        self._socket.close()
        if self._nak_socket:
            self._nak_socket.close()

    def _look_at_buffer(self, rate: int) -> None:
        """Say so if the system buffers too little of `rate` bit/s."""
        granted = self._socket.granted
        wanted = rate * BUFFER_MS // 8_000
        if granted < wanted:
            held = granted * 8_000 // rate
            self._warn(
                f"the receive buffer of {human_bytes(granted)} holds {held} ms of "
                f"{human_rate(rate)}: packets may be lost; as root: sysctl -w "
                f"net.core.rmem_max={wanted}",
                "buffer",
            )

    def _send_nak(self, nak: SendNak) -> None:
        try:
            if self._nak_socket is None:
                self._nak_socket = NakSocket(self._socket.channel, 0)
            self._nak_socket.send(nak.packet, nak.endpoint)
        except NetworkError as error:
            # The carousel brings what a NAK would: a missing socket is no reason to stop.
            self._nak_failed(error, None)
        except OSError as error:
            self._nak_failed(f"no NAK can be sent to {nak.endpoint}: {error.strerror}", error.errno)

    def _nak_failed(self, why: object, number: int | None) -> None:
        """Count a NAK that did not leave; say once for each reason why."""
        self._machine.evidence.naks_unsent += 1
        if number not in self._nak_errors:
            self._nak_errors.add(number)
            self._warn(f"{why}; waiting for the carousel instead", "nak")

    def _rejoin(self, now: int) -> None:
        self._heard = now
        try:
            self._socket.rejoin()
            if self._nak_socket:
                self._nak_socket.rejoin()
            self._is_down = False
        except NetworkError as error:
            if not self._is_down:
                self._warn(f"{error}; waiting for it", "interface")
            self._is_down = True
