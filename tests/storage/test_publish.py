"""What is published, in whose place, and what of the old output it keeps."""

import errno
import os
import stat
from pathlib import Path

import pytest

from pgmlite.errors import DiskError
from pgmlite.storage.folder import resolve_output
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import Identity, identity_of
from tests.support.part_files import (
    SAMPLE,
    complete,
    held_symbols,
    matches,
    open_part,
    publish,
    store,
)

STRANGER = 65_534
ALL = range(SAMPLE.manifest.symbols)
BLOCKS = range(SAMPLE.manifest.blocks)


def test_replacing_keeps_mode_and_owner(tmp_path):
    output = tmp_path / "out"
    output.write_bytes(b"old")
    output.chmod(0o640)
    if not os.geteuid():
        os.chown(output, STRANGER, STRANGER)
        tmp_path.chmod(0o755)
    before = output.stat()
    part, _ = open_part(output)
    assert stat.S_IMODE(part.path.stat().st_mode) == 0o600
    store(part, ALL)
    publish(part)
    after = output.stat()
    assert after.st_mode == before.st_mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_looks_that_are_refused_are_told_of_with_the_output(tmp_path, monkeypatch):
    output = tmp_path / "out"
    output.write_bytes(b"old")
    output.chmod(0o640)
    part, _ = open_part(output)
    store(part, ALL)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    publish(part)
    assert (
        f"output {output}: permissions 640: Operation not permitted; others stay" in part.warnings
    )
    assert output.read_bytes() == SAMPLE.data


def test_a_new_output_has_the_usual_mode(tmp_path):
    mask = os.umask(0o027)
    try:
        part, _ = open_part(tmp_path / "out")
    finally:
        os.umask(mask)
    store(part, ALL)
    publish(part)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_a_privilege_is_not_passed_on(tmp_path):
    # The content comes from the network, and the new file may belong to somebody else.
    output = tmp_path / "out"
    output.write_bytes(b"old")
    output.chmod(0o4755)
    part, _ = open_part(output)
    store(part, ALL)
    publish(part)
    assert output.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("shared", [False, True])
def test_a_strangers_output_is_kept_his_only_where_nobody_lays_files(tmp_path, shared):
    if os.geteuid():
        pytest.skip("only root gives files away")
    folder = tmp_path / "folder"
    folder.mkdir()
    output = folder / "out"
    output.write_bytes(SAMPLE.data)
    output.chmod(0o666)
    os.chown(output, STRANGER, STRANGER)
    folder.chmod(0o1777 if shared else 0o755)
    part, _ = open_part(output)
    assert all(matches(part, block) for block in BLOCKS)
    assert publish(part) is shared
    assert output.read_bytes() == SAMPLE.data
    assert (output.stat().st_uid == STRANGER) is not shared
    assert bool(output.stat().st_mode & 0o022) is not shared


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "real"
    target.write_bytes(b"old")
    (tmp_path / "between").symlink_to("deep/real")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "between")
    part, _ = open_part(link)
    assert part.path == tmp_path / "deep" / "real.part"
    store(part, ALL)
    publish(part)
    assert link.is_symlink()
    assert target.read_bytes() == SAMPLE.data
    assert link.read_bytes() == SAMPLE.data


def test_a_link_to_what_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to("real")
    part, _ = open_part(tmp_path / "link")
    store(part, ALL)
    publish(part)
    assert (tmp_path / "real").read_bytes() == SAMPLE.data
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/null"])
def test_devices_and_open_files_are_no_outputs(output):
    with pytest.raises(DiskError, match=output):
        resolve_output(Path(output))


def test_a_link_to_an_open_file_is_no_output(tmp_path):
    with (tmp_path / "open").open("w") as file:
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(DiskError, match="another program has open"):
            resolve_output(tmp_path / "link")


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DiskError, match="too many links"):
        resolve_output(tmp_path / "a")


