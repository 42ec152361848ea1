"""Folders that are put in place: at once, instead of what, and whatever ends the run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pgmlite.errors import DiskError, UsageError
from pgmlite.net.destinations import folder as destination
from pgmlite.storage import exchange, syscalls, unpack
from pgmlite.storage.listing import folder_identity
from pgmlite.storage.removal import remove_tree
from pgmlite.wire.manifest import Archive
from tests.storage.test_storage import NOBODY, ordinary_user
from tests.support import disks, parts
from tests.support.builders import make_object
from tests.support.folders import (
    Receiving,
    Tar,
    everything,
    holds_version,
    names,
    receive,
    sample_of,
    version,
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "place" / "out"


@pytest.fixture(autouse=True)
def place(output: Path) -> Path:
    output.parent.mkdir()
    return output.parent


def test_what_is_unpacked_is_what_was_packed(output: Path) -> None:
    # spec: FLD-7
    owner = {"uid": NOBODY, "gid": 12}
    tar = Tar(root=False).folder(".", mode=0o711, mtime=1_500_000_000)
    tar.folder("closed", mode=0o500, mtime=1_400_000_000, **owner)
    tar.add("closed/file", content=b"f" * 5_000, mode=0o4751, mtime=1_300_000_000, **owner)
    tar.link("closed/to", "../empty", mtime=1_200_000_000, **owner)
    tar.folder("empty", mode=0, mtime=1_100_000_000).add("none", mode=0, mtime=-5)
    tar.same("twin", "closed/file")
    receiving = receive(output, tar.sample())
    assert receiving.is_new
    found = everything(output)
    ours = (os.geteuid(), os.getegid())
    theirs = (NOBODY, 12) if not os.geteuid() else ours
    nobody = ours if os.geteuid() else (0, 0)
    assert found["."][:4] == (stat.S_IFDIR | 0o711, *nobody, 1_500_000_000)
    assert found["closed"][:4] == (stat.S_IFDIR | 0o500, *theirs, 1_400_000_000)
    assert found["closed/file"] == (
        *(stat.S_IFREG | 0o751, *theirs, 1_300_000_000, 2, b"f" * 5_000),
    )
    assert found["closed/to"] == (*(stat.S_IFLNK | 0o777, *theirs, 1_200_000_000, 0, "../empty"),)
    assert found["empty"][:4] == (stat.S_IFDIR, *nobody, 1_100_000_000)
    assert found["none"] == (stat.S_IFREG, *nobody, -5, 1, b"")
    assert found["twin"] == found["closed/file"]
    assert names(output.parent) == ["out", "out.pgmlite"]
    assert any("sticky bits of 1 members" in text for text in receiving.warnings)


def test_a_user_has_what_he_can(tmp_path: Path) -> None:
    # spec: FLD-7
    tar = Tar(root=False).folder(".", mode=0o500).folder("a", mode=0, uid=12)
    tar.add("a/b", content=b"x", mode=0, uid=12).folder("a/c", mode=0o500).add("a/c/d")
    place = tmp_path / "open"
    place.mkdir()
    if not os.geteuid():
        os.chown(place, NOBODY, NOBODY)
        for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            path.chmod(0o755)
    output = place / "out"
    with ordinary_user():
        me = os.geteuid()
        for _ in range(2):
            assert receive(output, tar.sample(), verify_media=True).is_new
            assert output.stat().st_uid == me
            assert stat.S_IMODE(output.stat().st_mode) == 0o500
            assert not receive(output, tar.sample()).is_new, "though it can't look into all of it"
            receive(output, version(1).sample())
        assert holds_version(output, 1)
        assert names(place) == ["out", "out.pgmlite"], "what was closed is removed"
    remove_tree("out", dir_fd=os.open(place, os.O_RDONLY))


def test_what_is_in_place_is_not_fetched(output: Path) -> None:
    # spec: FLD-9
    sample = version(1).sample()
    receive(output, sample)
    before = folder_identity(output)
    receiving = receive(output, sample)
    assert receiving.is_new is False
    assert receiving.machine.counters.fetched == 0
    assert folder_identity(output) == before
    assert names(output.parent) == ["out", "out.pgmlite"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "sub/file").chmod(0o600),
        lambda folder: (folder / "sub/new").write_bytes(b""),
        lambda folder: (folder / "to").unlink(),
        lambda folder: (folder / "sub/twin").rename(folder / "sub/other"),
        lambda folder: os.utime(folder / "sub/file", ns=(1, 1)),
        lambda folder: (folder / "only-1").write_bytes(b"longer"),
        lambda folder: folder.chmod(0o700),
    ],
)
def test_what_was_changed_is_fetched(output: Path, change: Any) -> None:
    # spec: FLD-9
    sample = version(1).sample()
    receive(output, sample)
    change(output)
    receiving = receive(output, sample)
    assert receiving.is_new
    assert receiving.machine.counters.fetched == sample.manifest.symbols
    assert holds_version(output, 1)


@pytest.mark.parametrize("mtime", [9_300_000_000, 1 << 39, -(1 << 39)])
def test_times_far_away_are_times(output: Path, mtime: int) -> None:
    # spec: FLD-6, FLD-9
    sample = version(1).add("far", mtime=mtime).link("away", "far", mtime=mtime).sample()
    assert receive(output, sample).is_new
    assert receive(output, sample).is_new is False
    os.utime(output / "far", (0, 0))
    assert receive(output, sample).is_new


def test_what_was_there_for_a_moment_changes_nothing(output: Path) -> None:
    # spec: FLD-9
    receive(output, version(1).sample())
    (output / "sub/lock").touch()
    (output / "sub/lock").unlink()
    assert receive(output, version(1).sample()).is_new is False


def test_a_record_that_others_can_have_put_there_is_not_believed(output: Path) -> None:
    # spec: FLD-9
    receive(output, version(1).sample())
    output.parent.chmod(0o777)
    assert receive(output, version(1).sample()).is_new, "though it may be ours to replace"


def test_a_file_is_refused(output: Path) -> None:
    # spec: FLD-5
    with closing(Receiving(output)) as receiving:
        receiving.take(make_object(3_000))
        receiving.machine.receive(0, next(iter(parts.batches(version(1).sample().all_odata()))))
    refused = receiving.machine.counters.refused
    assert refused["archive"] == 1
    assert set(refused) == {"archive", "object"}, "nothing is taken before it is known"
    assert names(output.parent) == []
    (other,) = receiving.machine.evidence.others.values()
    assert other.answer.reason == "archive"


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (Archive(3, 1 << 50), "disk"),
        (Archive((1 << 32) - 1, 0), "too_large"),
        (Archive(3, 10), ""),
    ],
)
def test_it_is_known_before_whether_there_is_room(
    output: Path, archive: Archive, reason: str
) -> None:
    # spec: FLD-5
    manifest = sample_of(bytes(5_000), archive).manifest
    with closing(Receiving(output)) as receiving:
        assert receiving.place.refuses(manifest) == reason


def test_files_count_as_whole_blocks_and_as_inodes(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: FLD-5
    manifest = sample_of(bytes(5_000), Archive(50, 10)).manifest
    with closing(Receiving(output)) as receiving:
        real = os.fstatvfs(receiving.place.part.fd)

        def says(**changed: int) -> None:
            fields = {name: getattr(real, name) for name in dir(real) if name.startswith("f_")}
            values = type("Disk", (), fields | changed)
            monkeypatch.setattr(os, "fstatvfs", lambda fd: values)

        says(f_frsize=4_096, f_bavail=53, f_favail=50)
        assert receiving.place.refuses(manifest) == ""
        says(f_frsize=4_096, f_bavail=51, f_favail=50)
        assert receiving.place.refuses(manifest) == "disk"
        says(f_frsize=4_096, f_bavail=53, f_favail=49)
        assert receiving.place.refuses(manifest) == "disk"
        says(f_frsize=4_096, f_bavail=53, f_files=0, f_favail=0)
        assert receiving.place.refuses(manifest) == "", "it does not say"


# Instead of what.


def test_folders_of_others_are_left_alone(output: Path) -> None:
    # spec: FLD-8
    output.mkdir()
    (output / "mine").write_bytes(b"mine")
    with pytest.raises(DiskError, match="no recv put there; move it away, or keep it with --keep"):
        Receiving(output)
    assert names(output.parent) == ["out"]
    receive(output, version(1).sample(), keep=1)
    assert holds_version(output, 1)
    assert names(output.parent / "out.1") == ["mine"]


def test_an_empty_folder_is_replaced(output: Path) -> None:
    output.mkdir()
    receive(output, version(1).sample())
    assert holds_version(output, 1)
    assert names(output.parent) == ["out", "out.pgmlite"]


def test_what_somebody_puts_there_meanwhile_is_not_lost(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: FLD-8
    output.mkdir()
    with closing(Receiving(output)) as receiving:
        (output / "mine").write_bytes(b"mine")
        with pytest.raises(DiskError, match="no recv put there"):
            receiving.take(version(1).sample())
    assert names(output) == ["mine"]
    (output / "mine").unlink()
    real = exchange.exchange_names

    def late(first: str, second: str, *, dir_fd: int) -> bool:
        (output / "late").write_bytes(b"late")
        return real(first, second, dir_fd=dir_fd)

    monkeypatch.setattr(exchange, "exchange_names", late)
    receiving = receive(output, version(1).sample())
    assert holds_version(output, 1)
    assert names(output.parent / "out.1") == ["late"]
    assert any("out.1" in text for text in receiving.warnings)


def test_as_many_are_kept_as_were_asked_for(output: Path) -> None:
    # spec: FLD-8
    for number in range(1, 6):
        receive(output, version(number).sample(), keep=2)
    assert names(output.parent) == ["out", "out.1", "out.2", "out.pgmlite"]
    for name, number in (("out", 5), ("out.1", 4), ("out.2", 3)):
        assert holds_version(output.parent / name, number)


def test_names_for_those_that_are_kept_must_be_free(output: Path) -> None:
    (output.parent / "out.2").write_bytes(b"mine")
    with pytest.raises(DiskError, match=r"out\.2 is there"):
        Receiving(output, keep=2)
    receive(output, version(1).sample(), keep=1)


def test_a_link_stays_and_its_target_is_replaced(output: Path) -> None:
    link = output.parent / "link"
    link.symlink_to("deep/real")
    (output.parent / "deep").mkdir()
    for number in (1, 2):
        receive(link, version(number).sample())
        assert holds_version(output.parent / "deep/real", number)
    assert link.is_symlink()
    assert names(output.parent) == ["deep", "link"]
    assert names(output.parent / "deep") == ["real", "real.pgmlite"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "can't be replaced"),
        (".", "can't be replaced"),
        ("..", "can't be replaced"),
        ("place/..", "can't be replaced"),
        ("place/file", "is no folder"),
        ("/dev/null", "is no folder"),
        ("/proc", "is mounted there"),
        ("missing/out", "does not exist"),
        ("/dev/fd/0", "another program has open"),
    ],
)
def test_what_can_not_be_replaced_is_said_at_once(
    output: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(output.parent.parent)
    (output.parent / "file").write_bytes(b"")
    with pytest.raises(DiskError, match=words):
        Receiving(Path(path))
    assert names(output.parent.parent) == ["place"]


def test_an_old_python_is_said_at_once(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("tarfile.data_filter")
    with pytest.raises(UsageError, match=r"3\.11\.4 or later"):
        Receiving(output)
    assert names(output.parent) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root mounts.")
def test_what_is_mounted_in_it_is_not_removed(output: Path) -> None:
    script = """
