"""Outputs through whatever may happen: objects, kills, refusals, commands that fail, the user.

All of a receiver is here but its sockets, of one object or one that follows; commands are noted and
not run.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import pgmlite
from pgmlite.core.events import Completed, Event
from pgmlite.core.machine import Action, Complete
from pgmlite.errors import Interrupted, PgmliteError
from pgmlite.net import completion, reception
from pgmlite.net.hook import Command, Ending
from pgmlite.net.job_follow import FollowJob
from pgmlite.net.job_receive import ReceiveJob
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.waiting import Wait, Waits, block
from pgmlite.storage import published
from tests.support.builders import Sample, batches, make_object
from tests.support.folders import holds_version, version
from tests.support.loops import perform
from tests.support.mortal import FolderSystem, Killed

OBJECTS = 4
FILES = [make_object(700 + number, name=f"v{number}") for number in range(OBJECTS)]
FOLDERS = [version(number).sample() for number in range(OBJECTS)]
MOST_WAITS = 50

numbers = st.integers(0, OBJECTS - 1)
errors = st.sampled_from([errno.EIO, errno.ENOSPC, errno.EACCES, errno.EBUSY])


class Fate(FolderSystem):
    """Kills at a call, or refuses it.

    Attributes:
        left: Calls until then; None: it lets all pass.
        is_dead: It was killed.
        is_met: It was killed, or refused something.
    """

    MODULES = (*FolderSystem.MODULES, published)
    CALLS = FolderSystem.CALLS | {"read"}

    def __init__(self, left: int | None, code: int = 0) -> None:
        super().__init__(exchanges=True)
        self.left, self.is_dead, self.is_met = left, False, False
        self._code = code

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name == "close":
            return function(*args, **kwargs)
        self.pass_by()
        return function(*args, **kwargs)

    def pass_by(self) -> None:
        """Take a step that can be the last."""
        if self.is_dead:
            raise Killed
        if self.left is None:
            return
        self.left -= 1
        if self.left == -1:
            self.is_met = True
            if self._code:
                raise OSError(self._code, os.strerror(self._code))
            self.is_dead = True
            raise Killed


class Loop(ReceiveLoop):
    """Hears what is on the air, once, and then that it is to end."""

    air: list[Sample]

    def run(self) -> Waits[Complete]:
        yield Wait(0)
        try:
            for sample in self.air:
                packets = [sample.spm(), *sample.nodes(), *sample.all_odata()]
                for batch in batches(packets):
                    if done := self._hear(self.machine.receive(0, batch)):
                        return done
        finally:
            self._leave()
            self._decoder.close()
        raise Interrupted("nothing comes any more")

    def _hear(self, actions: list[Action]) -> Complete | None:
        done = perform(actions, self.machine, self._part, self._tell)
        while not done and self.machine.deadline == 0:
            done = perform(self.machine.tick(0), self.machine, self._part, self._tell)
        return done


class FileRules(RuleBasedStateMachine):
    """One output, and all that happens to it.

    Attributes:
        is_blocked: What is there is not ours, and may not be replaced.
        had: The object that was put in place last; None: the user undid that.
        runs: Commands that ran.
        known: What followers have put in place; `latest`: what can have been the last of these.
        ended: Commands that ended well for what is in place, since it came there.
        is_sure: Nothing happened that may have it run twice.
    """

    samples = FILES
    end = ""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="pgmlite-rules-"))
        self.output = self.place / "out"
        self.is_blocked = False
        self.had: int | None = None
        self.ended = 0
        self.is_sure = True
        self.runs = 0
        self.known: set[int] = set()
        self.latest: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    @property
    def there(self) -> int | None:
        """The oid of what is in place; None: nothing, or something of the user's."""
        return next((one.manifest.oid for n, one in enumerate(self.samples) if self.is_at(n)), None)

    def is_at(self, number: int) -> bool:
        return self.output.exists() and self.output.read_bytes() == self.samples[number].data

    @property
    def is_of_the_user(self) -> bool:
        return self.output.read_bytes() == b"mine"

    def put(self) -> None:
        self.output.write_bytes(b"mine")

    def remove(self) -> None:
        self.output.unlink(missing_ok=True)

    @invariant()
    def what_is_in_place_is_whole(self) -> None:
        if self.output.exists():
            assert self.there is not None or self.is_of_the_user
        else:
            assert self.had is None

    # Receiving.

    def _supervise(self, fate: Fate, code: int) -> Callable[..., Waits[Ending]]:
        def supervise(
            command: Command, path: Path, facts: dict[str, bytes], **_: Any
        ) -> Waits[Ending]:
            yield Wait(0)
            try:
                fate.pass_by()
            except OSError as error:
                return Ending(0.0, error=str(error))
            there = self.there
            assert facts["PGMLITE_OBJECT_ID"] == f"{there:016x}".encode(), "run for something else"
            if there != self.had:
                self.had, self.ended, self.is_sure = there, 0, True
            self.runs += 1
            # What is remembered and can't be read is as good as forgotten.
            assert not self.ended or not self.is_sure or fate.is_met, "run twice"
            if not code:
                self.ended += 1
            if fate.left is not None:
                self.is_sure = False  # its end may not be recorded
            return Ending(0.1, code)

        return supervise

    def _run(self, air: list[int], fate: Fate, *, follows: bool, code: int) -> list[Event]:
        """Run a receiver to its end; return what it told."""
        arguments: Any = pgmlite.receive(
            f"{self.output}{self.end}", group="239.77.1.1", interface="lo", on_complete="true"
        )
        events: list[Event] = []
        job = (FollowJob if follows else ReceiveJob)(arguments._arguments)
        Loop.air = [self.samples[number] for number in air]
        self.result = "good"
        with ExitStack() as patches:
            patches.enter_context(patch.dict(os.environ, PGMLITE_STATE=str(self.place / "state")))
            patches.enter_context(patch.object(reception, "ReceiveLoop", Loop))
            supervise = self._supervise(fate, code)
            patches.enter_context(patch.object(completion, "supervise", supervise))
            patches.enter_context(fate.on())
            try:
                self._drive(job.run(events.append))
            except Killed:
                pass
            except PgmliteError as error:
                self.result = type(error).__name__
        if fate.is_dead:
            self.result = "killed"
        self._note()
        return events

    def _drive(self, work: Waits[Any]) -> None:
        waits = 0
        try:
            wait = next(work)
            while True:
                waits += not wait.fds  # else a thread works
                if waits < MOST_WAITS:
                    wait = work.send(block(wait) if wait.fds else ())
                else:
                    wait = work.throw(Interrupted("it takes too long"))
        except StopIteration:
            return
        finally:
            work.close()

    def _note(self) -> None:
        there = self.there
        if there is not None and there != self.had:
            self.had, self.ended, self.is_sure = there, 0, True

    @rule(number=numbers, code=st.sampled_from([0, 0, 0, 1]))
    def receive(self, number: int, code: int) -> None:
        before, ended = self.there, self.ended
        self._run([number], Fate(None), follows=False, code=code)
        if self.is_blocked:
            assert self.there == before
            return
        assert self.there == self.samples[number].manifest.oid
        if code:
            assert self.result == "HookError" or (before == self.there and ended)
        else:
            assert self.result == "good"
            assert self.ended == 1 or not self.is_sure

    @rule(air=st.lists(numbers, max_size=3), code=st.sampled_from([0, 0, 0, 1]))
    def follow(self, air: list[int], code: int) -> None:
        events = self._run(air, Fate(None), follows=True, code=code)
        assert self.result == "good"
        new = [one.manifest.oid for one in events if isinstance(one, Completed) and one.is_new]
        assert len(set(new)) == len(new), "an object was put in place twice"
        for oid in new:
            assert oid not in self.known or oid in self.latest, "one of before came again"
            self.known.add(oid)
            self.latest = {oid}
        if new:
            assert self.there == new[-1]
        if (
            not self.is_blocked
            and not code
            and self.there in {self.samples[number].manifest.oid for number in air}
        ):
            assert self.ended, "its command did not run"

    @rule(
        air=st.lists(numbers, min_size=1, max_size=2),
        left=st.integers(0, 350),
        code=st.one_of(st.just(0), errors),
        follows=st.booleans(),
    )
    def receive_and_meet_a_fate(
        self, air: list[int], left: int, code: int, *, follows: bool
    ) -> None:
        fate = Fate(left, code)
        runs = self.runs
        self._run(air, fate, follows=follows, code=0)
        if code or runs != self.runs:
            self.is_sure = False
        if follows:
            self.latest |= {self.samples[number].manifest.oid for number in air}
        if code:
            self.known.clear()  # what can't be read is begun anew
        if not follows and self.result == "good":
            assert self.there == self.samples[air[0]].manifest.oid
            assert self.ended or fate.is_met

    # The user.

    @rule()
    def put_a_file_there(self) -> None:
        self.remove()
        self.put()
        self.is_blocked = bool(self.end)
        self.had, self.ended, self.is_sure = None, 0, False

    @rule()
    def remove_it(self) -> None:
        self.remove()
        self.is_blocked = False
        self.had, self.ended, self.is_sure = None, 0, False

    @rule(name=st.sampled_from(["out.pgmlite", "out.part", "out.part.map"]), is_gone=st.booleans())
    def spoil_a_record(self, name: str, *, is_gone: bool) -> None:
        path = self.place / name
        if path.is_file():
            path.unlink() if is_gone else path.write_bytes(b"{}")
            self.is_sure = False
            if self.end and name == "out.pgmlite" and self.output.exists():
                self.is_blocked = True


class FolderRules(FileRules):
    """One folder."""

    samples = FOLDERS
    end = "/"

    def is_at(self, number: int) -> bool:
        return holds_version(self.output, number)

    @property
    def is_of_the_user(self) -> bool:
        return (self.output / "mine").exists()

    def put(self) -> None:
        self.output.mkdir()
        (self.output / "mine").write_text("mine")

    def remove(self) -> None:
        shutil.rmtree(self.output, ignore_errors=True)


TestFiles, TestFolders = FileRules.TestCase, FolderRules.TestCase
TestFiles.settings = TestFolders.settings = settings(
    max_examples=max(10, settings().max_examples // 5), stateful_step_count=12
)
