"""A receiver that stays: one object after another, each with a receiver of its own.

A round is one `Reception`: it ends when an object is in place and its command is done, and all that
it held is thrown away, so that memory stays what it was. What outlives rounds is what was put in
place, what is tried again and when, and what was said.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.config_following import FollowConfig
from pgmlite.core.events import (
    Completed,
    Event,
    Failed,
    Followed,
    Hooked,
    InPlace,
    ReceiveFailed,
    ReceiveProgress,
    ReceiveStarted,
    Tell,
    Warned,
)
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.following import Following
from pgmlite.errors import (
    DiskError,
    HookError,
    Interrupted,
    NetworkError,
    ObjectError,
    PgmliteError,
    UsageError,
)
from pgmlite.net.destinations.contract import Destination
from pgmlite.net.reception import Memory, ReceiveArguments, Reception
from pgmlite.net.waiting import POLL, Wait, Waits
from pgmlite.storage.floors import state_folder
from pgmlite.storage.keys import PublicKey, load_public_keys
from pgmlite.storage.published import Published
from pgmlite.storage.record import Identity, Publication

SWITCH_AFTER = ReceiverConfig().switch_after

LOOK_EVERY = 1 * SECOND
"""How often it is looked whether what is in place is still there, at most."""

LOOK_SHARE = 100
"""Looks take no more than this part of the time: a folder may have very many files."""

SAY_AGAIN = 3_600 * SECOND
"""What every round would say is said again after as long."""

MOST_SAID = 64
"""Warnings that are remembered; the oldest makes room."""

REPEATED = frozenset(
    {
        *("", "buffer", "key", "membership", "nothing_to_take", "object", "objects"),
        "on_complete",
    }
)
"""Causes of what every round would say."""


class _Anew(PgmliteError):
    """A round ends, since another one shall begin."""


class _Backoff:
    """Times from one try to the next."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self._next = least

    def take(self) -> int:
        """Return the ns to the next try."""
        delay, self._next = self._next, min(2 * self._next, self._most)
        return delay

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._next = self._least


