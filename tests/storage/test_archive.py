"""Folders as archives: what comes out of another tar, what is refused, what changes meanwhile."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from pgmlite.errors import DiskError, Interrupted, UsageError
from pgmlite.storage import spooled, survey
from pgmlite.storage.source import SourceFile
from pgmlite.storage.spooled import open_source
from pgmlite.storage.survey import look_through
from pgmlite.wire.manifest import Archive
from tests.storage.test_storage import ordinary_user
from tests.support.archives import archive_of, small_folder

ROOT = Path(__file__).resolve().parents[2]
TIMES = 1_600_000_000


def settle(folder: Path) -> None:
    """Give everything in a folder a time of its own, the folder last."""
    found = sorted(folder.rglob("*"), key=lambda path: (-len(path.parts), path))
    for number, path in enumerate([*found, folder]):
        os.utime(path, (0, TIMES + number), follow_symlinks=False)


def make_folder(folder: Path, *, seed: int = 0) -> Path:
    """Make a folder that has one of everything; the seed changes in which order."""
    long, mine = "long-" * 45, "\N{GREEK SMALL LETTER MU}\n \\ '\N{HORIZONTAL ELLIPSIS}"
    folder.mkdir()
    files = {"a": b"A" * 511, "b.txt": b"B" * 512, "c": b"C" * 1_500_000, "empty": b"", mine: b"!"}
    steps: list[Callable[[], object]] = [
        *((lambda n=n, c=c: (folder / n).write_bytes(c)) for n, c in files.items()),
        lambda: (folder / "deep" / long / "er").mkdir(parents=True, exist_ok=True),
        lambda: (folder / "nothing").mkdir(mode=0o700),
        lambda: (folder / "gone").symlink_to("not/there"),
    ]
    Random(seed).shuffle(steps)
    for step in steps:
        step()
    (folder / "deep" / long / "er" / "file").write_bytes(b"deep")
    (folder / "deep" / "back").symlink_to("../a")
    (folder / "deep" / "root").symlink_to("..")
    (folder / long).symlink_to("deep/" + long)
    os.link(folder / "b.txt", folder / "deep" / "b-again")
    os.link(folder / "deep" / "b-again", folder / "0-first")
    (folder / "a").chmod(0o4751)
    (folder / "c").chmod(0o440)
    (folder / "deep").chmod(0o2770)
    settle(folder)
    return folder


def listing(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what a folder has in it, as far as archives keep it."""
    found, names = {}, {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        same = names.setdefault(status.st_ino, path.relative_to(folder))
        facts = status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime)
        found[str(path.relative_to(folder))] = (*facts, same, content)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has one of everything."""
    return make_folder(tmp_path / "folder")


def test_another_tar_makes_the_same_folder(folder: Path, tmp_path: Path) -> None:
    # spec: FLD-1, FLD-2
    copy = tmp_path / "copy"
    copy.mkdir()
    unpack = ["tar", "--extract", "--preserve-permissions", "--directory", copy]
    done = subprocess.run(unpack, input=archive_of(folder), capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert listing(copy) == listing(folder)
    assert len(listing(folder)) == 17


def test_the_order_in_which_a_folder_was_made_is_nothing(folder: Path, tmp_path: Path) -> None:
    # spec: FLD-2
    other = make_folder(tmp_path / "other name", seed=1)
    assert archive_of(other) == archive_of(folder)
    found = subprocess.run(
        [sys.executable, "-c", ARCHIVE, str(folder)],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tokyo"},
        capture_output=True,
        timeout=60,
    )
    assert (found.stdout, found.stderr) == (archive_of(folder), b"")


ARCHIVE = """
import sys
from pathlib import Path
from tests.support.archives import archive_of
sys.stdout.buffer.write(archive_of(Path(sys.argv[1])))
"""


def test_members_stand_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    # spec: FLD-2
    for name in ("a/z", "a-b/x", "a0", "\N{LATIN SMALL LETTER Z WITH CARON}", "Z"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).touch()
    names = [seen.member.name for seen in look_through(os.fsencode(tmp_path / "f"), pytest.fail)]
    caron = "\N{LATIN SMALL LETTER Z WITH CARON}"
    assert names == [".", "Z", "a", "a/z", "a-b", "a-b/x", "a0", caron]


def test_every_member_passes_the_filter_of_the_standard_library(
    folder: Path, tmp_path: Path
) -> None:
    # spec: FLD-3
    path = tmp_path / "archive"
    path.write_bytes(archive_of(folder))
    with tarfile.open(path) as archive:
        for member in archive:
            assert tarfile.data_filter(member, str(folder)).name == member.name


def test_what_the_manifest_says(folder: Path) -> None:
    source = open_source(folder, None)
    assert source.archive == Archive(17, 511 + 512 + 1_500_000 + 1 + 4)
    assert source.name == "folder"
    (text,) = source.warnings
    assert text.startswith("2 of its members have a setuid, setgid or sticky bit")
    source.close()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert len(archive_of(tmp_path / "none")) == 512 + 1_024
    source = open_source(tmp_path / "none", None)
    assert (source.archive, source.warnings) == (Archive(1, 0), ())
    source.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="The capture is of a folder of root's.")
def test_the_folder_of_the_captures(tmp_path: Path) -> None:
    # spec: FLD-1, FLD-2
    facts = json.loads((ROOT / "captures" / "index.json").read_text())["folder"]
    archive = archive_of(small_folder(tmp_path / "site"))
    assert (len(archive), sha256(archive).hexdigest()) == (facts["size"], facts["sha256"])


def refusal(folder: Path) -> str:
    """Return why a folder is refused; nothing may be left open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(DiskError) as caught:
        open_source(folder, None)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    return str(caught.value)


