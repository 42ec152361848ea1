"""File systems that refuse calls: niceties cost nothing, and no refusal costs what was stored."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgmlite.errors import DiskError
from pgmlite.storage.part import PartFile
from pgmlite.storage.publish import usual_mode
from pgmlite.storage.record import Identity, Publication, PublishedRecord, identity_of
from tests.support.builders import make_object
from tests.support.parts import Run, System, name_of

SAMPLE = make_object(6 * 512 - 5)  # 6 blocks of 8 symbols of 64 bytes; the last symbol is short
SYMBOLS = SAMPLE.manifest.symbols
OLD = SAMPLE.data[:700] + b"old"
FIRST = range(8, 31)
"""What an earlier run stored: two whole blocks and most of the next."""


class Faults(System):
    """Refuses some calls.

    Attributes:
        refused: The calls that were, as (name, what it was about).
    """

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self._rules: list[tuple[str, str | None, int, range]] = []
        self._seen = 0

    def refuse(
        self, name: str, number: int, *, of: str | None = None, which: range = range(1 << 30)
    ) -> None:
        """Let calls of this name fail, about files of this name; `which` of them all."""
        self._rules.append((name, of, number, which))

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for rule, of, number, which in self._rules:
            about = what(name, args)
            if rule == name and of in (None, about):
                place, self._seen = self._seen, self._seen + 1
                if place in which:
                    self.refuse_this(name, about, number, function, args)
        return function(*args, **kwargs)

    def refuse_this(
        self, name: str, about: str, number: int, function: Callable[..., Any], args: Any
    ) -> None:
        """Fail in the place of a call."""
        self.refused.append((name, about))
        if name == "close":
            function(*args)  # it is closed, whatever is said
        raise OSError(number, os.strerror(number))


def what(name: str, args: tuple[Any, ...]) -> str:
    """Return the name of the file that a call is about."""
    if name in {"rename", "replace"}:
        return Path(args[1]).name
    first = args[0]
    return name_of(first) if isinstance(first, int) else Path(first).name


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output with an old file, and beside it what an earlier run left."""
    return stopped(tmp_path / "folder")


def stopped(folder: Path, before: str = "old") -> Path:
    """Return an output of which a run was stopped, with what was there before."""
    folder.mkdir()
    output = folder / "out"
    with Run(output) as run:
        run.announce(SAMPLE).give(SAMPLE.odata(FIRST))
        assert run.fetched == len(FIRST)
    if before != "none":
        output.write_bytes(SAMPLE.data if before == "same" else OLD)
        output.chmod(0o640)
    if before == "room":  # it was stopped in the middle of its publication
        room = folder / "out.part.d"
        room.mkdir(mode=0o700)
        run.part.path.rename(room / "file").chmod(0o664)  # dressed as the output already
        if not os.geteuid():
            os.chown(room / "file", 4_321, 4_321)
    return output


def receive(output: Path, faults: Faults, **options: Any) -> Run:
    """Go on where the earlier run stopped, on a file system with faults, to the end."""
    with faults.on(), Run(output, **options) as run:
        run.announce(SAMPLE).cycle(SAMPLE).cycle(SAMPLE)
    return run


def check_next(output: Path, at_most: int, *, mode: int | None = 0o640) -> None:
    """Let the next run, whose disk is well, finish; it fetches no more than this."""
    with Run(output) as run:
        run.announce(SAMPLE)
        run.cycle(SAMPLE)
        assert run.is_done
        assert run.fetched <= at_most
    assert output.read_bytes() == SAMPLE.data
    assert mode in (None, output.stat().st_mode & 0o777)
    assert [path.name for path in output.parent.iterdir()] == ["out"]


MISSING = SYMBOLS - len(FIRST) - 8  # the first block is in the old output


# What is nice to have.


