"""A receiver from its arguments to its end."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Completed, ReceiveFailed, Tell
from pgmlite.core.figures import OtherObject
from pgmlite.core.impair import Loss
from pgmlite.core.receive.offers import OneObject
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import PgmliteError
from pgmlite.net.completion import CompletionHook
from pgmlite.net.hook import Command
from pgmlite.net.installing import Installing
from pgmlite.net.limits import symbols_here
from pgmlite.net.membership import Memberships
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.waiting import Waits
from pgmlite.net.whom import whom_of_group, whom_of_name
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import remove_record


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveJob:
    """Arguments as of `pgmlite.receive`; times in ns."""

    output: Path
    name: str | None
    group: str
    port: int
    interface: str | None
    sources: tuple[str, ...]
    oid: int | None
    keys: tuple[Path, ...]
    stream: str
    object_name: str
    allow_rollback: bool
    timeout: int | None
    naks: bool
    repairers: tuple[str, ...]
    channels: range | None
    rate_limit: int | None
    max_size: int
    command: Command | None
    hook_timeout: int | None
    bases: tuple[Path, ...]
    verify_media: bool
    loss: float
    seed: int

    def run(self, tell: Tell) -> Waits[Completed]:
        """
        Raises:
            UsageError: An argument does not fit this machine or the group, or a key is none.
            NetworkError: The network can't be used as asked.
            DiskError: The disk refuses.
            TimedOut: `timeout` passed.
            Interrupted: It was asked to stop.
            HookError: The command failed; the output is in place.
        """
        with ExitStack() as opened:
            hook = None
            installing = Installing(
                self.keys, stream=self.stream, allow_rollback=self.allow_rollback
            )

            def before_rename(status: os.stat_result) -> None:
                installing.installing(machine)
                if hook is None:
                    remove_record(self.output)
                elif manifest := machine.manifest:
                    hook.publishing(manifest, status, machine.signers)

            part = PartFile(
                self.output,
                bases=self.bases,
                verify_media=self.verify_media,
                before_rename=before_rename,
            )
            opened.callback(part.close)
            if self.command:
                hook = CompletionHook(self.command, self.output, tell, timeout=self.hook_timeout)
                opened.callback(hook.close)
                yield from hook.resume()  # before the network, which may not be there yet
            rates = RatesConfig(self.channels, self.rate_limit)
            rest = (self.interface, self.sources, self.repairers, rates)
            whom = (
                whom_of_group(self.group, self.port, *rest)
                if self.name is None
                else whom_of_name(self.name, *rest)
            )
            config = ReceiverConfig(
                oid=self.oid,
                max_object_size=self.max_size,
                max_symbols=symbols_here(),
                naks=self.naks,
                repairers=whom.repairers,
            )
            # One that was asked for and does not fit is the user's to know at once.
            has_room = part.has_room if self.oid is None else None
            machine = Receiver(
                config,
                rng=SystemRandom(),
                policy=OneObject(
                    self.oid,
                    config.switch_after,
                    has_room,
                    is_chosen=bool(installing.trust or self.object_name),
                ),
                listening=whom.listening,
                trust=installing.trust,
                name=self.object_name,
            )
            loop = ReceiveLoop(
                machine,
                Memberships(whom.interface),
                part,
                tell,
                output=str(self.output),
                keys=installing.key_ids,
                timeout=self.timeout,
                loss=Loss(self.loss, Random(self.seed)) if self.loss else None,
                discovery=whom.discovery,
            )
            try:
                manifest = (yield from loop.run()).manifest
                if warning := installing.installed(machine, is_new=loop.is_new):
                    tell(warning)
            except PgmliteError as error:
                tell(failed(error, machine, loop, str(part.path)))
                raise
            now = time.monotonic_ns()
            path, is_new = str(self.output), loop.is_new
            completed = Completed(
                now,
                manifest,
                path,
                is_new,
                part.reused,
                machine.signers,
                machine.per_source,
                machine.listening.channel_seconds(now),
                *loop.figures(now),
            )
            tell(completed)
            if hook:
                yield from hook.finish(manifest, machine.signers)
            return completed


def failed(error: PgmliteError, machine: Receiver, loop: ReceiveLoop, part: str) -> ReceiveFailed:
    """Return what there is to tell of a receiver that an error ends.

    Args:
        part: The partial file.
    """
    now = time.monotonic_ns()
    stored, symbols = machine.progress
    return ReceiveFailed(
        now,
        error,
        stored,
        symbols,
        tuple(
            OtherObject(other.oid, other.name, other.size, other.answer.reason)
            for other in machine.evidence.others.values()
        ),
        part,
        bool(symbols and os.path.lexists(part)),
        *loop.figures(now),
    )
