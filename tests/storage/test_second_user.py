"""A second user who may write to the folder of the output: what he can't bring about.

Whatever he does, what is published is what was verified, or nothing is and the error names what is
in the way; files that are not the receiver's keep their bytes, mode and owner; and no command runs
for bytes that were not verified.
"""

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pgmlite.net.completion import CompletionHook
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import Publication, PublishedRecord, identity_of
from tests.support.builders import make_object
from tests.support.loopback import Inside, endpoint, make_file, sending
from tests.support.second_user import OPEN, SIZE, STICKY, THIRD_USER, Scene, SecondUser

pytestmark = pytest.mark.lab

folders = pytest.mark.parametrize("mode", [STICKY, OPEN], ids=["sticky", "open"])


@pytest.fixture(scope="module")
def carousel(tmp_path_factory):
    """A small file on the air."""
    source = make_file(tmp_path_factory.mktemp("carousel") / "small.bin", SIZE)
    place = endpoint()
    with sending(source, place, rate="20M") as sender:
        sender.event("start")
        yield source, place


@pytest.fixture(scope="module")
def user():
    made = SecondUser()
    yield made
    made.close()


@pytest.fixture
def scene(carousel, user, monkeypatch, capfd):
    with tempfile.TemporaryDirectory() as base:
        yield Scene(Path(base), user, Inside(monkeypatch, capfd), carousel)
        user.does("os.chdir('/'); os.closerange(3, 100)")


# What lies there before the receiver starts.

KINDS = ["file", "fifo", "folder", "link", "link to nothing", "hard link"]


