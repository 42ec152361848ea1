"""Where links lead, on paper and on a disk; sender and receiver agree on it."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.errors import DiskError
from pgmlite.storage.links import FREE_STEPS, Ways, folded
from pgmlite.storage.survey import look_through, survey
from pgmlite.storage.tar import END, header
from pgmlite.storage.unpack import judge
from pgmlite.wire.manifest import Archive

FOLDERS = ["a", "a/b", "a/b/c", "d"]
PLACES = ["l", "m", "a/l", "a/b/l", "a/b/c/l", "d/l", "d/m"]
words = st.lists(st.sampled_from(["..", ".", "a", "b", "c", "d", "l", "m", "no"]), max_size=7)
links = st.dictionaries(
    st.sampled_from(PLACES), words.filter(bool).map("/".join), min_size=1, max_size=5
)


def _stays(links: dict[str, str], name: str) -> bool:
    try:
        Ways(links).check(name)
    except ValueError:
        return False
    return True


def _judge(root: Path) -> None:
    """Fail unless a receiver takes the folder."""
    members = [seen.member for seen in look_through(os.fsencode(root), lambda name, why: None)]
    archive = b"".join(map(header, members)) + END
    fd = os.memfd_create("archive")
    try:
        os.write(fd, archive)
        announced = Archive(len(members), 0)
        judge(fd, len(archive), announced, lambda done, all_of_it: None)
    finally:
        os.close(fd)


@settings(max_examples=60, deadline=None)
@given(links)
def test_sender_and_receiver_agree_and_so_does_the_disk(links: dict[str, str]) -> None:
    # spec: FLD-3, FLD-6
    room = Path(tempfile.mkdtemp())
    try:
        root = room / "deep" / "tree"
        for name in ["", *FOLDERS]:
            (root / name).mkdir(parents=True)
        for name, target in links.items():
            (root / name).symlink_to(target)
        bad = {name for name in links if not _stays(links, name)}
        for name in links.keys() - bad:
            real = os.path.realpath(root / name)
            assert real == str(root) or real.startswith(f"{root}/")
        try:
            survey(root, lambda: None).check(root)
            is_sent = True
        except DiskError:
            is_sent = False
        assert is_sent == (not bad)
        if is_sent:
            _judge(root)
    finally:
        shutil.rmtree(room)


@pytest.mark.parametrize(
    ("links", "bad"),
    [
        ({"l": "no/../l"}, True),
        ({"l": "a/../.."}, True),
        ({"a/l": ".."}, False),
        ({"a/l": "../.."}, True),
        ({"a/l": "..", "m": "a/l/.."}, True),
        ({"a/l": "..", "m": "a/L/.."}, False),
        ({"l": "x//./y/"}, False),
        ({"l": "."}, False),
        ({"l": "l"}, True),
    ],
)
def test_links_on_paper(links: dict[str, str], *, bad: bool) -> None:
    # spec: FLD-6
    assert all(_stays(links, name) for name in links) != bad


def test_where_case_is_nothing_links_are_followed_so() -> None:
    # spec: FLD-6
    says = {"a/Ä": "..", "m": "A/a\N{COMBINING DIAERESIS}/../x"}
    Ways(says).check("m")
    with pytest.raises(ValueError, match="leads out"):
        Ways({folded(name): target for name, target in says.items()}, folded).check("m")
    assert posixpath.join(folded("A"), folded("Ä")) == folded("a/ä")


def test_short_links_through_a_long_one_are_followed_together_no_further_than_is_of_use() -> None:
    # spec: FLD-6
    long = "/".join(["a"] * 2_000)
    few = {"long": long, **{f"l{number}": "long/x" for number in range(100)}}
    assert all(_stays(few, name) for name in few)
    many = {"long": long, **{f"l{number}": "long/x" for number in range(3_000)}}
    ways, followed = Ways(many), 0
    with contextlib.suppress(ValueError):
        for name in many:
            ways.check(name)
            followed += 1
    assert FREE_STEPS // 2_100 < followed < len(many) // 4
    usual = {f"l{number}": f"{'../' * 5}{'a/' * 40}x" for number in range(30_000)}
    ways = Ways({f"a/a/a/a/a/{name}": target for name, target in usual.items()})
    for name in usual:
        ways.check(f"a/a/a/a/a/{name}")


def test_a_way_does_not_get_longer_and_longer() -> None:
    # spec: FLD-6
    links = {f"l{number}": f"l{number + 1}/{'x' * 3_000}" for number in range(30)}
    assert _stays(links, "l29")
    assert not _stays(links, "l0")