import os, subprocess, sys
from contextlib import closing
from pathlib import Path
from tests.support.folders import *
output = Path(sys.argv[1])
receive(output, version(1).sample())
(output / "data").mkdir()
other = output.parent / "other"
other.mkdir()
(other / "mine").write_bytes(b"mine")
subprocess.run(["mount", "--bind", other, output / "data"], check=True)
receiving = receive(output, version(2).sample())
assert holds_version(output, 2)
assert names(other) == ["mine"]
assert any("can't be removed" in text for text in receiving.warnings), receiving.warnings
"""
    command = ["unshare", "--mount", sys.executable, "-c", script, str(output)]
    done = subprocess.run(command, cwd=disks.ROOT, capture_output=True, text=True, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert not done.returncode, done.stderr


# Disks.


def test_what_is_read_back_wrong_is_not_put_in_place(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(output, version(1).sample())

    def spoil(fd: int) -> None:
        os.pwrite(fd, b"!", 0)

    monkeypatch.setattr(unpack, "forget_cache", spoil)
    with pytest.raises(DiskError, match="does not read back as it was written"):
        receive(output, version(2).sample(), verify_media=True)
    assert holds_version(output, 1)


@pytest.mark.parametrize("reads_back", [False, True])
def test_without_a_call_for_all_at_once_every_file_is_synced(
    output: Path, monkeypatch: pytest.MonkeyPatch, *, reads_back: bool
) -> None:
    # spec: FLD-8
    monkeypatch.setattr(unpack, "can_sync_disk", lambda: False)
    synced = []
    real = unpack.sync_all
    monkeypatch.setattr(unpack, "sync_all", lambda fd: (synced.append(fd), real(fd)))
    receive(output, version(1).sample(), verify_media=reads_back)
    assert len(synced) >= 4, "two files, two folders"
    assert holds_version(output, 1)


def test_a_partial_file_that_is_written_meanwhile_is_not_believed(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: FLD-7
    real = destination.judge

    def meanwhile(fd: int, *args: Any, **named: Any) -> Any:
        found = real(fd, *args, **named)
        os.pwrite(fd, b"!", 4_000)
        os.utime(fd, ns=(7, 7))
        return found

    monkeypatch.setattr(destination, "judge", meanwhile)
    with pytest.raises(DiskError, match="another program wrote to it"):
        receive(output, version(1).sample())
    assert not output.exists()


def test_removing_does_not_follow_links_and_takes_no_recursion(tmp_path: Path) -> None:
    # spec: FLD-8
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(b"sings")
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "tree").mkdir()
    below = os.open(tmp_path / "tree", os.O_RDONLY)
    os.symlink(outside, "link", dir_fd=below)
    for _ in range(1_050):
        os.mkdir("d", dir_fd=below)
        deeper = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    remove_tree("tree", dir_fd=fd)
    remove_tree("tree", dir_fd=fd)
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        remove_tree("link", dir_fd=fd)
    os.close(fd)
    assert names(outside) == ["canary"]


def test_the_calls_that_python_does_not_have(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_bytes(b"")
    assert syscalls.exchange_names("a", "b", dir_fd=fd)
    assert (tmp_path / "b").is_dir()
    with pytest.raises(FileExistsError):
        syscalls.rename_alone("a", "b", dir_fd=fd)
    syscalls.rename_alone("a", "c", dir_fd=fd)
    with pytest.raises(FileNotFoundError):
        syscalls.exchange_names("a", "b", dir_fd=fd)
    assert syscalls.can_sync_disk()
    syscalls.sync_disk(fd)
    os.close(fd)
    assert names(tmp_path) == ["b", "c", "place"]