@folders
@pytest.mark.parametrize("kind", KINDS)
def test_what_he_lays_at_the_partial_file(scene, mode, kind):
    scene.folder.chmod(mode)
    scene.output.write_bytes(b"before")
    scene.lay(kind, scene.at(".part"))
    scene.judge(scene.receive(), b"before", scene.at(".part"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mode", "suffixes"),
    [(STICKY, (".part.map", ".part.d")), (OPEN, (".pgmlite", ".pgmlite~"))],
    ids=["partial file", "record"],
)
def test_what_he_lays_beside_it(scene, mode, kind, suffixes):
    scene.folder.chmod(mode)
    scene.output.write_bytes(b"before")
    for suffix in suffixes:
        scene.lay(kind, scene.at(suffix))
    scene.judge(scene.receive(), b"before", scene.at(suffixes[0]))


@folders
@pytest.mark.parametrize("kind", KINDS)
def test_what_he_lays_at_the_output(scene, mode, kind):
    scene.folder.chmod(mode)
    scene.lay(kind, scene.output)
    was = scene.output.lstat()
    ended = scene.receive()
    if ended.code == 0:
        scene.judge(ended)
    else:
        assert ended.code == 7, ended.stderr
        assert str(scene.output) in ended.error
        assert os.path.samestat(was, scene.output.lstat())
        assert scene.seen == b""
        scene.check_victim()


@folders
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_a_strangers_file_that_is_the_object_already_stays_his(scene, mode, kind):
    # The output is the first seed: it may be right, and then nothing is to be renamed.
    scene.folder.chmod(mode)
    scene.victim.write_bytes(scene.right)
    scene.lay(kind, scene.output)
    scene.receive()
    assert scene.victim.read_bytes() == scene.right
    status = scene.victim.lstat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (THIRD_USER, THIRD_USER)
    assert scene.seen in (b"", scene.right)


@folders
@pytest.mark.parametrize("held", ["evil", "right"])
def test_he_made_the_partial_file_and_keeps_it_open(scene, mode, held, monkeypatch):
    scene.folder.chmod(mode)
    scene.user.does("fd = os.open('out.part', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)")
    if held == "right":
        scene.fill(".part", scene.right)
    at_moments(scene, monkeypatch, "os.pwrite(fd, b'evil', 5)", "manifest", "verified", "rename")
    ended = scene.receive()
    scene.user.does("os.pwrite(fd, b'evil', 9); os.ftruncate(fd, 10)")
    scene.judge(ended, named=scene.at(".part"))


# What he does while the receiver runs.


def at_moments(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, code: str, *moments: str
) -> list[str]:
    """Let him do something at certain moments; return a list of how it went.

    manifest: before there is content. verified: everything is in the partial file and right.
    rename: it is on the disk, and about to become the output.
    """
    results: list[str] = []

    def now() -> None:
        results.append(scene.user.tries(code))

    def before(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def first_he(*arguments: Any, **named: Any) -> Any:
            now()
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, first_he)

    def after(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def then_he(*arguments: Any, **named: Any) -> None:
            original(*arguments, **named)
            now()

        monkeypatch.setattr(owner, name, then_he)

    if "manifest" in moments:
        after(PartFile, "begin")
    if "verified" in moments:
        before(PartFile, "publish")
    if "rename" in moments:
        after(CompletionHook, "publishing")
    return results


MAKE_EVIL = f"open('evil', 'wb').write(b'evil' * {SIZE // 4});"

SWAPS = {
    "another file": f"{MAKE_EVIL} os.rename('evil', 'out.part')",
    "removed": "os.unlink('out.part')",
    "moved": "os.rename('out.part', 'stolen')",
    "moved, link": "os.rename('out.part', 'stolen'); os.symlink('VICTIM', 'out.part')",
    "moved, folder": "os.rename('out.part', 'stolen'); os.mkdir('out.part')",
    "moved, FIFO": "os.rename('out.part', 'stolen'); os.mkfifo('out.part')",
    "a second name": "os.link('out.part', 'second')",
}


@pytest.mark.parametrize("moment", ["manifest", "verified", "rename"])
@pytest.mark.parametrize("swap", SWAPS)
def test_he_swaps_the_partial_file_by_its_name(scene, swap, moment, monkeypatch):
    scene.folder.chmod(OPEN)
    scene.output.write_bytes(b"before")
    code = SWAPS[swap].replace("VICTIM", str(scene.victim))
    results = at_moments(scene, monkeypatch, code, moment)
    scene.judge(scene.receive(), b"before")
    # At the last moment it lies where he can't go: all he can do is to lay something in its place.
    is_gone = moment == "rename" and swap != "another file"
    assert results == ["FileNotFoundError" if is_gone else ""] or swap == "a second name"


def test_in_a_sticky_folder_he_can_not_even(scene, monkeypatch):
    scene.folder.chmod(STICKY)
    results = [
        at_moments(scene, monkeypatch, SWAPS[swap], "manifest", "verified", "rename")
        for swap in SWAPS
        if swap != "a second name"  # that changes nothing
    ]
    ended = scene.receive()
    assert ended.code == 0, ended.stderr
    scene.judge(ended)
    assert all(one[:2] == ["PermissionError"] * 2 for one in results)
    # Then it lies where he can't go: what he finds in its place is his own.
    assert {one[2] for one in results} <= {"", "FileNotFoundError"}


@folders
def test_he_can_not_write_to_what_is_not_published(scene, mode, monkeypatch):
    scene.folder.chmod(mode)
    results = [
        at_moments(scene, monkeypatch, code.format(name), "manifest", "verified", "rename")
        for code in ("os.open('{}', os.O_WRONLY)", "os.truncate('{}', 5)")
        for name in ("out.part", "out.part.map", "out.pgmlite")
    ]
    ended = scene.receive()
    assert ended.code == 0, ended.stderr
    scene.judge(ended)
    assert all(len(one) == 3 for one in results)
    assert set().union(*results) <= {"PermissionError", "FileNotFoundError"}
    assert results[0] == results[3] == ["PermissionError", "PermissionError", "FileNotFoundError"]


@folders
def test_nothing_is_open_to_him_before_it_is_verified(scene, mode, monkeypatch):
    scene.folder.chmod(mode)
    results = [
        at_moments(scene, monkeypatch, f"os.open('out.part', {flags})", "manifest", "verified")
        for flags in ("os.O_RDONLY", "os.O_RDWR")
    ]
    before = os.umask(0)  # what it will be when it is published is another matter
    try:
        ended = scene.receive()
    finally:
        os.umask(before)
    assert ended.code == 0, ended.stderr
    assert scene.output.read_bytes() == scene.seen == scene.right
    assert results == [["PermissionError"] * 2] * 2


RESTLESS = f"""
def swap(name):
    open('evil', 'wb').write(b'evil' * {SIZE // 4})
    os.rename('evil', name)

def grab(name):
    os.rename(name, f'grabbed-{{os.urandom(8).hex()}}')
    swap(name)

def go():
    while not os.path.exists('stop'):
        for name in NAMES:
            try:
                ACT(name)
            except OSError:
                pass

threading.Thread(target=go, daemon=True).start()
"""


@pytest.mark.parametrize(
    ("names", "act"),
    [
        ("['out.part']", "swap"),
        ("[one for one in os.listdir() if one.startswith(('out.', '.'))]", "grab"),
        ("[one for one in os.listdir() if one.startswith('.') or one == 'out.part.d']", "grab"),
    ],
    ids=["partial file", "everything", "what is private"],
)
def test_he_never_rests(scene, names, act):
    # The moments that nobody thought of.
    scene.folder.chmod(OPEN)
    scene.user.does(RESTLESS.replace("NAMES", names).replace("ACT", act))
    try:
        for _ in range(3):
            ended = scene.receive()
            if ended.code == 8:  # it was published, and the record was taken from us
                assert scene.output.read_bytes() == scene.right
                assert scene.seen == b""
            else:
                scene.judge(ended)
            for path in (scene.output, scene.elsewhere / "seen"):
                path.unlink(missing_ok=True)
    finally:
        scene.user.does("open('stop', 'w')")


# Records that he forges: no network is needed for a command, so none may run.


def forged(name: str, path: Path) -> bytes:
    """Return a record that says that `path` was published and its command is due."""
    return Publication.of(
        make_object(1_000, name=name).manifest, identity_of(path.stat())
    ).to_json()


def no_command_runs(scene: Scene) -> None:
    ended = scene.start_without_network()
    assert ended.code in (3, 7), ended.stderr
    assert scene.seen == b""


@folders
def test_a_record_of_his_own_runs_nothing(scene, mode):
    scene.folder.chmod(mode)
    scene.user.does("open('out', 'w').write('evil'); open('out.pgmlite', 'w')")
    scene.fill(".pgmlite", forged("evil", scene.output))
    no_command_runs(scene)


@folders
@pytest.mark.parametrize("how", ["link", "hard link", "moved"])
def test_our_own_record_of_another_output_runs_nothing(scene, mode, how):
    other = scene.folder / "other"
    other.write_bytes(b"published as something else")
    record = PublishedRecord(other, pytest.fail)
    record.write(Publication.of(make_object(1_000).manifest, identity_of(other.stat())))
    record.close()
    scene.folder.chmod(mode)
    match how:
        case "link":
            scene.user.does(
                "os.symlink('other', 'out'); os.symlink('other.pgmlite', 'out.pgmlite')"
            )
        case "hard link":
            os.link(other, scene.output)
            os.link(record.path, scene.at(".pgmlite"))
        case "moved":
            moved = "os.rename('other', 'out'); os.rename('other.pgmlite', 'out.pgmlite')"
            assert scene.user.tries(moved) == ("" if mode == OPEN else "PermissionError")
    no_command_runs(scene)
