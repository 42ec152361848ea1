"""A folder through whatever may happen to it: versions, kills, refusals, and its user's own doings.

Each of the user's folders has a file of its own in it, by which it is found again. It may be
renamed; it may go only where the user was told so: what is in DIR when somebody gives --keep is
kept as long as others are, what is in a folder of ours goes with it, and so does all that has the
name DIR.unpacking.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pgmlite.errors import DiskError
from tests.support.folders import Receiving, holds_version, version
from tests.support.mortal import FolderSystem, Killed, Mortal, Refusing

VERSIONS = 6
MARK = "mine"
NUMBERED = [f".{number}" for number in range(1, 6)]
SUFFIXES = ["", *NUMBERED, ".old", ".new", ".unpacking"]
PASSING = (".old", ".new", ".unpacking")
SAMPLES = [version(number).sample() for number in range(VERSIONS)]

versions = st.integers(0, VERSIONS - 1)
suffixes = st.sampled_from(SUFFIXES)
errors = st.sampled_from([errno.EIO, errno.ENOSPC, errno.EACCES, errno.EBUSY])

Looks = dict[str, str]
"""What is there, by what is added to the folder's name."""


def look(path: Path) -> str:
    """Return what is at a path: a version, a folder of the user's, or nothing."""
    if not os.path.lexists(path):
        return ""
    if path.is_symlink() or not path.is_dir():
        return "other"
    for number in range(VERSIONS):
        if holds_version(path, number):
            return f"version {number}"
    if (path / MARK).exists():
        return f"user {(path / MARK).read_text()}"
    return "changed" if any(path.iterdir()) else "empty"


