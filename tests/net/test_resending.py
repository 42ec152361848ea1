"""What replaces a file is sent in its place, on real sockets."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import pgmlite
from pgmlite.core.events import (
    Adopted,
    Completed,
    Hashing,
    SendProgress,
    SendStarted,
    Stopped,
    Superseded,
)
from pgmlite.errors import DiskError, UsageError
from pgmlite.net.arguments import DEFAULT_GROUP, DEFAULT_PORT
from tests.support.loopback import (
    BLOCK,
    SPM,
    SYMBOL,
    Endpoint,
    endpoint,
    make_file,
    receiving,
    sending,
    until,
)
from tests.support.releases import pem
from tests.support.resending import Following, Listening
from tests.support.signed import STREAM, private_key

SIZE = 40 * SYMBOL
LARGE = 512 << 20
"""Bytes that are not hashed in a moment; they are all 0, and take no room."""

QUICK = {"rate": 20_000_000}


@pytest.fixture
def place() -> Endpoint:
    return endpoint()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "firmware.bin", SIZE)


def replace(file: Path, size: int = SIZE, *, seed: int) -> Path:
    """Put another content in the place of a file, by a rename."""
    return make_file(file.with_suffix(".new"), size, seed=seed).replace(file)


def signed(file: Path, release: int, keys: Path, **given: object) -> Path:
    """Sign a file; return where what is to replace FILE.pglm is."""
    output = file.with_name(f"release-{release}.pglm")
    arguments = {"release": release, "stream": STREAM, "keys": [keys]} | given
    return Path(pgmlite.sign(file, output=output, **arguments).run().path)  # type: ignore[arg-type]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "k.pem"
    how = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private_key().private_bytes(*how))
    return path


@pytest.fixture
def sign_as(file: Path, key: Path) -> Callable[..., Path]:
    """Sign what is in the file as a release, and put FILE.pglm in place."""

    def sign(release: int, **given: object) -> Path:
        return signed(file, release, key, **given).replace(file.with_name(file.name + ".pglm"))

    return sign


def test_the_old_content_is_sent_until_the_new_one_is_ready(file: Path, place: Endpoint) -> None:
    # spec: SND-16, SND-1, SND-12
    with Listening(place) as heard, Following(file, place, **QUICK) as sender:
        old = sender.started().manifest.oid
        until(lambda: heard.of(old))
        renamed = time.monotonic()
        large = file.with_suffix(".new")
        with large.open("wb") as content:
            content.truncate(LARGE)
        large.replace(file)
        started = sender.started(2)
        new = started.manifest.oid
        until(lambda: len(heard.of(new)) > 50)
        stopped = sender.stop()
    assert (started.replaces, started.manifest.size) == (old, LARGE)
    before, after = heard.of(old), heard.of(new)
    assert len({one.tsi for one in before}) == len({one.tsi for one in after}) == 1
    assert before[0].tsi != after[0].tsi
    # It is another session of the same sockets, the first packet of which follows the last.
    assert len({one.source for one in before + after}) == 1
    assert after[0].kind == SPM
    assert renamed < before[-1].at <= after[0].at < before[-1].at + 1
    assert sum(one.at > renamed for one in before) > 1
    assert sender.of(Hashing)
    # The figures are those of a session; the last of the old one are told before the new one.
    events = [one for one in (*sender.of(SendProgress), started) if one.at <= started.at]
    assert max(one.figures.packets for one in events if isinstance(one, SendProgress)) >= len(
        before
    )
    assert (stopped.error, stopped.reason) == (None, "stopped by the test")
    assert 50 < stopped.figures.packets < len(before) + len(after) + 5_000


@pytest.mark.slow
def test_a_service_ends_with_0(tmp_path: Path, file: Path, place: Endpoint) -> None:
    # spec: SND-16
    with sending(file, place, "--follow") as sender:
        first = sender.event("start")
        replace(file, seed=1)
        second = sender.event("start", lambda event: event["replaces"] is not None)
        ended = sender.stop(signal.SIGTERM)
    assert (ended.code, ended.last["event"], ended.last["exit_code"]) == (0, "stopped", 0)
    assert ended.last["reason"] == "stopped by SIGTERM"
    assert first["replaces"] is None
    assert second["replaces"] == first["oid"] != second["oid"]
    assert not [line for line in ended.stderr if line.startswith("pgmlite: ")]
    # While the first content is hashed, too.
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    with sending(tmp_path / "huge", place, "--follow", "--log-interval", 1) as sender:
        sender.event("hashing")
        ended = sender.stop(signal.SIGTERM)
    assert (ended.code, ended.last["event"], ended.last["packets"]) == (0, "stopped", 0)


@pytest.mark.slow
def test_a_receiver_in_the_midst_of_the_old_takes_the_new(
    tmp_path: Path, place: Endpoint, file: Path
) -> None:
    # spec: RCV-4, SND-16
    make_file(file, 4 * BLOCK)
    with receiving(tmp_path / "copy", place) as receiver:
        receiver.event("start")
        with Following(file, place, rate=3_000_000) as sender:
            receiver.event("progress", lambda event: event["stored"] > 0)
            replace(file, seed=1)
            ended = receiver.end()
            old, new = sender.started(1).manifest.oid, sender.started(2).manifest.oid
    assert ended.code == 0, ended.stderr
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    superseded = ended.event("superseded")
    assert (superseded["oid"], superseded["by"]) == (f"{old:016x}", f"{new:016x}")
    assert superseded["by_release"] is None


@pytest.mark.slow
def test_with_keys_a_higher_release_is_taken_at_once(
    tmp_path: Path,
    place: Endpoint,
    file: Path,
    sign_as: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # spec: SND-17
    make_file(file, 4 * BLOCK)
    pglm = sign_as(1)
    monkeypatch.setenv("PGMLITE_STATE", str(tmp_path / "state"))
    arguments = {"group": place.group, "port": place.port, "interface": "lo", "timeout": 30}
    receiver = pgmlite.receive(tmp_path / "copy", keys=[pem(tmp_path, 0)], **arguments)  # type: ignore[arg-type]
    with Following(pglm, place, rate=3_000_000) as sender:
        sender.started()
        at = 0.0
        for event in receiver:
            if isinstance(event, Adopted) and not at:
                # FILE alone is not what counts: what is open is sent on.
                replace(file, seed=1)
                time.sleep(0.3)
                assert len(sender.of(SendStarted)) == 1
                sign_as(2)
                at = time.monotonic()
            if isinstance(event, Superseded):
                assert (event.by_release, event.by) == (2, sender.started(2).manifest.oid)
                assert time.monotonic() - at < 4  # not only after 5 s of silence
    assert isinstance(receiver.result, Completed)
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_what_is_of_no_use_is_warned_of_and_the_old_content_goes_on(
    tmp_path: Path, place: Endpoint, file: Path, key: Path, sign_as: Callable[..., Path]
) -> None:
    # spec: SND-17
    pglm = sign_as(1)
    expired, expires = signed(file, 3, key, expires=1), time.time() + 1
    with Listening(place) as heard, Following(pglm, place, **QUICK) as sender:
        old = sender.started().manifest.oid
        wanted = signed(make_file(tmp_path / "firmware.bin.b", SIZE, seed=1), 2, key)
        spoilt = tmp_path / "spoilt"
        spoilt.write_bytes(wanted.read_bytes()[:-1])
        until(lambda: time.time() > expires)
        for number, (bad, why) in enumerate(
            [
                (spoilt, "is damaged"),
                (expired, "has expired"),
                (wanted, "is not what"),  # FILE comes after FILE.pglm: the wrong order
            ],
            1,
        ):
            bad.replace(pglm)
            warning = sender.warned("replacement", number).warning
            assert why in warning
            assert warning.endswith("going on with what was there")
        told = time.monotonic()
        until(lambda: heard.of(old)[-1].at > told)
        # It is looked at again when what belongs to it changes.
        (tmp_path / "firmware.bin.b").replace(file)
        started = sender.started(2)
        assert started.replaces == old
        assert started.manifest.release
        assert started.manifest.release.number == 2


@pytest.mark.slow
def test_a_folder_that_is_exchanged_for_another(place: Endpoint, tmp_path: Path) -> None:
    # spec: SND-17
    folder, new = tmp_path / "site", tmp_path / "new"
    for path in (folder, new):
        path.mkdir()
        make_file(path / "page", SIZE)
    (new / "more").write_text("more")
    (new / "out").symlink_to("/etc/passwd")
    with Following(folder, place, **QUICK) as sender:
        old = sender.started().manifest
        (folder / "page").write_text("written to where it is: nothing is known of it")
        folder.rename(tmp_path / "old")
        new.rename(folder)
        assert "going on with what was there" in sender.warned("replacement").warning
        (folder / "out").unlink()  # seen at the folder: it is looked at again
        started = sender.started(2)
    assert started.replaces == old.oid
    assert started.manifest.archive
    assert old.archive
    assert started.manifest.archive.entries == old.archive.entries + 1


@pytest.mark.slow
def test_a_file_that_goes_and_comes_back(place: Endpoint, file: Path) -> None:
    # spec: SND-17
    with Following(file, place, **QUICK) as sender:
        old = sender.started().manifest.oid
        away = file.rename(file.with_suffix(".away"))
        assert "going on with what was there" in sender.warned("source").warning
        away.rename(file)
        time.sleep(0.3)
        replace(file, seed=1)
        assert sender.started(2).replaces == old
        assert len(sender.warnings("source")) == 1


@pytest.mark.slow
def test_a_file_that_changes_where_it_lies_is_sent_no_more_until_it_is_quiet(
    place: Endpoint, file: Path
) -> None:
    # spec: SND-7, SND-17
    with Listening(place) as heard, Following(file, place, **QUICK) as sender:
        old = sender.started().manifest.oid
        until(lambda: heard.of(old))
        with file.open("r+b") as content:
            content.write(b"changed")
        warning = sender.warned("source").warning
        assert "not whole any more" in warning
        for _ in range(3):  # somebody goes on to write
            time.sleep(0.4)
            with file.open("ab") as content:
                content.write(b"more")
        written = time.monotonic()
        started = sender.started(2)
        until(lambda: heard.of(started.manifest.oid))
    assert started.manifest.size == SIZE + 12
    assert started.replaces == old
    first = heard.of(started.manifest.oid)[0].at
    assert first > written + 0.9
    assert first > heard.of(old)[-1].at + 1.5  # nothing is sent until then


def test_another_ladder_needs_other_sockets(
    place: Endpoint, file: Path, sign_as: Callable[..., Path]
) -> None:
    # spec: SND-16
    group, other = place.group, endpoint().group
    slow, fast = [(group, 2_000_000), (other, 6_000_000)], [(group, 3_000_000), (other, 8_000_000)]
    pglm = sign_as(1, channels=slow, port=place.port)
    default = Endpoint(DEFAULT_GROUP, DEFAULT_PORT)  # as if none was named
    with Listening(place) as heard, Following(pglm, default, repair=True) as sender:
        first = sender.started()
        sign_as(2, channels=fast, port=place.port)
        second = sender.started(2)
        until(lambda: heard.of(second.manifest.oid))
        sign_as(3, channels=fast, port=place.port + 2)  # where NAKs are taken changes, too
        third = sender.started(3)
    assert [one.rate for one in first.channels] == [2_000_000, 6_000_000]
    assert [one.rate for one in second.channels] == [3_000_000, 8_000_000]
    assert heard.of(first.manifest.oid)[0].source != heard.of(second.manifest.oid)[0].source
    assert third.channels[0].port == place.port + 2


@pytest.mark.slow
def test_time_is_that_of_all_contents(place: Endpoint, file: Path) -> None:
    # spec: SND-16
    began = time.monotonic()
    with Following(file, place, duration=2.0, **QUICK) as sender:
        sender.started()
        replace(file, seed=1)
        sender.started(2)
        with file.open("ab") as content:  # nothing is sent at the end
            content.write(b"more")
        stopped = sender.wait(Stopped)
        assert (stopped.reason, stopped.error) == ("finished", None)
    assert 2 <= time.monotonic() - began < 4


def test_what_can_not_be_followed(place: Endpoint, tmp_path: Path, file: Path) -> None:
    arguments = {"group": place.group, "port": place.port, "interface": "lo", "follow": True}
    with pytest.raises(UsageError, match=r"follow: .*cycles"):
        pgmlite.send(file, cycles=1, **arguments)
    with pytest.raises(UsageError, match=r"follow: .*device"):
        pgmlite.send("/dev/null", **arguments).run()
    for given in ({"file": "-"}, {"file": "a.pglm", "content": "-"}):
        with pytest.raises(UsageError, match=r"follow: .*standard input"):
            pgmlite.send(**given, **arguments)  # type: ignore[arg-type]
    with pytest.raises(DiskError, match="No such file"):
        pgmlite.send(tmp_path / "none", **arguments).run()


def test_arguments_are_looked_at_before_a_content_is(place: Endpoint, tmp_path: Path) -> None:
    """What is wrong is said at once, not after minutes of hashing."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    arguments = {"group": place.group, "port": place.port, "interface": "lo"}
    for wrong in (
        {"interface": "none0"},
        {"name": "a\nb"},
        {"block_symbols": 0},
        {"repairers": ["nonsense"]},
        {"repair": True, "listen": f":{place.port}"},
        {"symbol_size": 1_000_001},
    ):
        began = time.monotonic()
        with pytest.raises(pgmlite.errors.PgmliteError):
            pgmlite.send(huge, **arguments | wrong).run()  # type: ignore[arg-type]
        assert time.monotonic() - began < 10
