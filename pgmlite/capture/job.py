"""The replay of a capture from its arguments to its end."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pgmlite.capture.file import Capture
from pgmlite.capture.notes import capture_figures, notes
from pgmlite.capture.replay import Choice, ReplayLoop
from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Completed, ReplayFailed, ReplayStarted, Tell, Warned
from pgmlite.core.impair import Loss, Reorder
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.trust import Trust
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.destinations.choice import Kind, open_destination, parse_where
from pgmlite.net.destinations.contract import Destination
from pgmlite.net.loop import tell_of_disk
from pgmlite.net.receiving import receive_figures
from pgmlite.net.waiting import Waits
from pgmlite.storage.keys import load_public_keys
from pgmlite.storage.record import Identity, Publication, PublishedRecord
from pgmlite.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """What is replayed, and how.

    Attributes:
        group: Address and port that `find_group` gave.
        output: A file, or with a slash at the end a folder.
        keys: Public keys, or folders of them, as of `pgmlite.receive`. The clock of the capture
            counts, and no release that was installed: a replay shows what happened.
        stream: The only one whose releases are taken; empty: any.
        object_name: A pattern that the name of the object matches; empty: any.
        seed: Of the losses, of what comes late, and of the waits before NAKs.
        loss: Share of the packets that is dropped.
        reorder: Share of the packets that comes late.
        realtime: Take the time that the capture took.
    """

    capture: Capture
    group: Endpoint
    output: str
    choice: Choice
    config: ReceiverConfig
    keys: tuple[Path, ...]
    stream: str
    object_name: str
    seed: int
    loss: float
    reorder: float
    realtime: bool

    def run(self, tell: Tell) -> Waits[Completed]:
        """
        Raises:
            TimedOut: The capture ended before the object was complete.
            DiskError: The disk refuses.
            ObjectError: The capture is damaged.
            Interrupted: It was asked to stop.
            UsageError: A key is none, or the output is neither a file nor a folder.
        """
        where = parse_where(self.output)
        if where.kind not in (Kind.FILE, Kind.FOLDER):
            raise UsageError("output: name a file, or a folder with a / at its end", cause="output")
        seed = self.seed
        trust = None
        if self.keys:
            public = load_public_keys(self.keys)
            trust = Trust(public, unix_time=lambda: loop.now // SECOND, stream=self.stream)

        def before(identity: Identity | None) -> None:
            if machine.manifest and identity and destination.needs_record:
                record.write(Publication.of(machine.manifest, identity, machine.signers))
            else:
                record.remove()

        with closing(open_destination(where, before, tell, output_is_seed=False)) as destination:
            record = destination.record or PublishedRecord(where.path, lambda _: None)
            machine = Receiver(
                self.config,
                rng=Random(f"{seed}/back-off"),
                trust=trust,
                name=self.object_name,
                place=destination,
            )
            loop = ReplayLoop(
                machine,
                self.capture,
                destination.part,
                tell,
                choice=self.choice,
                group=self.group,
                loss=Loss(self.loss, Random(seed)) if self.loss else None,
                reorder=Reorder(self.reorder, Random(f"{seed}/reorder")) if self.reorder else None,
                realtime=self.realtime,
            )
            keys = trust.key_ids if trust else ()
            return (yield from self._run(loop, machine, destination, keys, tell))

    def _run(
        self,
        loop: ReplayLoop,
        machine: Receiver,
        destination: Destination,
        keys: tuple[bytes, ...],
        tell: Tell,
    ) -> Waits[Completed]:
        """Drive the loop, put what it brings in place, and say so."""
        began, capture, path = time.monotonic_ns(), self.capture, destination.name
        tell(ReplayStarted(capture.first or 0, str(capture.path), *self.group, path, keys))
        try:
            complete = yield from loop.run()
            yield from destination.publish(complete)
            tell_of_disk(loop.now, destination.part, tell)
        except PgmliteError as error:
            figures = receive_figures(machine, (time.monotonic_ns() - began) / SECOND)
            missing = tuple(machine.missing)
            tell(ReplayFailed(loop.now, error, missing, figures, capture_figures(capture)))
            raise
        for text in notes(capture):
            tell(Warned(loop.now, f"{capture.path}: {text}"))
        figures = receive_figures(machine, (time.monotonic_ns() - began) / SECOND)
        completed = Completed(
            loop.now,
            complete.manifest,
            path,
            is_new=True,
            reused=0,
            signed_by=machine.signers,
            per_source=machine.per_source,
            channel_seconds=(),
            figures=figures,
            capture=capture_figures(capture),
        )
        tell(completed)
        return completed
