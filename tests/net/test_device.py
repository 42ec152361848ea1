"""``recv --device``: loop devices that an object is written to, and devices that are left alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgmlite.core.machine import Prepare
from pgmlite.errors import DiskError
from pgmlite.net.destinations.device import DeviceDestination
from pgmlite.net.waiting import Waits, block
from pgmlite.storage import in_use
from pgmlite.storage.device import BlockDevice
from pgmlite.storage.in_use import number_text
from pgmlite.storage.record import Identity, Publication
from tests.bench import device_kills
from tests.support.builders import Sample, make_object
from tests.support.disks import loop_device, sh
from tests.support.loopback import BLOCK, endpoint, make_file, run, sending, until
from tests.support.piping import blocks, complete, fill_in, prepare

pytestmark = pytest.mark.lab

SIZE = 1 << 20
SAMPLE = make_object(400_001, symbol_size=1_024, block_symbols=16)
"""Its last block is no multiple of a sector."""

HEAD = blocks(SAMPLE)[0].length


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What the device had before."""
    return make_file(tmp_path / "disk.img", SIZE, seed=7)


@pytest.fixture
def device(image: Path) -> Iterator[Path]:
    with loop_device(image) as device:
        yield device


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


class Site:
    """A destination, and what it asks before the object is in place."""

    def __init__(self, device: Path, spool: Path, image: Path, *, verify_media: bool = False):
        self.asked: list[Identity | None] = []
        self.error: DiskError | None = None
        self.last = 0
        self.image = image
        self.destination = DeviceDestination(
            device, spool, self.before, lambda event: None, verify_media=verify_media
        )
        self.part = self.destination.part

    def before(self, identity: Identity | None) -> None:
        missing = self.missing()
        assert len(missing) == 1, "until it may be in place something of it is missing"
        assert missing[0] == self.last
        self.asked.append(identity)
        if self.error:
            raise self.error

    def missing(self) -> list[int]:
        """Return the blocks that the device has not."""
        data = Path(self.destination.name).read_bytes()
        spans = [(n, slice(at, at + size)) for n, (at, size, *_) in enumerate(blocks(SAMPLE))]
        return [n for n, span in spans if data[span] != SAMPLE.data[span]]

    @property
    def bytes(self) -> bytes:
        return self.image.read_bytes()

    def look(self, sample: Sample = SAMPLE) -> list[bool]:
        """Look for the blocks that are there already; return which are."""
        prepare(self.part, sample)
        return [self.part.matches(at, size, digest) for at, size, _, digest in blocks(sample)]

    def publish(self, sample: Sample = SAMPLE) -> bool:
        return end_of(self.destination.publish(complete(sample)))


def end_of(waits: Waits[bool]) -> bool:
    while True:
        try:
            block(next(waits))
        except StopIteration as end:
            return bool(end.value)