class Rules(RuleBasedStateMachine):
    """One folder, and all that happens to it.

    Attributes:
        name: What the folder is called, beside `place`; other names of it stay as they are.
        keep: As the user gives it.
        put: Folders of the user's that may not go, by their marks.
        row: What was in place, the latest first, since the user did anything himself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="pgmlite-rules-"))
        self.name, self.keep, self.marks = "out", 0, 0
        self.put: set[str] = set()
        self.row: list[str] = []
        self.may_be_missing = True
        self.is_new = False
        self.warnings: list[str] = []

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    # Looking.

    def at(self, suffix: str) -> Path:
        return self.place / f"{self.name}{suffix}"

    def looks(self) -> Looks:
        return {suffix: look(self.at(suffix)) for suffix in SUFFIXES}

    @property
    def is_clear(self) -> bool:
        """Whether nothing was begun and not ended."""
        return not any(os.path.lexists(self.at(suffix)) for suffix in PASSING)

    @invariant()
    def nothing_of_the_users_is_lost(self) -> None:
        found = {path.read_text() for path in self.place.glob(f"*/{MARK}")}
        assert self.put <= found, f"lost: {self.put - found}"

    @invariant()
    def what_is_in_place_is_whole(self) -> None:
        if not self.at("").exists():
            assert self.may_be_missing

    # Receiving.

    def _use(self) -> None:
        """Take note of what may go from now on."""
        here = self.looks()
        self._give_up(".unpacking")
        if self.keep:
            self._give_up("")
            # What it replaces in its turn has a name from DIR.1 on.
        self.may_be_missing = not here[""]

    def _give_up(self, suffix: str) -> None:
        for path in (self.at(suffix), *self.at(suffix).glob(".pgmlite-*")):
            if (path / MARK).is_file() and not path.is_symlink():
                self.put.discard((path / MARK).read_text())

    def _receive(self, number: int, system: FolderSystem) -> tuple[str, str]:
        """Run a receiver; return how it ended, and what was in place once it had begun."""
        receiving, began = None, ""
        with system.on():
            try:
                receiving = Receiving(self.at(""), self.keep)
                began = look(self.at("")) if not getattr(system, "is_dead", False) else ""
                receiving.take(SAMPLES[number])
                # What can't be read back comes again, in a cycle that is not heard here.
                end = "unfinished" if receiving.is_new is None else "good"
            except Killed:
                end = "killed"
            except DiskError as error:
                end = f"refused: {error}"
            with suppress(Killed):
                if receiving:
                    receiving.close()
            if getattr(system, "is_dead", False):
                end = "killed"
        self.warnings = receiving.warnings if receiving else []
        self.is_new = receiving is not None and receiving.is_new is True
        assert end != "good" or self.is_new or began == f"version {number}"
        return end, began

    def _check(self, number: int, end: str, began: str, before: Looks, *, was_clear: bool) -> None:
        """Make sure that what was left is what may be."""
        after, wanted = self.looks(), f"version {number}"
        if began:
            self._note(began)
        if began == wanted and end != "good":
            self.row = []  # it may be there twice now
        if end == "good":
            assert after[""] == wanted
            if began == wanted and self.is_new:
                self.row = []
            self._note(wanted)
        elif end == "killed":
            assert after[""] or self.may_be_missing
        if was_clear and end.startswith("refused"):
            kept = ["", *NUMBERED]
            assert {k: after[k] for k in kept} == {k: before[k] for k in kept}, end

    def _note(self, what: str) -> None:
        if self.row[:1] != [what]:
            self.row.insert(0, what)

    @rule(number=versions)
    def receive(self, number: int) -> None:
        before, was_clear = self.looks(), self.is_clear
        self._use()
        places = self._places()
        end, began = self._receive(number, FolderSystem(exchanges=True))
        self._check(number, end, began, before, was_clear=was_clear)
        after = self.looks()
        for mark, path in self._places().items():
            if end == "good" and path != places.get(mark):
                assert any(path in warning for warning in self.warnings), "it moved unsaid"
        if end == "good":
            assert self.is_clear
            if was_clear:
                assert {k: after[k] for k in NUMBERED} == self._rotated(before)
            self._check_row(after)

    def _places(self) -> dict[str, str]:
        """Return where the folders are that may not go, by their marks."""
        found = {path.read_text(): str(path.parent) for path in self.place.glob(f"*/{MARK}")}
        return {mark: path for mark, path in found.items() if mark in self.put}

    def _rotated(self, before: Looks) -> Looks:
        """Return what is to be kept, by its names."""
        row, gone = [before[one] for one in NUMBERED], before[""]
        if self.keep and gone and self.is_new:
            gap = next((n for n in range(self.keep) if not row[n]), self.keep - 1)
            row[: gap + 1] = [gone, *row[:gap]]
        return dict(zip(NUMBERED, row, strict=True))

    def _check_row(self, looks: Looks) -> None:
        """Make sure that those that were replaced are kept, in order."""
        expected = self.row[1 : self.keep + 1]
        assert [looks[name] for name in NUMBERED[: len(expected)]] == expected

    @rule(number=versions, step=st.integers(0, 24), exchanges=st.booleans())
    def receive_and_be_killed(self, number: int, step: int, *, exchanges: bool) -> None:
        before, was_clear = self.looks(), self.is_clear
        self._use()
        mortal = Mortal(step, exchanges=exchanges)
        end, began = self._receive(number, mortal)
        if mortal.is_dead and not exchanges:
            self.may_be_missing = True
        self._check(number, end, began, before, was_clear=was_clear)

    @rule(number=versions, left=st.integers(0, 250), code=errors, exchanges=st.booleans())
    def receive_and_be_refused(self, number: int, left: int, code: int, *, exchanges: bool) -> None:
        before, was_clear = self.looks(), self.is_clear
        self._use()
        end, began = self._receive(number, Refusing(left, code, exchanges=exchanges))
        self._check(number, end, began, before, was_clear=was_clear)

    @rule()
    def start(self) -> None:
        """Begin, and hear nothing."""
        before, was_clear = self.looks(), self.is_clear
        self._use()
        try:
            Receiving(self.at(""), self.keep).close()
        except DiskError:
            assert not was_clear or self.looks() == before
            return
        assert self.is_clear
        after = self.looks()
        if was_clear:
            assert after == before
        assert after[""] or not (before[""] or self.row)
        if after[""]:
            self._note(after[""])

    # The user.

    def _meddle(self) -> None:
        """Take note that what was promised is promised no more."""
        now = look(self.at(""))
        self.row = [now] if now else []
        self.may_be_missing = True

    def _make(self, path: Path) -> None:
        self.marks += 1
        path.mkdir()
        (path / MARK).write_text(str(self.marks))
        self.put.add(str(self.marks))

    @rule(keep=st.integers(0, 3))
    def change_keep(self, keep: int) -> None:
        self.keep = keep
        self.row = self.row[:1]

    @rule(suffix=suffixes)
    def make_a_folder(self, suffix: str) -> None:
        if not os.path.lexists(self.at(suffix)):
            self._make(self.at(suffix))
            self._meddle()

    @rule(suffix=suffixes, to=suffixes)
    def rename_a_folder(self, suffix: str, to: str) -> None:
        if os.path.lexists(self.at(suffix)) and not os.path.lexists(self.at(to)):
            self.at(suffix).rename(self.at(to))
            self._meddle()

    @rule(suffix=suffixes)
    def remove_a_folder(self, suffix: str) -> None:
        path = self.at(suffix)
        if path.is_dir() and not path.is_symlink():
            self._give_up(suffix)
            shutil.rmtree(path)
            self._meddle()

    @rule(suffix=suffixes)
    def put_a_file_into_a_folder(self, suffix: str) -> None:
        path = self.at(suffix)
        if path.is_dir() and not path.is_symlink():
            (path / "more").write_text("more")
            self._meddle()

    @rule()
    def replace_it(self) -> None:
        self._give_up("")
        if self.at("").is_dir() and not self.at("").is_symlink():
            shutil.rmtree(self.at(""))
        else:
            self.at("").unlink(missing_ok=True)
        self._make(self.at(""))
        self._meddle()

    @rule(number=st.integers(1, 3), is_link=st.booleans())
    def take_a_name(self, number: int, *, is_link: bool) -> None:
        """Put something there that is no folder."""
        path = self.at(f".{number}")
        if not os.path.lexists(path):
            path.symlink_to("nowhere") if is_link else path.write_text("file")
            self._meddle()

    @rule()
    def make_it_a_link(self) -> None:
        real = self.place / "real"
        if self.is_clear and self.at("").is_dir() and not os.path.lexists(real):
            self.at("").rename(real)
            self.at("").symlink_to("real")
            self.name = "real"
            self._meddle()

    @rule(name=st.sampled_from([".pgmlite", ".part", ".part.map"]), is_removed=st.booleans())
    def spoil_a_record(self, name: str, *, is_removed: bool) -> None:
        path = self.at(name)
        if path.is_file():
            path.unlink() if is_removed else path.write_bytes(b"{}")
            self._meddle()


TestRules = Rules.TestCase
TestRules.settings = settings(
    max_examples=max(10, settings().max_examples // 4), stateful_step_count=20
)
