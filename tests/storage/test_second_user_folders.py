"""A second user who may rename what is in the folder of an output that is a folder.

Whatever he does, what is put in place is what was verified, or an error says that it is not; and
nothing of the receiver's user is removed that no receiver put there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pgmlite.errors import DiskError
from pgmlite.storage import exchange, neighbours, syscalls
from tests.support.folders import Receiving, holds_version, receive, version
from tests.support.second_user import OPEN, STICKY, SecondUser

pytestmark = pytest.mark.lab

EVIL = """
os.mkdir('evil', 0o755)
open('evil/only-2', 'w').write('evil')
os.rename({name!r}, 'stolen')
os.rename('evil', {name!r})
"""
PRECIOUS = "os.rename({name!r}, 'stolen'); os.rename('precious', {name!r})"


@pytest.fixture(scope="module")
def user() -> Iterator[SecondUser]:
    made = SecondUser()
    yield made
    made.close()


@pytest.fixture
def output(user: SecondUser) -> Iterator[Path]:
    """Version 1 in a folder of everybody's, and beside it a folder that only root can change."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o711)
        folder = Path(base) / "folder"
        (folder / "precious").mkdir(parents=True, mode=0o700)
        (folder / "precious" / "data").write_bytes(b"precious")
        folder.chmod(OPEN)
        user.does(f"os.chdir({str(folder)!r})")
        receive(folder / "out", version(1).sample())
        yield folder / "out"
        user.does("os.chdir('/')")


def is_precious_there(output: Path) -> bool:
    return [one.read_bytes() for one in output.parent.rglob("data")] == [b"precious"]


def before(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object], *, count: int = 1
) -> None:
    """Let him act before the first `count` times that names are changed by a function."""
    original, left = getattr(syscalls, name), [count]

    def first_he(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            act()
        return original(*arguments, **named)

    for module in (exchange, neighbours):
        monkeypatch.setattr(module, name, first_he, raising=False)


@pytest.mark.parametrize("code", [EVIL, PRECIOUS], ids=["his own", "one of ours"])
@pytest.mark.parametrize("moment", ["unpacked", "recorded", "whole"])
def test_he_swaps_what_was_unpacked(
    output: Path, user: SecondUser, monkeypatch: pytest.MonkeyPatch, moment: str, code: str
) -> None:
    # spec: FLD-7
    with closing(Receiving(output)) as receiving, monkeypatch.context() as patches:
        complete = receiving.collect(version(2).sample())
        name = "out.new" if moment == "whole" else "out.unpacking"

        def act() -> None:
            user.does(code.format(name=name))

        if moment == "unpacked":
            patches.setattr(receiving.place, "_put", _after(act, receiving.place._put))
        else:
            before(patches, "exchange_names" if moment == "whole" else "rename_alone", act)
        with pytest.raises(DiskError, match=r"not there any more|another folder in its place"):
            receiving.publish(complete)
    assert is_precious_there(output)
    # Once nothing is in the way any more, it goes on.
    if code is EVIL:
        user.does("[os.rename(one, 'his-' + one) for one in os.listdir() if one[:4] == 'out.']")
    else:
        for path in output.parent.glob("out.*"):
            path.rename(path.with_name(f"our-{path.name}"))
    receive(output, version(3).sample(), keep=1)
    assert holds_version(output, 3)
    assert is_precious_there(output)


def _after(act: Callable[[], None], call: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        act()
        call()

    return both


@pytest.mark.parametrize(
    ("suffix", "keep"), [(".unpacking", 0), (".unpacking", 1), (".new", 0), (".old", 0)]
)
def test_he_lays_a_folder_of_ours_where_some_are_cleared_away(
    output: Path, user: SecondUser, suffix: str, keep: int
) -> None:
    # spec: FLD-8
    user.does(f"os.rename('precious', {f'out{suffix}'!r})")
    receiving = receive(output, version(2).sample(), keep)
    assert holds_version(output, 2)
    assert is_precious_there(output)
    assert [text for text in receiving.warnings if f" {output}." in text]


@pytest.mark.parametrize("moment", ["rename_alone", "exchange_names"])
@pytest.mark.parametrize("name", ["out", "out.1"])
def test_he_lays_a_folder_of_ours_in_place_of_what_is_replaced(
    output: Path, user: SecondUser, monkeypatch: pytest.MonkeyPatch, moment: str, name: str
) -> None:
    # spec: FLD-8
    keep = int(name != "out")
    receive(output, version(2).sample(), keep)
    with closing(Receiving(output, keep)) as receiving, monkeypatch.context() as patches:
        complete = receiving.collect(version(3).sample())
        before(patches, moment, lambda: user.does(PRECIOUS.format(name=name)))
        receiving.publish(complete)
    assert holds_version(output, 3)
    assert is_precious_there(output)


def test_what_a_killed_run_left_is_removed_where_only_we_can_have_left_it(output: Path) -> None:
    # spec: FLD-8
    for mode in (0o1777, 0o755):
        output.parent.chmod(mode)
        os.mkdir(output.with_name("out.unpacking"), 0o700)  # noqa: PTH102
        receive(output, version(2).sample())
        assert not output.with_name("out.unpacking").exists()
        assert not output.with_name("out.1").exists()


@pytest.mark.parametrize("mode", [STICKY, OPEN], ids=["sticky", "open"])
def test_what_he_lays_where_it_would_be_unpacked_says_nothing_of_an_archive(
    output: Path, user: SecondUser, mode: int
) -> None:
    # spec: FLD-6, FLD-10
    output.parent.chmod(mode)
    with closing(Receiving(output)) as receiving:
        complete = receiving.collect(version(2).sample())
        user.does("os.mkdir('out.unpacking', 0o755); os.symlink('/', 'out.unpacking/sub')")
        # No ObjectError: a follower would never take the object again.
        with pytest.raises(DiskError, match=r"out\.unpacking: is not ours; move it away"):
            receiving.publish(complete)
    assert output.with_name("out.unpacking").is_dir(), "it is his"
    user.does("os.unlink('out.unpacking/sub'); os.rmdir('out.unpacking')")
    receive(output, version(2).sample())
    assert holds_version(output, 2)