@pytest.fixture
def site(device: Path, spool: Path, image: Path, tmp_path: Path, monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("PGMLITE_STATE", str(tmp_path / "state"))
    site = Site(device, spool, image)
    yield site
    site.destination.close()


# What is written.


def test_blocks_are_written_as_they_come_and_the_first_one_at_the_end(
    site: Site, spool: Path, image: Path
) -> None:
    # spec: RCV-29
    before = image.read_bytes()
    assert not any(site.look())
    fill_in(site.part, SAMPLE, [3, 0, 24, *range(4, 24), 1, 2])
    assert site.asked == []
    assert site.publish()
    assert len(site.asked) == 1
    assert site.asked == [site.destination.identity()]
    assert site.bytes == SAMPLE.data + before[len(SAMPLE.data) :], "what lies behind stays"
    assert list(spool.iterdir()) == []


def test_what_may_not_be_in_place_is_not(site: Site, image: Path, spool: Path) -> None:
    # spec: RCV-29, TRU-6
    before = image.read_bytes()
    site.look()
    fill_in(site.part, SAMPLE)
    site.error = DiskError("another receiver has installed a higher release")
    with pytest.raises(DiskError, match="a higher release"):
        site.publish()
    site.destination.close()
    assert site.bytes[:HEAD] == before[:HEAD]
    assert len(list(spool.iterdir())) == 2, "what came stays for the next run"


def test_what_is_there_is_not_fetched_and_not_written(
    site: Site, device: Path, image: Path
) -> None:
    # spec: RCV-29
    with device.open("r+b") as file:
        file.write(SAMPLE.data)
    written = image.stat().st_mtime_ns
    assert all(site.look())
    assert site.part.reused == len(SAMPLE.data)
    assert site.publish() is False
    assert site.asked == []
    assert image.stat().st_mtime_ns == written
    assert site.destination.identity() is not None


def test_where_a_part_is_the_same_the_rest_is_written(site: Site, device: Path) -> None:
    # spec: RCV-29
    with device.open("r+b") as file:
        file.write(SAMPLE.data[:100_000])
    there = site.look()
    assert there == [end <= 100_000 for end in (at + size for at, size, *_ in blocks(SAMPLE))]
    fill_in(site.part, SAMPLE, [n for n, is_there in enumerate(there) if not is_there])
    # The first block was there all the time: another one comes last.
    site.last = there.index(False)
    assert site.publish()
    assert site.asked == [site.destination.identity()]
    assert site.bytes[: len(SAMPLE.data)] == SAMPLE.data


def test_what_an_earlier_run_wrote_is_not_what_comes_last(
    site: Site, device: Path, spool: Path, image: Path
) -> None:
    # spec: RCV-29, TRU-6
    with device.open("r+b") as file:
        file.write(SAMPLE.data[:100_000])
    there = site.look()
    missing = [n for n, is_there in enumerate(there) if not is_there]
    fill_in(site.part, SAMPLE, missing)
    until(lambda: len(site.missing()) == 1)
    site.destination.close()
    again = Site(device, spool, image)
    assert all(again.look())
    again.last = missing[0]
    assert again.missing() == missing[:1]
    assert again.publish()
    assert len(again.asked) == 1
    assert again.missing() == []
    again.destination.close()


def test_what_the_medium_did_not_keep_is_written_again(site: Site, image: Path) -> None:
    # spec: RCV-29
    site.look()
    fill_in(site.part, SAMPLE)
    waits = site.destination.publish(complete(SAMPLE))
    block(next(waits))
    os.sync()
    with image.open("r+b") as file:  # behind the back of the system, which has it in memory
        file.seek(200_000)
        file.write(bytes(5_000))
    assert end_of(waits)
    assert site.bytes[: len(SAMPLE.data)] == SAMPLE.data


def test_a_medium_that_keeps_nothing_is_an_error(
    site: Site, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: RCV-29
    before = image.read_bytes()
    real, written = os.pwrite, []

    def lie(fd: int, data: memoryview, offset: int) -> int:
        written.append(offset)
        return len(data)

    site.look()
    fill_in(site.part, SAMPLE, [0])
    monkeypatch.setattr("pgmlite.storage.device.os.pwrite", lambda *a: real(*a))
    fd_of_device = os.stat(site.destination.name).st_rdev

    def choose(fd: int, data: memoryview, offset: int) -> int:
        is_device = os.fstat(fd).st_rdev == fd_of_device
        return lie(fd, data, offset) if is_device else real(fd, data, offset)

    monkeypatch.setattr("pgmlite.storage.device.os.pwrite", choose)
    fill_in(site.part, SAMPLE, range(1, len(blocks(SAMPLE))))
    with pytest.raises(DiskError, match="does not read back as it was; is it as large") as caught:
        site.publish()
    assert caught.value.cause == "device"
    assert written
    assert site.asked == []
    assert site.bytes == before


def test_the_spool_is_not_believed(site: Site, spool: Path) -> None:
    # spec: RCV-26
    site.look()
    (part,) = spool.glob("*.part")
    fill_in(site.part, SAMPLE)
    with part.open("r+b") as file:
        file.write(b"somebody else's")  # the first block, which waits for all others
    with pytest.raises(DiskError, match="another program changed it at byte 0"):
        site.publish()
    assert b"somebody" not in site.bytes


def test_another_object_takes_the_place_of_one_that_was_begun(site: Site, spool: Path) -> None:
    other = make_object(300_000, symbol_size=1_024, block_symbols=16, seed=2)
    prepare(site.part, other)
    fill_in(site.part, other, [5, 6, 7])
    site.look()
    fill_in(site.part, SAMPLE)
    assert site.publish()
    assert site.bytes[: len(SAMPLE.data)] == SAMPLE.data
    assert sorted(one.suffix for one in spool.iterdir()) == [".map", ".part"]


def test_everything_is_read_back_if_asked_for(
    site: Site, device: Path, spool: Path, image: Path
) -> None:
    with device.open("r+b") as file:
        file.write(SAMPLE.data)
    site.destination.close()
    site = Site(device, spool, image, verify_media=True)
    assert all(site.look())
    os.sync()
    with image.open("r+b") as file:  # after it was looked at
        file.seek(300_000)
        file.write(bytes(5_000))
    with pytest.raises(DiskError, match="is not what it was: it fails, or another program"):
        site.publish()
    site.destination.close()


# Which one it is.


def test_a_device_is_known_by_samples(site: Site, device: Path) -> None:
    site.look()
    fill_in(site.part, SAMPLE)
    site.publish()
    found = site.destination.identity()
    assert found == site.asked[0]
    assert found is not None
    assert (found.device, found.size) == (os.stat(device).st_rdev, len(SAMPLE.data))
    for at in (0, 1_050, len(SAMPLE.data) - 1):
        with device.open("r+b") as file:
            file.seek(at)
            was = file.read(1)
            file.seek(at)
            file.write(bytes([was[0] ^ 1]))
            file.flush()
            assert site.destination.identity() != found
            file.seek(at)
            file.write(was)
    with device.open("r+b") as file:
        file.seek(len(SAMPLE.data))
        file.write(b"behind it")
    assert site.destination.identity() == found


def test_its_record_lies_in_the_state_folder(site: Site, tmp_path: Path, device: Path) -> None:
    number = os.stat(device).st_rdev
    name = f"device-{os.major(number)}-{os.minor(number)}.pgmlite"
    record = site.destination.record
    assert record.path == tmp_path / "state" / name
    assert site.destination.identity() is None
    record.check()
    found = Identity(number, 0, 100, 5)
    record.write(Publication.of(SAMPLE.manifest, found))
    record.close()
    assert record.read() == record.latest
    identity = site.destination.identity()
    assert identity is not None
    assert identity.size == 100
    assert not record.latest.names(identity)


# What is left alone.


def words(path: Path) -> str:
    with pytest.raises(DiskError) as caught:
        BlockDevice(path)
    assert caught.value.cause == "device"
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_no_device(tmp_path: Path) -> None:
    # spec: RCV-28
    (tmp_path / "file").touch()
    assert words(tmp_path / "file").endswith("is no block device; a file is named with -o")
    assert words(Path("/dev/null")).endswith("is no block device; a file is named with -o")
    assert words(tmp_path / "none").endswith("No such file or directory")


def test_one_that_is_read_only(image: Path) -> None:
    # spec: RCV-28
    with loop_device(image, "--read-only") as device:
        assert words(device).endswith("is read-only")


def test_one_that_is_mounted(tmp_path: Path) -> None:
    # spec: RCV-28
    image, folder = tmp_path / "ext4.img", tmp_path / "a folder"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(4 << 20)
    sh("mkfs.ext4", "-q", "-F", image)
    with loop_device(image) as device:
        sh("mount", device, folder)
        try:
            assert words(device).endswith(f"is mounted at {folder}; unmount it first")
        finally:
            sh("umount", folder)
        BlockDevice(device)


def test_one_that_another_program_has_alone(device: Path) -> None:
    # spec: RCV-28
    fd = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        assert "is in use: another program" in words(device)
    finally:
        os.close(fd)


def test_swap_and_what_is_made_of_it(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: RCV-28
    swaps, devices = tmp_path / "swaps", tmp_path / "devices"
    swaps.write_text(f"Filename Type Size Used Priority\n{device} partition 1 0 -2\n")
    monkeypatch.setattr(in_use, "SWAPS", swaps)
    assert words(device).endswith("is used as swap; swapoff it first")
    swaps.write_text("Filename\n\n")
    number = number_text(os.stat(device).st_rdev)
    part = devices / number / "loop0p1"
    (part / "partition").mkdir(parents=True)
    (part / "dev").write_text("259:7\n")
    (devices / "259:7" / "holders" / "dm-0").mkdir(parents=True)
    monkeypatch.setattr(in_use, "DEVICES", devices)
    assert words(device).endswith("its partition loop0p1 is a part of dm-0; take that apart first")
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(in_use, "MOUNTS", mounts)
    for line in (
        "36 35 259:7 / /a\\040b rw,noatime shared:1 - ext4 /dev/none rw\n",
        f"36 35 0:33 /sub /a\\040b rw - btrfs {device} rw\n",
    ):
        mounts.write_text(f"nonsense\n{line}")
        assert words(device).endswith("mounted at /a b; unmount it first")


def test_a_link_is_followed_once(image: Path, device: Path, tmp_path: Path) -> None:
    # spec: RCV-28
    other = make_file(tmp_path / "other.img", SIZE)
    link = tmp_path / "by-id"
    link.symlink_to(device)
    one = BlockDevice(link)
    with loop_device(other) as second:
        link.unlink()
        link.symlink_to(second)
        one.hold()
        assert one.number == os.stat(device).st_rdev
        one.release()


def test_a_larger_object_is_refused_by_a_word(site: Site) -> None:
    # spec: RCV-28
    large, fitting = make_object(SIZE + 1, symbol_size=8_192), make_object(SIZE, symbol_size=8_192)
    assert site.destination.refuses(large.manifest) == "device"
    assert site.destination.refuses(fitting.manifest) == ""
    site.part.prepare(Prepare(1, SIZE + 1, 8_192))
    with pytest.raises(DiskError, match=f"has {SIZE} bytes, the object has {SIZE + 1}"):
        site.part.begin(large.manifest)


# By the command.


@pytest.mark.slow
def test_receivers_that_are_killed_leave_nothing_that_is_wrong() -> None:
    # spec: RCV-29
    assert device_kills.main(2, 1, 2 * BLOCK + 99) == 0


@pytest.mark.slow
def test_the_command_images_a_device_and_runs_its_hook(tmp_path: Path, spool: Path) -> None:
    # spec: RCV-28, RCV-29
    source, place = make_file(tmp_path / "source", 2 * BLOCK + 77), endpoint()
    image = make_file(tmp_path / "large.img", 4 * BLOCK // 512 * 512, seed=3)
    behind = image.read_bytes()[2 * BLOCK + 77 :]
    env = {"PGMLITE_STATE": str(tmp_path / "state")}
    hook = tmp_path / "hook"
    hook.write_text('#!/bin/sh\nblockdev --getsize64 "$1" > "$0.ran"; exec 9< "$1"\n')
    hook.chmod(0o755)

    def receive(device: Path, *options: object):
        flags = (*place.flags, "--json", "--timeout", 30, "--spool", spool, *options)
        return run("recv", "--device", device, *flags, env=env)

    with loop_device(image) as device, sending(source, place, rate="100M") as sender:
        oid = sender.event("start")["oid"]
        ended = receive(device, "--drop", "5%", "--on-complete", hook)
        assert ended.code == 0, ended.stderr
        assert (ended.event("complete")["path"], ended.event("complete")["is_new"]) == (
            str(device),
            True,
        )
        subprocess.run(["blockdev", "--flushbufs", device], check=True)
        assert image.read_bytes() == source.read_bytes() + behind
        assert list(spool.iterdir()) == []
        ran = Path(f"{hook}.ran")
        assert int(ran.read_text()) == image.stat().st_size
        ran.unlink()
        ended = receive(device, "--on-complete", hook)
        done = ended.event("complete")
        assert (ended.code, done["is_new"], done["fetched"]) == (0, False, 0)
        assert not ran.exists(), "it is done"
        small = make_file(tmp_path / "small.img", BLOCK // 512 * 512)
        with loop_device(small) as little:
            ended = receive(little, "--object", oid)
            assert ended.code == 7
            assert "--device" in ended.error
            assert "the object has" in ended.error
            ended = receive(little, "--timeout", 1)
            assert ended.code == 5
            assert "larger than the device" in ended.error
            assert (ended.last["symbols"], ended.last["is_kept"]) == (0, False)