LINKS = {
    "/etc/passwd": "out",
    "../..": "out",
    "../../x": "out",
    "sub/../../../x": "out",
    "sub/up/../x": "out",  # by its words inside
    "../far/../../x": "out",  # by its words outside
    "circle": "circle",
    "..": "",
    "sub/up": "",
    "./b//c/": "",
    "missing/../b": "",
}


@pytest.mark.parametrize("target", LINKS)
def test_links_that_lead_out(tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: FLD-3
    # What the library's filter finds differs from version to version.
    monkeypatch.setattr(tarfile, "data_filter", lambda member, _: member)
    folder = tmp_path / "folder"
    (folder / "in" / "sub").mkdir(parents=True)
    (folder / "far").symlink_to("in/sub")
    (folder / "in" / "sub" / "up").symlink_to("../..")
    (folder / "in" / "circle").symlink_to(target)
    why = {"out": "leads out of the folder, to ", "circle": "leads in a circle"}
    if expected := why.get(LINKS[target]):
        assert f"source {folder}: in/circle {expected}" in refusal(folder)
    else:
        archive_of(folder)


def test_links_that_pass_here_pass_the_filter_of_receivers(tmp_path: Path) -> None:
    # spec: FLD-3
    draw = Random(7)
    folder, parts = tmp_path / "folder", ("a", "b", "..", ".", "l1", "l2", "x")
    (folder / "a" / "b" / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    passed = 0
    for _ in range(300):
        for name in ("l1", "a/l2", "a/b/l1", "b/x"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to("/".join(draw.choices(parts, k=draw.randint(1, 5))))
        found = list(look_through(os.fsencode(folder), lambda *_: None))
        inside = {str(folder), *map(str, folder.rglob("*"))}
        for seen in found:
            path = Path(os.fsdecode(seen.path))
            if path.is_symlink():
                passed += 1
                real = os.path.realpath(path)
                assert real in inside or real.startswith(f"{folder}/")
                info = tarfile.TarInfo(seen.member.name)
                info.type, info.linkname = tarfile.SYMTYPE, seen.member.target
                tarfile.data_filter(info, str(folder))
    assert 100 < passed < 1_200


def test_what_no_folder_can_have(tmp_path: Path) -> None:
    # spec: FLD-3
    folder = tmp_path / "folder"
    (folder / "run").mkdir(parents=True)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "run" / "sock"))
    (folder / "out").symlink_to("../out")
    (folder / "z\x1b[2J").symlink_to("/")
    assert refusal(folder) == (
        f"source {folder}: fifo is a FIFO; out leads out of the folder, to ../out; run/sock is a "
        "socket; and 1 more: can't be sent; move it away, or send an archive of your own"
    )
    (folder / "fifo").unlink()
    (folder / "run" / "sock").unlink()
    assert "\x1b" not in refusal(folder)


def test_times_that_receivers_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # spec: FLD-3
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "late").touch()
    # Not every disk has such times.
    monkeypatch.setattr(survey, "MOST_TIME", 5)
    assert "late was changed more than 5 s from 1970: can't" in refusal(tmp_path / "f")


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root makes devices.")
def test_devices(tmp_path: Path) -> None:
    # spec: FLD-3
    (tmp_path / "f").mkdir()
    os.mknod(tmp_path / "f" / "null", 0o20666, os.makedev(1, 3))
    os.mknod(tmp_path / "f" / "disk", 0o60666, os.makedev(7, 200))
    assert "disk is a device; null is a device: can't" in refusal(tmp_path / "f")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    # spec: FLD-3
    folder = os.fsencode(tmp_path / "folder")
    os.mkdir(folder)  # noqa: PTH102
    os.mkdir(folder + b"/caf\xe9")  # noqa: PTH102
    os.symlink(b"\xff", folder + b"/link")  # noqa: PTH211
    assert "caf\ufffd is no UTF-8; link leads to \ufffd, which is no UTF-8: can't" in refusal(
        tmp_path / "folder"
    )