@pytest.mark.parametrize(
    ("call", "number", "of", "words"),
    [
        ("fsync", errno.EINVAL, "folder", ""),
        ("fsync", errno.EIO, "folder", "out is in place, but .* power cut"),
        ("fsync", errno.EACCES, "folder", "out is in place, but .* power cut"),
        ("fsync", errno.EINVAL, None, ""),
        ("fdatasync", errno.EINVAL, None, ""),
        ("fdatasync", errno.EOPNOTSUPP, None, ""),
        ("fdatasync", errno.EIO, "out", ""),
        ("open", errno.EACCES, "folder", ""),
        ("open", errno.EINVAL, "folder", ""),
        ("open", errno.EACCES, "out", ""),
        ("open", errno.EACCES, "out.part.map", "no record"),
        ("mkdir", errno.EACCES, None, ""),
        ("mkdir", errno.ENOSPC, None, ""),
        ("rmdir", errno.EACCES, None, ""),
        ("fchmod", errno.EPERM, None, "permissions 640"),
        ("fchmod", errno.EOPNOTSUPP, None, "permissions 640"),
        ("lseek", errno.EINVAL, None, ""),
        ("lseek", errno.EOPNOTSUPP, None, ""),
        ("lseek", errno.EIO, "out.part.map", ""),
        ("fstatvfs", errno.ENOSYS, None, ""),
        ("fstatvfs", errno.ESTALE, None, ""),
        ("flock", errno.ENOLCK, None, "no lock"),
        ("flock", errno.EOPNOTSUPP, None, "no lock"),
        ("posix_fadvise", errno.EINVAL, None, ""),
        ("copy_file_range", errno.EXDEV, None, ""),
        ("copy_file_range", errno.EIO, None, ""),
        ("pread", errno.EIO, "out.part.map", "no record"),
        ("pwrite", errno.ENOSPC, "out.part.map", "no record"),
        ("fdatasync", errno.EIO, "out.part.map", "no record"),
        ("unlink", errno.EPERM, "out.part.map", ""),
        ("preadv", errno.EIO, "out", "output .*out: Input/output error; what it has is fetched"),
        ("close", errno.EIO, None, ""),
    ],
)
def test_refusals_that_cost_nothing(
    output: Path, call: str, number: int, of: str | None, words: str
) -> None:
    # spec: RCV-7, RCV-8
    faults = Faults()
    faults.refuse(call, number, of=of)
    run = receive(output, faults)
    assert faults.refused
    assert run.is_done
    assert output.read_bytes() == SAMPLE.data
    said = " ".join(run.warnings)
    assert re.search(words, said) if words else not said


def test_a_file_system_that_knows_nothing_of_its_room(output: Path) -> None:
    class Unknown(Faults):
        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = super().call(name, function, *args, **kwargs)
            return os.statvfs_result([0] * 10) if name == "fstatvfs" else result

    assert receive(output, Unknown()).is_done
    assert output.read_bytes() == SAMPLE.data


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_an_owner_that_can_not_be_kept(output: Path, number: int) -> None:
    os.chown(output, 4_321, 4_321)
    faults = Faults()
    faults.refuse("fchown", number)
    run = receive(output, faults)
    assert run.is_done
    assert output.read_bytes() == SAMPLE.data
    assert (output.stat().st_uid, output.stat().st_mode & 0o777) == (0, 0o640)
    assert "owner 4321" in " ".join(run.warnings)


# What can't be done without.


