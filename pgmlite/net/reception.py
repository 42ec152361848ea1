"""One object from the network to its destination, and the command for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.events import Completed, ReceiveFailed, Tell
from pgmlite.core.figures import OtherObject
from pgmlite.core.impair import Loss
from pgmlite.core.machine import Complete
from pgmlite.core.receive.offers import Policy
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.completion import CompletionHook, read_record
from pgmlite.net.destinations.choice import Where, open_destination
from pgmlite.net.destinations.contract import Destination
from pgmlite.net.hook import Command
from pgmlite.net.installing import Installing
from pgmlite.net.limits import symbols_here
from pgmlite.net.loop import tell_of_disk
from pgmlite.net.membership import Memberships
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.waiting import Waits
from pgmlite.net.whom import whom_of_group, whom_of_name
from pgmlite.storage.keys import PublicKey
from pgmlite.storage.record import Identity, Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveArguments:
    """Arguments as of `pgmlite.receive`; times in ns."""

    where: Where
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


PolicyOf = Callable[[ReceiverConfig, Destination], Policy]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a receiver has that is one of a row.

    Attributes:
        note: Is called with the oid of what is about to be in place, and the identity that it will
            have there, as of `Before`.
        keys: What was read from the key files; none: they are read.
    """

    note: Callable[[int, Identity | None], None]
    keys: tuple[PublicKey, ...] = ()


