"""Folders from a network and from captures, into folders; checked by other tools."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support import pcaps
from tests.support.builders import Sample
from tests.support.folders import Tar, holds_version, names, version
from tests.support.loopback import (
    Endpoint,
    Inside,
    Running,
    endpoint,
    make_file,
    only_error,
    raw_sender,
    sending,
)

PRINTED = r"%P %y %m %U:%G %n %l %Ts\n"
"""What `find` prints of a member: name, type, mode, owner, names, target, whole seconds."""


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    return Inside(monkeypatch, capfd)


def make_folder(folder: Path, seed: int) -> Path:
    """Make a folder of many kinds of things."""
    random = Random(seed)
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "empty").mkdir()
    make_file(folder / "a/large", 400_000, seed=seed)
    for number in range(40):
        path = folder / random.choice(["", "a", "a/b", "a/b/c"]) / f"{number} ü.txt"
        path.write_bytes(random.randbytes(random.choice([0, 1, 511, 512, 513, 5_000])))
        path.chmod(random.choice([0o600, 0o644, 0o755, 0o440]))
        os.utime(path, (0, random.randrange(1 << 31)))
    (folder / "to").symlink_to("a/large")
    (folder / "a/up").symlink_to("../to")
    (folder / "a/nowhere").symlink_to("b/missing")
    (folder / "twin").hardlink_to(folder / "a/large")
    if not os.geteuid():
        os.chown(folder / "a/b", 12, 34)
        os.chown(folder / "a/up", 34, 12, follow_symlinks=False)
    for name in ("a/b/c", "a/b", "a", "."):
        os.utime(folder / name, (0, 1_600_000_000))
    (folder / "a/b").chmod(0o711)
    return folder


def printed(folder: Path) -> list[str]:
    command = ["find", ".", "-printf", PRINTED]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return sorted(done.stdout.splitlines())


def are_equal(one: Path, other: Path) -> bool:
    """Whether two folders are the same to `diff` and `find`."""
    command = ["diff", "-r", "--no-dereference", one, other]
    same = subprocess.run(command, capture_output=True, check=False)
    return not same.returncode and printed(one) == printed(other)


def test_a_folder_goes_over_the_network(tmp_path: Path, inside: Inside) -> None:
    # spec: FLD-7, FLD-9
    place, output = endpoint(), tmp_path / "out"
    command = f"env >{tmp_path / 'env'} #"
    with sending(make_folder(tmp_path / "tree", 1), place) as sender:
        sender.event("start")
        ended = inside.receive(f"{output}/", place, "--on-complete", f"sh -c '{command}'")
        assert ended.code == 0
        assert are_equal(tmp_path / "tree", output)
        assert ended.event("complete")["path"] == f"{output}/"
        again = inside.receive(f"{output}/", place, "--on-complete", "false")
        as_file = inside.receive(tmp_path / "file", place)
        told = inside("recv", "-o", tmp_path / "file", *place.flags, "--timeout", 20)
    assert again.code == 0, "the command was done"
    complete = again.event("complete")
    assert (complete["is_new"], complete["fetched"], complete["odata"]) == (False, 0, 0)
    assert as_file.code == 0
    assert "it is the archive of a folder: -o DIR/ unpacks it" in told.stderr[-1]
    assert names(tmp_path) == ["env", "file", "out", "out.pgmlite", "tree"]
    lines = (tmp_path / "env").read_text().splitlines()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    assert facts["PGMLITE_PATH"] == str(output)
    assert facts["PGMLITE_NAME"] == "tree"
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xf", tmp_path / "file", "-C", tmp_path / "unpacked"], check=True)
    assert are_equal(tmp_path / "unpacked", output)


@pytest.mark.slow
def test_a_folder_and_a_file_do_not_mix(tmp_path: Path, inside: Inside) -> None:
    # spec: FLD-5
    place = endpoint()
    with sending(make_file(tmp_path / "file", 5_000), place) as sender:
        sender.event("start")
        flags = ("--json", *place.flags, "--timeout", 2)
        ended = inside("recv", "-o", f"{tmp_path / 'out'}/", *flags)
    assert ended.code == 5
    assert "no archive of a folder" in ended.error
    (warning,) = [one for one in ended.events if one.get("cause") == "object"]
    assert warning["reason"] == "archive"
    assert set(ended.last["refused"]) == {"archive", "object"}
    assert names(tmp_path) == ["file"]


def test_what_is_in_the_way_is_said_before_the_network_is_needed(
    tmp_path: Path, inside: Inside
) -> None:
    # spec: FLD-8
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_bytes(b"mine")
    ended = inside("recv", "-o", f"{folder}/", "-i", "no-such-interface")
    assert ended.code == 7
    assert "--keep 1" in only_error("\n".join(ended.stderr))
    assert names(tmp_path) == ["out"]


def test_a_folder_comes_out_of_a_capture(tmp_path: Path, inside: Inside) -> None:
    output = tmp_path / "out"
    capture = pcaps.write(tmp_path / "capture.pcap", version(1).sample())
    for _ in range(2):
        ended = inside("replay", capture, "-o", f"{output}/", "--json")
        complete = ended.event("complete")
        assert (complete["path"], complete["is_new"]) == (f"{output}/", True)
        assert holds_version(output, 1)
    ended = inside("replay", capture, "-o", "-")
    assert ended.code == 2
    assert "--output: name a file, or a folder" in ended.error


class Feeder(threading.Thread):
    """Sends objects of which there need not be a folder, over and over."""

    def __init__(self, place: Endpoint, sample: Sample) -> None:
        super().__init__(daemon=True)
        self.place, self.sample, self.is_over = place, sample, False

    def run(self) -> None:
        with raw_sender(self.place) as sock:
            while not self.is_over:
                one = self.sample
                for packet in [one.spm(), *one.nodes(), *one.all_odata()]:
                    sock.send(packet)
                time.sleep(0.02)


@pytest.mark.slow
def test_who_follows_goes_on_after_an_archive_that_can_not_be_unpacked(tmp_path: Path) -> None:
    # spec: FLD-9, FLD-10
    place, output = endpoint(), tmp_path / "out"
    bad = Tar().add("../x", content=bytes(9_000)).sample()
    flags = ("-o", f"{output}/", *place.flags, "--json", "--follow", "--keep", 1)
    state = {"PGMLITE_STATE": str(tmp_path / "state")}
    with Running("recv", *flags, env=state) as receiver:
        receiver.event("start")
        feeder = Feeder(place, version(1).sample())
        feeder.start()
        for number in (1, 2):
            sample = feeder.sample = version(number).sample()
            oid = f"{sample.manifest.oid:016x}"
            receiver.event("complete", lambda event, oid=oid: event["oid"] == oid)
            assert holds_version(output, number)
            feeder.sample = bad
            receiver.event("warning", lambda event: "no plain name" in event["warning"])
        receiver.event("warning", lambda event: event.get("reason") == "unfit")
        feeder.is_over = True
        feeder.join()
        ended = receiver.stop()
    assert ended.code == 0
    said = [event["warning"] for event in ended.events if event["event"] == "warning"]
    assert sum("no plain name" in text for text in said) == 1, "it is not taken again"
    wanted = sum(version(number).sample().manifest.symbols for number in (1, 2))
    assert ended.last["objects"] == 2
    assert ended.last["fetched"] == wanted + bad.manifest.symbols
    assert holds_version(tmp_path / "out.1", 1)


@pytest.fixture
def carousel(tmp_path: Path) -> Iterator[tuple[Path, Running, list[str]]]:
    """Send a folder that takes a moment to unpack."""
    tree, place = tmp_path / "tree", endpoint()
    for folder in range(10):
        (tree / str(folder)).mkdir(parents=True)
        for number in range(20):
            (tree / str(folder) / str(number)).write_bytes(bytes([number]) * 2_000)
    with sending(tree, place, rate="200M") as sender:
        sender.event("start")
        yield tree, sender, place.flags


@pytest.mark.slow
def test_who_is_killed_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, carousel: tuple[Path, Running, list[str]]
) -> None:
    # spec: FLD-8
    tree, _, flags = carousel
    output, random, kills = tmp_path / "out", Random(7), 0
    output.mkdir()
    (output / "old").write_bytes(b"old")
    for _ in range(3):
        with Running("recv", "-o", f"{output}/", *flags, "--json", "--keep", 1) as receiver:
            receiver.event("manifest")
            end = time.monotonic() + random.random() * 0.4
            while time.monotonic() < end and receiver.is_running:
                time.sleep(0.005)
            kills += receiver.is_running
            receiver.say(signal.SIGKILL)
            receiver.end()
        assert names(output) == ["old"] or are_equal(tree, output)
    with Running("recv", "-o", f"{output}/", *flags, "--json", "--keep", 1) as receiver:
        ended = receiver.end()
    assert ended.code == 0
    assert are_equal(tree, output)
    assert names(tmp_path / "out.1") == ["old"]
    assert names(tmp_path) == ["out", "out.1", "out.pgmlite", "tree"]
    shutil.rmtree(output)
