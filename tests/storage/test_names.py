"""Names of the files that lie beside an output."""

import os
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.storage.system import LONGEST_NAME, beside


@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1),
    times=st.integers(1, 255),
    suffix=st.sampled_from([".part", ".part.map", ".pgmlite", ".pgmlite~"]),
)
@example(name="x", times=255, suffix=".part")
@example(name="ü", times=127, suffix=".part.map")
@example(name="\N{BROKEN HEART}", times=63, suffix=".pgmlite")
def test_beside_every_name_there_is_room(name, times, suffix):
    name = (name * times).encode()[:LONGEST_NAME].decode(errors="ignore")
    if not name or name in {".", ".."}:
        return
    path = beside(Path("/folder") / name, suffix)
    encoded = os.fsencode(path.name)
    assert path.parent == Path("/folder")
    assert path.name.endswith(suffix)
    assert len(encoded) <= LONGEST_NAME
    if len(os.fsencode(name + suffix)) <= LONGEST_NAME:
        assert path.name == name + suffix
    else:
        assert len(encoded) > LONGEST_NAME - 4  # not cut more than a character demands


def test_long_names_that_differ_late_stay_apart_and_need_not_be_text(tmp_path):
    long = [
        "x" * 254 + "1",
        "x" * 254 + "2",
        os.fsdecode(b"\xff" * 255),
        "ж" * 127,
        "ж" * 127 + "!",
    ]
    paths = {beside(tmp_path / name, ".part") for name in long}
    assert len(paths) == len(long)
    for path in paths:
        path.touch()  # the file system takes them


@given(names=st.lists(st.text(min_size=1, max_size=255), min_size=2, max_size=2, unique=True))
def test_names_beside_are_legal_and_never_shared(names):
    found = set()
    for name in names:
        raw = name.encode(errors="ignore")[:LONGEST_NAME].decode(errors="ignore")
        raw = raw.replace("/", "-").replace("\0", "-").strip(".") or "x"
        found.add((raw, beside(Path("/folder") / raw, ".part.map").name))
    assert all(len(os.fsencode(other)) <= LONGEST_NAME for _, other in found)
    assert all(other.endswith(".part.map") for _, other in found)
    assert len({other for _, other in found}) == len({raw for raw, _ in found})
