"""Archives that were verified, and that no sender makes: nothing outside of them is touched."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from pgmlite.errors import ObjectError
from pgmlite.net.destinations import folder as destination
from pgmlite.storage.unpack import MEMBER_MEMORY
from tests.support.builders import Sample
from tests.support.folders import Receiving, Tar, everything, hostile, names, receive, version

HOSTILE = list(hostile())


def test_there_are_many_of_them() -> None:
    assert len(HOSTILE) >= 30
    assert len({what for what, _, _ in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize(
    ("sample", "words"),
    [one[1:] for one in HOSTILE],
    ids=[one[0] for one in HOSTILE],
)
def test_nothing_outside_is_touched(tmp_path: Path, sample: Sample, words: str) -> None:
    # spec: FLD-6, FLD-10
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(b"sings")
    (outside / "to").symlink_to("canary")
    folder = outside / "place" / "out"
    folder.parent.mkdir()
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    before = everything(outside)
    with (
        closing(Receiving(folder, keep=1)) as receiving,
        pytest.raises(ObjectError, match=words) as raised,
    ):
        receiving.take(sample)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    beside = {"out.part", "out.part.map"}
    after = everything(outside)
    assert {path for path in after if Path(path).name not in beside} == set(before)
    assert not [path for path in before if after[path] != before[path] and path != "place"]


def test_it_is_not_fetched_again(tmp_path: Path) -> None:
    # spec: FLD-10
    bad = Tar().add("../x", content=bytes(50_000)).sample()
    for _ in range(2):
        with closing(Receiving(tmp_path / "out")) as receiving:
            with pytest.raises(ObjectError):
                receiving.take(bad)
            fetched = receiving.machine.counters.fetched
    assert not fetched, "it was all in the partial file"
    assert (tmp_path / "out.part").stat().st_size >= bad.manifest.size
    receive(tmp_path / "out", version(1).sample())
    assert not (tmp_path / "out.part").exists()


def test_what_headers_say_takes_no_memory(tmp_path: Path) -> None:
    # spec: FLD-6
    samples = [one for what, one, _ in HOSTILE if what in ("an extended header of 1 GB", "sparse")]
    tracemalloc.start()
    try:
        for sample in samples:
            with pytest.raises(ObjectError):
                receive(tmp_path / "out", sample)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_names_take_no_more_memory_than_members_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: FLD-5, FLD-6
    tar = Tar()
    for number in range(500):
        tar.link(f"{number}", "\U0001f600" + "x" * 4_000)
    sample = tar.sample()
    memory = 1 << 20
    assert sample.manifest.archive
    assert sample.manifest.archive.entries * MEMBER_MEMORY < memory, "it is taken by what it says"
    monkeypatch.setattr(destination, "memory_here", lambda: memory)
    with closing(Receiving(tmp_path / "out")) as receiving:
        complete = receiving.collect(sample)
        tracemalloc.start()
        try:
            with pytest.raises(ObjectError, match="its names take more memory"):
                receiving.publish(complete)
            assert tracemalloc.get_traced_memory()[1] < 3 * memory
        finally:
            tracemalloc.stop()
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(destination, "memory_here", lambda: 16 * memory)
    assert receive(tmp_path / "out", sample).is_new


def test_names_reach_no_terminal(tmp_path: Path) -> None:
    with pytest.raises(ObjectError) as raised:
        receive(tmp_path / "out", Tar().add("\x1b[31m\u202eevil\n" + "x" * 300 + "/y").sample())
    assert str(raised.value).isprintable()


def test_what_looks_strange_and_is_not_hostile_is_unpacked(tmp_path: Path) -> None:
    # spec: FLD-6, FLD-7
    deep = "/".join(["d"] * 120)
    tar = Tar().add("new\nline").add("\x1b[0m").add("x" * 255).add("Twin").add("twin")
    tar.add("long ago", mtime=-86_400).add("later", mtime=5_000_000_000).link(
        "dangling", "no/where"
    )
    tar.add("-rf").add("*").add("\u202e").add("bits", mode=0o7777)
    for count in range(1, 121):
        tar.folder("/".join(["d"] * count))
    tar.add(f"{deep}/file", content=b"deep")
    receiving = receive(tmp_path / "out", tar.sample())
    folder = tmp_path / "out"
    assert receiving.is_new
    assert (folder / deep / "file").read_bytes() == b"deep"
    assert int((folder / "long ago").stat().st_mtime) == -86_400
    assert (folder / "bits").stat().st_mode & 0o7777 == 0o777
    assert [text for text in receiving.warnings if "sticky bits of 1 members" in text]
    assert {"new\nline", "\x1b[0m", "Twin", "twin", "-rf", "*"} < set(names(folder))
    assert receive(tmp_path / "out", version(1).sample()).is_new, "and removed"