@pytest.mark.parametrize(
    ("call", "number", "of", "words"),
    [
        ("rename", errno.EACCES, "out", "Permission denied"),
        ("rename", errno.EPERM, "out", "Operation not permitted"),
        ("rename", errno.EIO, "out", "Input/output error"),
        ("rename", errno.EISDIR, "out", "Is a directory"),
        ("fsync", errno.EIO, "file", "Input/output error.*next run reads it back"),
        ("fdatasync", errno.ENOSPC, "out.part", "No space left.*next run reads it back"),
        ("fdatasync", errno.EDQUOT, "out.part", "quota.*next run reads it back"),
        ("ftruncate", errno.EPERM, "out.part", "Operation not permitted"),
        ("pwritev", errno.ENOSPC, "out.part", "No space left"),
        ("pwritev", errno.EIO, "out.part", "Input/output error"),
        ("fstat", errno.ESTALE, "out.part", "Stale file handle"),
        ("preadv", errno.EIO, "out.part", "Input/output error"),
    ],
)
def test_refusals_that_end_the_run_cost_nothing_that_was_stored(
    output: Path, call: str, number: int, of: str, words: str
) -> None:
    # spec: RCV-7, RCV-8
    with Run(output) as run:  # the first call of each kind is at the end, or not
        run.announce(SAMPLE)
        faults = Faults()
        faults.refuse(call, number, of=of)
        with faults.on(), pytest.raises(DiskError, match=words) as raised:
            run.cycle(SAMPLE).cycle(SAMPLE)
        assert str(output.parent) in str(raised.value)
    assert faults.refused
    assert output.read_bytes() == OLD
    part = output.with_name("out.part").stat()
    assert (part.st_uid, part.st_mode & 0o777) == (os.geteuid(), 0o600)
    assert not output.with_name("out.part.d").exists()
    check_next(output, MISSING)


# Everything, one call after another.

EVERY = 1 if os.environ.get("PGMLITE_HYPOTHESIS") == "deep" else 3
"""Of the calls of a case, each third is refused, from another one on in each case: seven cases,
which make nearly the same calls, refuse each of them twice. The deep profile refuses all."""


class Nth(Faults):
    """Refuses one call of all; and later ones of its name about the same file, if `lasting`."""

    def __init__(self, nth: int, number: int, *, lasting: bool) -> None:
        super().__init__()
        self.count = 0
        self._nth, self._number, self._lasting = nth, number, lasting

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        place, self.count = self.count, self.count + 1
        about = what(name, args)
        if place == self._nth or (self._lasting and (name, about) in self.refused):
            self.refuse_this(name, about, self._number, function, args)
        return function(*args, **kwargs)


CASES = [
    ("old", errno.EIO, False),
    ("old", errno.EIO, True),
    ("old", errno.ENOSPC, False),
    ("none", errno.ESTALE, False),
    ("same", errno.EIO, True),
    ("hook", errno.EIO, True),
    ("room", errno.EIO, True),
]


@pytest.mark.parametrize(
    ("first", "before", "number", "lasting"),
    [(place % EVERY, *case) for place, case in enumerate(CASES)],
)
def test_no_refusal_publishes_what_is_wrong_or_loses_what_was_stored(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    before: str,
    number: int,
    lasting: bool,
) -> None:
    # spec: RCV-7, RCV-8
    for call in System.SYNCS:  # there are thousands, and the disk of this machine is well
        monkeypatch.setattr(os, call, lambda fd: None)
    nth, missing = first, MISSING + 8 * (before == "none")
    while True:
        output = stopped(tmp_path / f"{nth}", before)
        old = output.read_bytes() if output.exists() else None
        faults, error = Nth(nth, number, lasting=lasting), ""
        try:
            with faults.on(), Run(output, before_rename=recorder(output, before)) as run:
                run.announce(SAMPLE).cycle(SAMPLE).cycle(SAMPLE)
        except DiskError as refusal:
            error = str(refusal)
        now = output.read_bytes() if output.exists() else None
        if error:
            assert str(output.parent) in error
            assert re.search(f"{os.strerror(number)}|another program|move it away", error)
            assert now in (old, SAMPLE.data)
        else:
            assert run.is_done
            assert now == SAMPLE.data
        if not faults.refused:
            return
        has_mode = ("fchmod", "file") not in faults.refused
        for name in ("out.pgmlite", "out.pgmlite~"):
            output.with_name(name).unlink(missing_ok=True)
        check_next(output, missing, mode=0o640 if old and has_mode else None)
        nth += EVERY