class Reception:
    """A receiver for one object, from what is there before it to its command.

    Attributes:
        machine: What receives; None: it has not begun.
        is_listening: It has begun, and nothing is whole yet: it can be ended without loss.
    """

    def __init__(
        self, arguments: ReceiveArguments, tell: Tell, *, memory: Memory | None = None
    ) -> None:
        """
        Args:
            memory: It is one of a row, and leaves a record of what was published, without a command
                too. None: it is the only one.

        Raises:
            UsageError: An argument does not fit this machine, or a key is none.
            DiskError: The destination or the state folder can't be used.
        """
        self._arguments = arguments
        self._tell = tell
        self._memory = memory
        self.machine: Receiver | None = None
        self.is_listening = False
        self.installing = Installing(
            arguments.keys,
            stream=arguments.stream,
            allow_rollback=arguments.allow_rollback,
            public=memory.keys if memory else (),
        )
        with ExitStack() as opened:
            self.destination = open_destination(
                arguments.where,
                self._before,
                tell,
                bases=arguments.bases,
                verify_media=arguments.verify_media,
            )
            opened.callback(self.destination.close)
            self._hook = self._make_hook()
            self._opened = opened.pop_all()

    def _make_hook(self) -> CompletionHook | None:
        arguments, destination = self._arguments, self.destination
        if arguments.command is None:
            return None
        if destination.record is None:
            raise UsageError(
                f"on_complete: nothing is left of an output of {destination.name} to run it on",
                cause="on_complete",
            )
        return CompletionHook(
            arguments.command,
            Path(destination.name),
            destination.record,
            destination.identity,
            self._tell,
            timeout=arguments.hook_timeout,
            **({"again": "it is run again"} if self._memory else {}),
        )

    def _before(self, identity: Identity | None) -> None:
        """Note for good what is about to be in place.

        Raises:
            DiskError: It can't be noted, or another receiver has installed a higher release.
        """
        machine, record = self.machine, self.destination.record
        if machine is None or machine.manifest is None:
            return
        self.installing.installing(machine)
        if self._memory:
            self._memory.note(machine.manifest.oid, identity)
        if record is None or identity is None:
            return
        if self._hook:
            self._hook.publishing(machine.manifest, identity, machine.signers)
        elif self._memory or self.destination.needs_record:
            record.write(Publication.of(machine.manifest, identity, machine.signers))
        else:
            record.remove()

    def look(self) -> Waits[Publication | None]:
        """Return what an earlier receiver published; None: nothing that is still there.

        Raises:
            DiskError: What is to be published could not be recorded.
            Interrupted: It was asked to stop.
        """
        found, record = None, self.destination.record
        if self._hook:
            yield from self._hook.look()
            found = self._hook.found
        elif record and self._memory:
            record.check()
            with suppress(BlockingIOError):  # of another receiver, which may go on for ever
                found = yield from read_record(record)
        there = self.destination.identity()
        return found if found and there and found.names(there) else None

    @property
    def is_hook_due(self) -> bool:
        """Whether the command has to be run for what `look` found."""
        return self._hook is not None and self._hook.is_due

    def settle_hook(self) -> None:
        """Note that the command for what `look` found is done: this process has seen it end."""
        if self._hook:
            self._hook.settle()

    def resume(self) -> Waits[None]:
        """Run the command for what `look` found, unless it is done.

        Raises:
            Interrupted: It was asked to stop.
        """
        if self._hook:
            yield from self._hook.resume()

    def receive(self, policy_of: PolicyOf) -> Waits[Completed]:
        """Receive one object, put it in place, and run the command for it.

        Args:
            policy_of: Which objects are taken, given what there is to decide by.

        Raises:
            UsageError: An argument does not fit this machine or the group.
            NetworkError: The network can't be used as asked.
            ObjectError: It came, and can't be put in place.
            DiskError: The disk refuses.
            TimedOut: The time is up.
            Interrupted: It was asked to stop.
            HookError: The command failed; the object is in place.
        """
        loop = self._make_loop(policy_of)
        machine, destination, tell = loop.machine, self.destination, self._tell
        try:
            self.is_listening = True
            complete = yield from loop.run()
            self.is_listening = False
            is_new = yield from destination.publish(complete)
            if not is_new:
                self._remember(complete)
            tell_of_disk(time.monotonic_ns(), destination.part, tell)
            if warning := self.installing.installed(machine, is_new=is_new):
                tell(warning)
        except PgmliteError as error:
            tell(failed(error, loop, str(destination.part.path)))
            raise
        now, manifest = time.monotonic_ns(), complete.manifest
        completed = Completed(
            now,
            manifest,
            destination.name,
            is_new,
            destination.part.reused,
            machine.signers,
            machine.per_source,
            machine.listening.channel_seconds(now),
            *loop.figures(now),
        )
        tell(completed)
        if self._hook:
            yield from self._hook.finish(manifest, machine.signers)
        return completed

    def _remember(self, complete: Complete) -> None:
        """Note for good what was in place already, as far as that was not done when it came there.

        Raises:
            DiskError: It can't be.
        """
        if not self._memory:
            return
        record, there = self.destination.record, self.destination.identity()
        self._memory.note(complete.oid, there)
        if record and there and not self._hook and self.machine:
            record.write(Publication.of(complete.manifest, there, self.machine.signers))

    def _make_loop(self, policy_of: PolicyOf) -> ReceiveLoop:
        """Return what receives.

        Raises:
            UsageError: An argument does not fit this machine or the group.
            NetworkError: The interface is not there.
        """
        arguments, trust = self._arguments, self.installing.trust
        rates = RatesConfig(arguments.channels, arguments.rate_limit)
        rest = (arguments.interface, arguments.sources, arguments.repairers, rates)
        whom = (
            whom_of_group(arguments.group, arguments.port, *rest)
            if arguments.name is None
            else whom_of_name(arguments.name, *rest)
        )
        config = ReceiverConfig(
            oid=arguments.oid,
            max_object_size=arguments.max_size,
            max_symbols=symbols_here(),
            naks=arguments.naks,
            repairers=whom.repairers,
        )
        machine = self.machine = Receiver(
            config,
            rng=SystemRandom(),
            policy=policy_of(config, self.destination),
            listening=whom.listening,
            trust=trust,
            name=arguments.object_name,
            place=self.destination,
        )
        return ReceiveLoop(
            machine,
            Memberships(whom.interface),
            self.destination.part,
            self._tell,
            output=self.destination.name,
            keys=self.installing.key_ids,
            timeout=arguments.timeout,
            loss=Loss(arguments.loss, Random(arguments.seed)) if arguments.loss else None,
            discovery=whom.discovery,
        )

    def close(self) -> None:
        """Close all; what came stays for the next run."""
        self._opened.close()


def failed(error: PgmliteError, loop: ReceiveLoop, part: str) -> ReceiveFailed:
    """Return what there is to tell of a receiver that an error ends.

    Args:
        part: The partial file.
    """
    now, machine = time.monotonic_ns(), loop.machine
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