def test_what_can_not_be_read() -> None:
    # spec: FLD-3
    with TemporaryDirectory() as name:  # pytest's own are private
        Path(name).chmod(0o711)
        _closed(Path(name) / "folder")


def _closed(folder: Path) -> None:
    (folder / "closed").mkdir(parents=True)
    (folder / "file").touch(mode=0)
    (folder / "closed").chmod(0)
    with ordinary_user():
        found = refusal(folder)
    assert "closed Permission denied; file can't be read: can't be sent" in found


def touched(path: Path) -> None:
    """Change the time of a file to the same one: that of its status is another."""
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "grown": (lambda folder: os.truncate(folder / "c", 1_600_000), "c"),
    "cut": (lambda folder: os.truncate(folder / "c", 5), "c"),
    "written": (lambda folder: (folder / "c").write_bytes(b"D" * 1_500_000), "c"),
    "an earlier one": (lambda folder: (folder / "a").write_bytes(b"D" * 511), "a"),
    "of another mode": (lambda folder: (folder / "a").chmod(0o600), "a"),
    "touched": (lambda folder: touched(folder / "a"), "a"),
    "replaced": (lambda folder: (folder / "empty").rename(folder / "c"), "c"),
    "gone": (lambda folder: (folder / "empty").unlink(), "empty"),
    "new": (lambda folder: (folder / "zz").touch(), "zz"),
    "gone and made again": (
        lambda folder: ((folder / "gone").unlink(), (folder / "gone").symlink_to("not/there")),
        "gone",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_meanwhile_is_not_sent(folder: Path, change: str) -> None:
    # spec: FLD-4
    make, name = CHANGES[change]
    reports = 0

    def at_c(done: int, total: int | None) -> None:
        nonlocal reports
        if total is not None and done > 1_000_000 and not reports:
            reports += 1
            make(folder)

    with pytest.raises(DiskError, match=r"changed while it was read \(|c: No such file") as caught:
        archive_of(folder, at_c)
    assert reports == 1
    assert f"({name})" in str(caught.value) or "No such file" in str(caught.value)
    archive_of(folder)  # another time it is quiet


def test_what_changes_later_changes_nothing(folder: Path) -> None:
    # spec: FLD-4
    expected = archive_of(folder)
    source = open_source(folder, None)
    (folder / "c").unlink()
    source.check()
    memory = bytearray(source.size)
    source.read_into(memoryview(memory), 0)
    assert memory == expected
    source.close()


def test_it_stops_at_once(folder: Path) -> None:
    for after in (0, 5, 18, 25, 30):
        count = 0

        def report(_done: int, _total: int | None, after: int = after) -> None:
            nonlocal count
            count += 1
            if count > after:
                raise Interrupted("enough")

        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        with pytest.raises(Interrupted):
            archive_of(folder, report)
        assert count == after + 1
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_library_without_the_filter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(UsageError, match=r"3\.11\.4 or later"):
        open_source(folder, None)


def test_a_spool_without_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "room_of", lambda _: 1_000_000)
    with pytest.raises(DiskError, match=r"spool .*: the archive of .*folder needs 1\.4 MiB") as one:
        open_source(folder, None)
    assert one.value.cause == "spool"
    with pytest.raises(DiskError, match=r"spool .*: No such file or directory") as one:
        open_source(folder, folder / "none")
    assert one.value.cause == "spool"
    with pytest.raises(UsageError, match="spool: is for folders and standard input"):
        open_source(folder / "a", folder)


def test_more_members_than_there_are_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_MEMBERS", 16)
    assert "too large" in refusal(folder)


def test_a_spool_inside_of_the_folder(folder: Path) -> None:
    expected = archive_of(folder)
    source = open_source(folder, folder)
    assert source.size == len(expected)
    source.close()


def test_names_of_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "nothing")
    for path, name in ((".", "nothing"), ("..", "folder"), (f"{folder}/", "folder"), ("../a", "a")):
        source = open_source(Path(path), None)
        assert source.name == name
        source.close()
    monkeypatch.chdir("/")
    assert SourceFile(folder / "a").name == "a"