@pytest.mark.parametrize("name", ["x" * 255, "x" * 247, "x" * 251, "\u00fc" * 127, "\u20ac" * 85])
def test_long_names(tmp_path, name):
    output = tmp_path / name
    part, _ = open_part(output)
    store(part, [1])
    part.close()
    part, held = open_part(output)
    assert held_symbols(held) == {1}
    store(part, ALL)
    publish(part)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert output.read_bytes() == SAMPLE.data


@pytest.mark.parametrize("kind", ["link", "hard link", "writable", "folder", "fifo", "stranger"])
@pytest.mark.parametrize("suffix", [".part", ".part.map"])
def test_what_is_not_ours_is_not_used(tmp_path, kind, suffix):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    laid = tmp_path / f"out{suffix}"
    match kind:
        case "link":
            laid.symlink_to(victim)
        case "hard link":
            laid.hardlink_to(victim)
        case "writable":
            laid.write_bytes(b"his")
            laid.chmod(0o666)
        case "folder":
            laid.mkdir()
        case "fifo":
            os.mkfifo(laid)
        case "stranger":
            if os.geteuid():
                pytest.skip("only root gives files away")
            laid.write_bytes(b"his")
            os.chown(laid, STRANGER, STRANGER)
    if suffix == ".part":
        with pytest.raises(DiskError, match=r"out\.part"):
            PartFile(tmp_path / "out")
    else:  # without a record it works all the same
        part, _ = open_part(tmp_path / "out")
        store(part, ALL)
        assert "no record" in part.warnings[0]
        publish(part)
        assert (tmp_path / "out").read_bytes() == SAMPLE.data
    assert victim.read_bytes() == b"precious"
    assert os.path.lexists(laid)


@pytest.mark.parametrize("way", ["renamed", "exchanged", "room taken", "by name"])
def test_it_is_the_descriptor_that_is_published(tmp_path, way, monkeypatch):
    output = tmp_path / "out"
    if way == "by name":  # file systems that open no folders
        opened = os.open

        def refuse(path, flags, *how, **where):
            if flags & os.O_DIRECTORY:
                raise OSError(errno.EACCES, "Permission denied")
            return opened(path, flags, *how, **where)

        monkeypatch.setattr(os, "open", refuse)
    part, _ = open_part(output)
    store(part, ALL)
    assert part.settle(complete()) == []
    if way in ("renamed", "exchanged"):
        part.path.rename(tmp_path / "away")
    if way == "exchanged":
        part.path.write_bytes(b"his")
    if way == "room taken":
        (tmp_path / "out.part.d").mkdir(mode=0o777)
        (tmp_path / "out.part.d").chmod(0o777)
    part.publish(complete())
    part.close()
    assert output.read_bytes() == SAMPLE.data
    if way == "exchanged":
        assert part.path.read_bytes() == b"his"


def test_a_partial_file_that_was_removed_is_not_published(tmp_path):
    part, _ = open_part(tmp_path / "out")
    store(part, ALL)
    part.path.unlink()
    part.path.write_bytes(b"his")
    assert part.settle(complete()) == []
    with pytest.raises(DiskError, match="another"):
        part.publish(complete())
    part.close()
    assert part.path.read_bytes() == b"his"
    assert not (tmp_path / "out").exists()


def test_what_a_killed_publication_left_is_brought_back(tmp_path):
    part, _ = open_part(tmp_path / "out")
    store(part, ALL)
    part.close()
    room = tmp_path / "out.part.d"
    room.mkdir(mode=0o700)
    part.path.rename(room / "file")
    part, held = open_part(tmp_path / "out")
    assert held_symbols(held) == set(ALL)
    assert not room.exists()
    publish(part)
    assert (tmp_path / "out").read_bytes() == SAMPLE.data


def test_the_new_output_is_told_of_before_it_is_one(tmp_path):
    output, told = tmp_path / "out", []

    def before(identity: Identity) -> None:
        assert not output.exists()
        told.append(identity)

    part, _ = open_part(output, before_rename=before)
    store(part, ALL)
    publish(part)
    assert told == [identity_of(output.stat())]
