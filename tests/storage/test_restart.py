"""What is there is used: after a kill, where an output is right, where an older version is near."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.kills import ALLOWED, SYMBOLS, kill_many
from tests.bench.seeds import in_place
from tests.support.builders import make_object
from tests.support.parts import Run

SAMPLE = make_object(100 * 512 - 5)  # 100 blocks


@pytest.mark.slow
def test_receivers_that_are_killed_go_on_where_they_were(tmp_path: Path) -> None:
    # spec: RCV-8
    killed = kill_many(7, 3, tmp_path)
    assert not [one for one in killed if one.wrong]
    assert all(one.again <= ALLOWED * one.recorded for one in killed)
    assert any(0 < one.recorded < SYMBOLS for one in killed)


@pytest.mark.slow
def test_an_output_that_is_right_is_complete_without_data(tmp_path: Path) -> None:
    received = in_place(tmp_path, 64, "100M")
    assert (received.code, received.is_right, received.is_same_file) == (0, True, True)
    assert received.fetched == 0
    assert received.cycles < 3 / (64 * 8.39 / 100)  # what comes in 3 s
    assert not received.left


@pytest.mark.parametrize("place", [0, 3_300, 46_000])
def test_of_an_older_version_only_what_changed_is_fetched(tmp_path: Path, place: int) -> None:
    older = bytearray(SAMPLE.data)
    older[place : place + 5_000] = bytes(5_000)
    base = tmp_path / "base"
    base.write_bytes(older)
    with Run(tmp_path / "out", bases=[base]) as run:
        run.announce(SAMPLE).cycle(SAMPLE)
        assert run.is_done
        assert run.is_new
        assert run.fetched <= 0.12 * SAMPLE.manifest.symbols
    assert (tmp_path / "out").read_bytes() == SAMPLE.data
    assert base.read_bytes() == older
    assert {path.name for path in tmp_path.iterdir()} == {"base", "out"}


def test_several_files_have_all_of_it_together(tmp_path: Path) -> None:
    size, output = len(SAMPLE.data) // 3, tmp_path / "out"
    bases = [tmp_path / name for name in ("one", "other")]
    for number, path in enumerate([output, *bases]):
        part = bytearray(len(SAMPLE.data))
        wanted = slice(max(0, number * size - 512), (number + 1) * size + 512)
        part[wanted] = SAMPLE.data[wanted]
        path.write_bytes(part)
    with Run(output, bases=bases) as run:
        run.announce(SAMPLE)
        assert run.is_done
        assert run.fetched == 0
        assert run.part.reused == len(SAMPLE.data)
    assert output.read_bytes() == SAMPLE.data