class _Teller:
    """Passes on what is news: rounds begin, try and end without a word of their own.

    Attributes:
        has_listened: It was told once that it listens.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.has_listened = False
        self._started: ReceiveStarted | None = None
        self._said: dict[tuple[str, str], int] = {}

    def __call__(self, event: Event) -> None:
        """Pass on an event, if it is one."""
        match event:
            case Failed():
                return  # what ends a round does not end the receiver
            case ReceiveProgress(symbols=0):
                return  # nothing is received
            case ReceiveStarted():
                started = replace(event, at=0)
                self.has_listened = True
                if started == self._started:
                    return
                self._started = started
                self.over()
            case Warned(cause=cause) if cause in REPEATED and self._is_said(event):
                return
        self._tell(event)

    def warn(self, error: PgmliteError) -> None:
        """Tell of an error that is news each time it happens, in whatever words."""
        self._tell(Warned(time.monotonic_ns(), str(error), error.cause))

    def trouble(self, error: PgmliteError, delay: int) -> None:
        """Tell of an error that is waited for to pass, once."""
        seconds = delay / SECOND
        event = Warned(
            time.monotonic_ns(), f"{error}; trying again", "retry", {"seconds": round(seconds, 3)}
        )
        if not self._is_said(event):
            self._tell(event)
        if isinstance(error, NetworkError):
            self._started = None  # that it listens again is news then

    def over(self) -> None:
        """Take note that nothing is in the way any more: when it comes again it is news."""
        for said in [one for one in self._said if one[0] == "retry"]:
            del self._said[said]

    def _is_said(self, event: Warned) -> bool:
        what = event.cause, event.warning
        at = self._said.get(what)
        if at is not None and event.at - at < SAY_AGAIN:
            return True
        self._said.pop(what, None)
        while len(self._said) >= MOST_SAID:
            del self._said[next(iter(self._said))]
        self._said[what] = event.at
        return False


class _Output:
    """What is known of the output, from round to round: the `Site` of a policy."""

    def __init__(
        self,
        name: str,
        config: FollowConfig,
        warn: Callable[[str], None],
        *,
        is_signed: bool,
    ) -> None:
        """
        Args:
            is_signed: Releases say what is newer: nothing has to be remembered for that.
        """
        folder = None
        if not is_signed:
            try:
                folder = state_folder(os.environ)
            except DiskError as error:
                warn(f"{error}; what was in place is forgotten with this process")
        output = str(Path(name).absolute())
        self._published = Published(folder, output, config.max_published, warn)
        self._repeat = _Backoff(config.retry_min, config.retry_max)
        self._again_at = 0
        """Until then what is in place counts as such, whatever others made of it, ns."""

        self._there: tuple[int, Identity | None] | None = None
        """None for its identity: its command took it away."""

        self._next: tuple[int, Identity] | None = None
        """What was noted last: it is in place once that went well."""

        self._identity: Callable[[], Identity | None] = lambda: None
        self._look_at = 0
        self._is_there = False

    @property
    def published(self) -> Sequence[int]:
        """The oids of what was put in place here, the latest last."""
        return self._published.oids

    def in_place(self, now: int) -> int | None:
        """Return the oid of what is in place; None: nothing that is known."""
        if self._there is None:
            return None
        if now >= self._look_at:
            began = time.monotonic_ns()
            self._is_there = self._identity() == self._there[1]
            took = time.monotonic_ns() - began
            self._look_at = now + max(LOOK_EVERY, LOOK_SHARE * took)
        return self._there[0] if self._is_there or now < self._again_at else None

    def begin(self, destination: Destination, found: Publication | None) -> None:
        """Look at a destination from now on; its record may say what is there."""
        self._identity = destination.identity
        self._look_at = 0
        self._next = None
        if found:
            self._there = found.oid, found.identity
            if found.oid not in self.published:
                self._published.note(found.oid)

    def note(self, oid: int, identity: Identity | None) -> None:
        """Note for good that an object is about to be in place."""
        self._published.note(oid)
        self._next = None if identity is None else (oid, identity)

    def placed(self) -> None:
        """Take note that it is."""
        # spec: FOL-4: who keeps changing it must not have it put there without end.
        if self._there and self._next and self._there[0] == self._next[0]:
            self._again_at = time.monotonic_ns() + self._repeat.take()
        else:
            self._again_at = 0
            self._repeat.reset()
        self._there, self._next = self._next, None
        self._look_at = 0

    def hooked(self, oid: int) -> None:
        """Take what the command made of an object for the object: it is not for us to undo that."""
        self._there = oid, self._identity()
        self._look_at = 0

    def forget(self) -> None:
        """Have what is in place come again."""
        self._there, self._again_at = None, 0


class FollowJob:
    """Receives one object after another, until it is asked to stop."""

    def __init__(self, arguments: ReceiveArguments, config: FollowConfig | None = None) -> None:
        self._arguments = arguments
        self._config = config = config or FollowConfig()
        self._shall_reload = False
        self._keys: tuple[PublicKey, ...] = ()
        self._objects = self._fetched = 0
        self._has_told = False
        self._retry = _Backoff(config.retry_min, config.retry_max)
        self._hook_retry = _Backoff(config.hook_retry_min, config.hook_retry_max)
        self._hook_at = 0
        self._done: int | None = None
        """The object whose command was seen to end well; `_failed`: whose did not."""

        self._failed: int | None = None

    def reload(self) -> None:
        """Have it begin anew soon, with the keys that there are then; in a signal handler, too."""
        self._shall_reload = True

    def run(self, tell: Tell) -> Waits[Followed]:
        """
        Raises:
            UsageError: An argument does not fit this machine or the group, or a key is none, and it
                has not listened yet.
        """
        waits = self._run(tell)
        next(waits)  # what interrupts it before it begins ends it well, too
        return waits

    def _run(self, tell: Tell) -> Waits[Followed]:
        self._teller = _Teller(tell)
        try:
            yield Wait(0)
            self._prepare()
            while True:
                yield from self._try()
                # A loop and its parts know one another: what a round held goes now, and not when
                # there is so much of it that somebody looks.
                gc.collect()
        except Interrupted as interruption:
            stop = interruption.__cause__
            if isinstance(stop, Interrupted):  # it ended something, which says so itself
                self._teller.warn(interruption)
                interruption = stop
            now = time.monotonic_ns()
            followed = Followed(now, str(interruption), self._objects, self._fetched)
            tell(followed)
            return followed

    def _prepare(self) -> None:
        """Remember what was before."""
        arguments = self._arguments
        self._output = _Output(
            os.fspath(arguments.where.path),
            self._config,
            lambda text: self._teller(Warned(time.monotonic_ns(), text)),
            is_signed=bool(arguments.keys),
        )
        self._following = Following(
            self._output,
            self._config,
            SWITCH_AFTER,
            is_chosen=bool(arguments.keys or arguments.object_name),
        )

    def _try(self) -> Waits[None]:
        """Do one round, whatever comes of it.

        Raises:
            UsageError: It is the first one, and can't go well.
            Interrupted: It was asked to stop.
        """
        began = time.monotonic_ns()
        self._shall_reload = False
        try:
            yield from self._round()
        except Interrupted:
            raise
        except _Anew:
            pass
        except HookError as error:
            self._fail_hook(error)
        except ObjectError as error:  # it is not taken again
            self._teller(Warned(time.monotonic_ns(), str(error)))
        except PgmliteError as error:
            if isinstance(error, UsageError) and not self._teller.has_listened:
                raise
            if time.monotonic_ns() - began >= self._config.retry_max:
                self._retry.reset()
                self._teller.over()
            delay = self._retry.take()
            self._teller.trouble(error, delay)
            yield from self._pause(delay)
            return
        self._retry.reset()
        self._teller.over()

    def _round(self) -> Waits[None]:
        """Receive one object; errors are as of `Reception`, and `_Anew`."""
        memory = Memory(self._output.note, self._read_keys())
        with closing(Reception(self._arguments, self._tell, memory=memory)) as reception:
            found = yield from reception.look()
            self._output.begin(reception.destination, found)
            self._say_what_is_there(reception, found)
            if reception.is_hook_due and found and self._done == found.oid:
                reception.settle_hook()  # its record could not be written
            elif self._hook_at and found is None:
                self._await_hook()
            elif time.monotonic_ns() >= self._hook_at:
                yield from reception.resume()  # before the network, which may not be there yet
                self._plan_hook(is_due=reception.is_hook_due)
            yield from self._attend(reception)

    def _read_keys(self) -> tuple[PublicKey, ...]:
        """Return the keys that there are now; if one is broken, those that were there before.

        Raises:
            UsageError: There were none before.
            DiskError: Likewise.
        """
        if self._arguments.keys:
            try:
                self._keys = load_public_keys(self._arguments.keys)
            except PgmliteError as error:
                if not self._keys:
                    raise
                text = f"{error}; going on with the keys of before"
                self._teller(Warned(time.monotonic_ns(), text, "key"))
        return self._keys

    def _say_what_is_there(self, reception: Reception, found: Publication | None) -> None:
        if self._has_told:
            return
        self._has_told = True
        if found:
            place = reception.destination.name
            now = time.monotonic_ns()
            self._teller(InPlace(now, place, found.oid, found.name, found.stream, found.release))

    def _policy(self, config: ReceiverConfig, destination: Destination) -> Following:
        self._following.has_room = destination.part.has_room
        return self._following

    def _tell(self, event: Event) -> None:
        """Take note of what a round tells, and pass it on."""
        if isinstance(event, Completed | ReceiveFailed):
            self._fetched += event.figures.fetched
        match event:
            case Completed():
                self._objects += event.is_new
                self._output.placed()
                self._done = None
                self._hook_at = 0
                if event.manifest.oid != self._failed:
                    self._hook_retry.reset()
            case Hooked(phase="done"):
                self._done, self._failed = event.oid, None
                self._output.hooked(event.oid)
            case Hooked(phase="failed"):
                self._failed = event.oid
                self._output.hooked(event.oid)
            case Warned(cause="nothing_to_take") if self._output.in_place(event.at) is not None:
                return  # as it shall be
        self._teller(event)

    # The command.

    def _fail_hook(self, error: HookError) -> None:
        self._teller.warn(error)  # the next object's may fail in the same words
        self._plan_hook(is_due=True)

    def _await_hook(self) -> None:
        """Have the object come again when its command is due: that left nothing to be run for."""
        if time.monotonic_ns() >= self._hook_at:
            self._hook_at = 0
            self._output.forget()

    def _plan_hook(self, *, is_due: bool) -> None:
        """Take note of when the command is to be run."""
        if is_due:
            self._hook_at = time.monotonic_ns() + self._hook_retry.take()
        else:
            self._hook_at = 0
            self._hook_retry.reset()

    # Waiting.

    def _attend(self, reception: Reception) -> Waits[None]:
        """Let a reception receive, until another one shall begin; errors are as of `_round`."""
        waits = reception.receive(self._policy)
        step: Callable[[], Wait] = partial(next, waits)
        try:
            while True:
                wait = step()
                try:
                    step = partial(waits.send, (yield wait))
                except PgmliteError as error:
                    step = partial(waits.throw, error)
                else:
                    if self._shall_begin_anew(reception):
                        step = partial(waits.throw, _Anew("another round begins"))
        except StopIteration:
            return
        except ObjectError:  # it came, and can't be put in place
            if reception.machine and reception.machine.manifest:
                self._following.shun(reception.machine.manifest.oid)
            raise
        finally:
            waits.close()

    def _shall_begin_anew(self, reception: Reception) -> bool:
        if not reception.is_listening:
            return False
        if self._shall_reload:
            return True
        machine, now = reception.machine, time.monotonic_ns()
        if not self._hook_at or now < self._hook_at or machine is None:
            return False
        # What is on its way takes the place of what the command would be run for.
        heard = machine.heard
        return heard is None or now - heard >= SWITCH_AFTER

    def _pause(self, delay: int) -> Waits[None]:
        """Let time pass before the next try; a signal ends it."""
        end = time.monotonic_ns() + delay
        while not self._shall_reload and (left := end - time.monotonic_ns()) > 0:
            yield Wait(min(left, POLL))
