"""Folders, standard input and devices on the command line, over the loopback interface."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgmlite
from pgmlite.core.events import Spooling
from pgmlite.errors import UsageError
from pgmlite.net import hashing
from pgmlite.storage import spooled
from tests.support import disks
from tests.support.loopback import (
    COMMAND,
    Inside,
    Running,
    endpoint,
    environment,
    make_file,
    only_error,
    receive,
    run,
    sending,
)


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command line in this process."""
    return Inside(monkeypatch, capfd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to send, and keys beside it."""
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    make_file(folder / "sub" / "large", 300_000)
    (folder / "small").write_text("small")
    (folder / "link").symlink_to("sub/large")
    pgmlite.keygen(tmp_path / "k.pem")
    return folder


def piped(place_flags: list[str], *options: object) -> Running:
    """Start a sender of what is written to it."""
    return Running("send", "-", *place_flags, "--json", *options, stdin=subprocess.PIPE)


# Folders.


@pytest.mark.slow
def test_a_folder_goes_over_the_network(folder: Path, tmp_path: Path) -> None:
    # spec: MAN-9, FLD-2
    place = endpoint()
    with sending(folder, place) as sender:
        started = sender.event("start")
        copy = tmp_path / "copy.tar"
        assert receive(copy, place).code == 0
    assert (started["name"], started["members"]) == ("site", 5)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xpf", copy, "-C", out], check=True)
    compared = subprocess.run(
        ["diff", "-r", "--no-dereference", folder, out], capture_output=True, check=False
    )
    assert (compared.returncode, compared.stdout) == (0, b"")


def test_what_info_says_is_what_is_sent(folder: Path, inside: Inside) -> None:
    ended = inside("info", folder, "--json")
    (line,) = ended.lines
    with sending(f"{folder}/", endpoint(), "--cycles", 1) as sender:
        assert sender.event("start")["oid"] in line
    assert "a folder of 5 members, 293.0 KiB in files" in inside("info", folder).lines[0]
    assert ended.code == 0


@pytest.mark.slow
def test_a_folder_that_is_signed(folder: Path, inside: Inside) -> None:
    release = ("--release", 17, "--stream", "s", "--key", folder.parent / "k.pem")
    assert inside("sign", folder, *release).code == 0
    file = folder.parent / "site.pglm"
    checked = inside("verify", file, "--json")
    assert checked.code == 0
    assert checked.last["content"] == str(folder)
    assert checked.last["members"] == 5
    place = endpoint()
    with sending(file, place) as sender:
        assert sender.event("start")["members"] == 5
        assert (
            receive(folder.parent / "copy", place, "--key", folder.parent / "k.pub.pem").code == 0
        )
    (folder / "small").write_text("SMALL")
    ended = inside("send", file, *endpoint().flags)
    assert ended.code == 4
    assert "1 of 1 blocks differ; of a folder, times, modes and owners count, too" in ended.error
    (folder / "small").write_text("more" * 1_000)
    assert "of a folder, times" in inside("send", file, *endpoint().flags).error
    shutil.rmtree(folder)
    assert inside("send", file, *endpoint().flags).code == 7


def test_sign_where_one_is(folder: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    ended = inside("sign", ".", "--release", 1, "--stream", "s", "--key", "../k.pem", "--json")
    assert ended.last["path"] == str(folder.parent / "site.pglm")
    assert inside("verify", "../site.pglm").code == 0


@pytest.mark.slow
def test_a_repairer_of_a_folder(folder: Path) -> None:
    place = endpoint()
    listen = f"127.0.0.1:{place.port + 1}"
    with (
        sending(folder, place, rate="4M") as sender,
        Running("repair", folder, *place.flags, "--listen", listen, "--json") as repairer,
    ):
        assert repairer.event("start")["oid"] == sender.event("start")["oid"]
        received = receive(
            folder.parent / "copy", place, "--repairer", listen, "--drop", "10%", "--seed", 5
        )
    assert received.code == 0


def test_what_a_folder_must_not_have(folder: Path, inside: Inside) -> None:
    # spec: FLD-3
    os.mkfifo(folder / "fifo")
    for verb in ("send", "repair"):
        ended = inside(verb, folder, *endpoint().flags)
        assert ended.code == 7
        assert f"source {folder}: fifo is a FIFO: can't be sent" in ended.error
    assert inside("info", folder).code == 7


def test_progress_and_bits_that_get_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "TELL_EVERY", 0)
    monkeypatch.setattr(spooled, "AT_ONCE", 100)
    (folder / "sub").chmod(0o1777)
    place = endpoint()
    told = pgmlite.send(folder, group=place.group, port=place.port, interface="lo", duration=0.1)
    events = list(told)
    spooling = [event for event in events if isinstance(event, Spooling)]
    assert all(one.done <= (one.total or 0) for one in spooling)
    assert spooling
    (warned,) = [event.warning for event in events if event.NAME == "warning"]
    assert warned.startswith("1 of its members have a setuid, setgid or sticky bit")


# Standard input.


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 200_000])
def test_standard_input(tmp_path: Path, size: int) -> None:
    place, content = endpoint(), make_file(tmp_path / "content", size).read_bytes()
    with piped(place.flags, "--name", "disk.img") as sender:
        sender.write(content)
        assert receive(tmp_path / "copy", place).code == 0
        assert sender.event("start")["name"] == "disk.img"
    assert (tmp_path / "copy").read_bytes() == content


def test_an_interrupted_pipe(tmp_path: Path) -> None:
    with piped(endpoint().flags, "--spool", tmp_path) as sender:
        sender.write(b"x" * 1_000, ends=False)
        assert sender.event("spooling")["done"] == 1_000
        assert sender.event("spooling")["total"] is None
        ended = sender.stop()
    assert ended.code == 6
    assert list(tmp_path.iterdir()) == []


def test_nothing_on_standard_input_is_an_empty_object() -> None:
    with piped(endpoint().flags) as sender:
        sender.write(b"")
        started = sender.event("start")
        assert (started["size"], started["name"]) == (0, "stdin")
        assert "was empty: did what writes to it fail?" in sender.event("warning")["warning"]


def test_standard_input_that_is_none() -> None:
    words = [*COMMAND, "send", "-", *endpoint().flags]
    master, terminal = os.openpty()
    ended = subprocess.run(
        words, stdin=terminal, capture_output=True, text=True, timeout=60, env=environment()
    )
    os.close(master)
    os.close(terminal)
    assert ended.returncode == 2
    assert "standard input is a terminal" in only_error(ended.stderr)
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert closed.returncode == 7
    assert "standard input: is closed" in only_error(closed.stderr)


def test_a_file_that_is_called_as_standard_input(
    tmp_path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_file(tmp_path / "-", 10)
    ended = inside("send", "./-", *endpoint().flags, "--cycles", 1, "--json")
    assert (ended.code, ended.event("start")["name"]) == (0, "-")


def test_the_content_of_a_signed_object_by_a_pipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, keys = folder / "sub" / "large", [folder.parent / "k.pem"]
    file = pgmlite.sign(content, keys=keys, release=1, stream="s").run().path
    for path, is_right in ((content, True), (folder / "small", False)):
        with path.open("rb") as given:
            done = subprocess.run(
                [*COMMAND, "verify", file, "--content", "-"],
                stdin=given,
                capture_output=True,
                timeout=60,
                env=environment(),
            )
        assert done.returncode == (0 if is_right else 4)
    with pytest.raises(UsageError, match="output: name it; standard input has no name"):
        pgmlite.sign("-", keys=keys, release=1, stream="s").run()


@pytest.mark.slow
@pytest.mark.skipif(bool(disks.missing("ext4")), reason="disks of our own need root")
def test_a_full_spool(tmp_path: Path) -> None:
    done = disks.secluded("-m", "tests.cli.test_send_sources")
    assert done.stdout.splitlines() == ["7", "7"], done.stderr
    for line in done.stderr.splitlines():
        assert "pgmlite: --spool " in line
        assert "name a folder that has" in line


def fill_spools() -> None:
    """Send more than there is room for: by a pipe, and of a folder."""
    disks.seclude()
    with disks.workshop("size=1m") as small, disks.workshop() as room:
        large = make_file(room / "large", 3 << 20)
        command = [*COMMAND, "send", "-", *endpoint().flags, "--spool", small]
        with large.open("rb") as given:
            print(subprocess.run(command, stdin=given, timeout=60).returncode, flush=True)
        command[command.index("-")] = room
        print(subprocess.run(command, timeout=60).returncode, flush=True)


# Devices and what is none.


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """Lend a block device with the bytes of an image."""
    device = Path(disks.sh("losetup", "--find", "--show", image))
    try:
        yield device
    finally:
        disks.sh("losetup", "--detach", device)


@pytest.mark.slow
@pytest.mark.skipif(bool(disks.missing("ext4")), reason="disks of our own need root")
def test_a_block_device(tmp_path: Path, inside: Inside) -> None:
    # spec: SND-7
    image = make_file(tmp_path / "image", 1 << 20)
    place = endpoint()
    with loop_device(image) as device:
        with sending(device, place) as sender:
            assert sender.event("start")["size"] == 1 << 20
            assert sender.event("start")["name"] == device.name
            assert receive(tmp_path / "copy", place).code == 0
        held = os.open(device, os.O_RDONLY | os.O_EXCL)  # as a mount does
        ended = inside("send", device, *place.flags)
        os.close(held)
        assert ended.code == 7
        assert f"source {device}: is in use: unmount it, or send a snapshot" in ended.error
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("kind", ["fifo", "character device"])
def test_what_is_read_once_is_for_a_pipe(tmp_path: Path, inside: Inside, kind: str) -> None:
    path = tmp_path / "fifo" if kind == "fifo" else Path("/dev/urandom")
    if kind == "fifo":
        os.mkfifo(path)
    for command in (("send", path, *endpoint().flags), ("info", path)):
        ended = inside(*command)
        assert ended.code == 7
        assert ended.error.endswith(f"to send what comes out of it: pgmlite send - < {path}")


def test_a_spool_is_for_copies(tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", 10)
    ended = run("send", source, *endpoint().flags, "--spool", tmp_path)
    assert ended.code == 2
    assert "--spool: is for folders and standard input" in ended.error


if __name__ == "__main__":
    fill_spools()