def recorder(output: Path, before: str) -> Callable[[Identity], None] | None:
    """Return what records a publication for the command that follows it, if one does."""
    if before != "hook":
        return None

    def write(found: Identity) -> None:
        record = PublishedRecord(output, lambda text: None)
        try:
            record.write(Publication.of(SAMPLE.manifest, found))
        finally:
            record.close()

    return write


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_fsync_has_commands_too(output: Path, number: int) -> None:
    faults = Faults()
    for call in System.SYNCS:
        faults.refuse(call, number)
    run = receive(output, faults, before_rename=recorder(output, "hook"))
    assert run.is_done
    assert ("fsync", "out.pgmlite~") in faults.refused
    record = PublishedRecord(output, lambda text: None)
    publication = record.read()
    record.close()
    assert publication is not None
    assert publication.names(identity_of(output.stat()))


# What other programs do at the worst moment.


class Meanwhile(System):
    """Does something else before the first call of a name about a file of a name."""

    def __init__(self, name: str, of: str, do: Callable[[], None]) -> None:
        self.is_done = False
        self._at, self._do = (name, of), do

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.is_done and (name, what(name, args)) == self._at:
            self.is_done = True
            self._do()
        return function(*args, **kwargs)


@pytest.mark.parametrize("at", [("mkdir", "out.part.d"), ("rename", "out"), ("fsync", "folder")])
def test_another_receiver_starts_while_one_publishes(output: Path, at: tuple[str, str]) -> None:
    # spec: RCV-15
    found: list[object] = []

    def start() -> None:
        try:
            PartFile(output).close()
            found.append("was let in")
        except DiskError as error:
            found.append(str(error))

    with Meanwhile(*at, start).on(), Run(output) as run:
        run.announce(SAMPLE).cycle(SAMPLE)
        assert run.is_done
    assert len(found) == 1
    assert at[0] == "fsync" or "another receiver" in str(found[0])  # by then it is published
    assert output.read_bytes() == SAMPLE.data
    check_next(output, 0)


def test_an_output_that_can_not_be_replaced_leaves_the_partial_file_in_its_place(
    output: Path,
) -> None:
    def make_folder() -> None:
        output.unlink()
        output.mkdir()

    with (
        pytest.raises(DiskError, match=r"out\.part: Is a directory"),
        Meanwhile("rename", "out", make_folder).on(),
        Run(output) as run,
    ):
        run.announce(SAMPLE).cycle(SAMPLE)
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "out",
        "out.part",
        "out.part.map",
    ]
    output.rmdir()
    check_next(output, 0, mode=None)


def test_a_strangers_file_under_our_name_stays_when_publication_fails(output: Path) -> None:
    part = output.with_name("out.part")

    def exchange() -> None:
        part.rename(output.with_name("elsewhere"))
        part.write_bytes(b"his")

    class Both(Meanwhile):
        def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if (name, what(name, args)) == ("rename", "out"):
                raise OSError(errno.EACCES, "Permission denied")
            return super().call(name, function, *args, **kwargs)

    with (
        pytest.raises(DiskError, match="Permission denied"),
        Both("mkdir", "out.part.d", exchange).on(),
        Run(output) as run,
    ):
        run.announce(SAMPLE).cycle(SAMPLE)
    assert part.read_bytes() == b"his"
    assert output.read_bytes() == OLD


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_an_output_that_became_something_else_lends_no_permissions(output: Path, kind: str) -> None:
    def become() -> None:
        output.unlink()
        match kind:
            case "link":
                output.symlink_to("precious")
            case "fifo":
                os.mkfifo(output, 0o666)
            case "folder":
                output.mkdir(mode=0o777)

    with Meanwhile("mkdir", "out.part.d", become).on(), Run(output) as run:
        if kind == "folder":
            with pytest.raises(DiskError, match="Is a directory"):
                run.announce(SAMPLE).cycle(SAMPLE)
            return
        run.announce(SAMPLE).cycle(SAMPLE)
    assert output.read_bytes() == SAMPLE.data
    assert not output.is_symlink()
    assert output.stat().st_mode & 0o777 == usual_mode()
