"""Receivers that follow, as whole processes: one object after another, kills, troubles, signals."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

import pytest

from pgmlite.storage.record import parse
from pgmlite.wire.manifest import Archive
from tests.support.builders import make_object
from tests.support.following import Air, Site, completed, is_of, service_manager, version
from tests.support.loopback import Inside, Running, sending, until
from tests.support.releases import pem, release
from tests.support.signed import STREAM


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def idle(follower: Running, air: Air, packets: int = 400) -> None:
    """Let it hear what it has for a while."""
    sent = air.sent + packets
    until(lambda: air.sent >= sent or not follower.is_running)


@pytest.mark.slow
def test_one_after_another_each_once_and_what_is_in_place_costs_nothing(site):
    # spec: FOL-1, FOL-2, FOL-5
    one, two = version(1), version(2)
    with Air(site.place, one) as air, site.follow("--on-complete", site.hook()) as follower:
        follower.event("hook", lambda event: event["phase"] == "done")
        idle(follower, air)
        air.send(two)
        follower.event("complete", is_of(two))
        assert site.output.read_bytes() == two.data
        idle(follower, air)
        air.send(one, two)  # the old one is still there somewhere
        idle(follower, air)
        air.send()
        air.send(two)
        idle(follower, air)
        ended = follower.stop()
    assert (ended.code, completed(ended), site.hooked) == (0, ["v1", "v2"], ["v1", "v2"])
    assert ended.last["event"] == "stopped"
    assert (ended.last["objects"], ended.last["exit_code"]) == (2, 0)
    # 0 symbols more than the two have.
    assert ended.last["fetched"] == one.manifest.symbols + two.manifest.symbols
    assert not [event for event in ended.events if event["event"] in ("failed", "superseded")]
    assert len([event for event in ended.events if event["event"] == "start"]) == 1


@pytest.mark.slow
def test_what_is_in_place_is_known_after_a_restart(site):
    # spec: FOL-2, FOL-5
    one = version(1)
    options = ("--on-complete", site.hook())
    with Air(site.place, one) as air:
        with site.follow(*options) as follower:
            follower.event("hook", lambda event: event["phase"] == "done")
            follower.say(signal.SIGKILL)
            follower.end()
        with site.follow(*options) as follower:
            assert follower.event("in_place")["name"] == "v1"
            follower.event("joined")
            idle(follower, air)
            ended = follower.stop()
    assert (ended.code, completed(ended), site.hooked) == (0, [], ["v1"])
    assert ended.last["fetched"] == 0


@pytest.mark.slow
def test_without_a_command_it_is_known_as_well_and_without_a_record_by_its_bytes(site):
    # spec: FOL-2
    one = version(1)
    site.output.write_bytes(one.data)
    with Air(site.place, one) as air:
        with site.follow() as follower:
            assert follower.event("complete")["is_new"] is False
            idle(follower, air)
            ended = follower.stop()
        assert (ended.last["fetched"], ended.last["objects"]) == (0, 0)
        assert completed(ended) == ["v1"]
        assert parse(site.output.with_name("out.pgmlite").read_bytes()).oid == one.manifest.oid
        with site.follow() as follower:
            follower.event("in_place")
            idle(follower, air)
            assert completed(follower.stop()) == []


def test_where_no_record_is_believed_it_is_read_once_a_process(site):
    # spec: FOL-2
    site.output.parent.chmod(0o777)
    one = version(1)
    with Air(site.place, one) as air, site.follow() as follower:
        follower.event("complete")
        idle(follower, air)
        assert completed(follower.stop()) == ["v1"]


@pytest.mark.slow
def test_an_output_that_somebody_took_away_is_fetched_again(site):
    # spec: FOL-4
    one, two = version(1), version(2)
    with Air(site.place, one) as air, site.follow() as follower:
        follower.event("complete", is_of(one))
        air.send(two)
        follower.event("complete", is_of(two))
        air.send(one, two)
        site.output.unlink()
        until(site.output.exists)
        assert site.output.read_bytes() == two.data
        site.output.write_bytes(b"somebody else's")
        until(lambda: site.output.read_bytes() == two.data)
        ended = follower.stop()
    assert completed(ended) == ["v1", "v2", "v2", "v2"]


@pytest.mark.slow
def test_who_keeps_changing_it_has_it_put_there_ever_less_often(site):
    # spec: FOL-4
    one = version(1)
    with Air(site.place, one), site.follow() as follower:
        follower.event("complete", is_of(one))
        end = time.monotonic() + 4
        while time.monotonic() < end:
            site.output.write_bytes(b"somebody else's")
            time.sleep(0.05)
        until(lambda: site.output.read_bytes() == one.data)
        ended = follower.stop()
    # At once, after 1 s, 3 s and 7 s.
    assert 3 <= len(completed(ended)) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("script", ['rm "$1"', 'echo more >> "$1"'])
def test_what_the_command_makes_of_it_is_no_reason_to_take_it_again(site, script):
    # spec: FOL-4, FOL-5
    one, two = version(1), version(2)
    with Air(site.place, one) as air, site.follow("--on-complete", site.hook(script)) as follower:
        follower.event("hook", lambda event: event["phase"] == "done")
        idle(follower, air, 3_000)
        air.send(two)
        follower.event("complete", is_of(two))
        follower.event("hook", lambda event: event["phase"] == "done" and is_of(two)(event))
        ended = follower.stop()
    assert (completed(ended), site.hooked) == (["v1", "v2"], ["v1", "v2"])


@pytest.mark.slow
def test_a_command_that_fails_and_takes_it_away_gets_it_again_later(site):
    # spec: FOL-6
    hook = site.hook('rm "$1"; exit 3')
    with Air(site.place, version(1)) as air, site.follow("--on-complete", hook) as follower:
        follower.event("hook", lambda event: event["phase"] == "failed")
        idle(follower, air, 3_000)
        ended = follower.stop()
    assert (completed(ended), site.hooked) == (["v1"], ["v1"])


@pytest.mark.slow
def test_an_old_object_is_said_to_wait(site):
    # spec: FOL-3
    one, two = version(1), version(2)
    with Air(site.place, one) as air, site.follow() as follower:
        follower.event("complete", is_of(one))
        air.send(two)
        follower.event("complete", is_of(two))
        air.send(one)
        said = follower.event("warning", lambda event: event.get("cause") == "object")
        assert (said["reason"], said["name"]) == ("published", "v1")
        idle(follower, air)
        assert completed(follower.stop()) == ["v1", "v2"]


@pytest.mark.slow
def test_a_kill_between_output_and_command_runs_it_again(site):
    # spec: FOL-5
    one = version(1)
    with Air(site.place, one):
        with site.follow("--on-complete", site.hook("exec sleep 60")) as follower:
            until(lambda: site.hooked)
            follower.say(signal.SIGKILL)
            follower.end()
        with site.follow("--on-complete", site.hook()) as follower:
            follower.event("hook", lambda event: event["phase"] == "done")
            ended = follower.stop()
    assert site.hooked == ["v1", "v1"]
    assert (completed(ended), ended.last["fetched"]) == ([], 0)


def test_a_command_that_fails_is_told_and_a_newer_object_takes_its_place(site):
    # spec: FOL-6
    one, two = version(1), version(2)
    hook = site.hook('test "$PGMLITE_NAME" = v2')
    with Air(site.place, one) as air, site.follow("--on-complete", hook) as follower:
        said = follower.event("warning", lambda event: event.get("cause") == "on_complete")
        assert "exit code 1" in said["warning"]
        idle(follower, air)
        air.send(two)
        follower.event("hook", lambda event: event["phase"] == "done")
        ended = follower.stop()
    assert (ended.code, site.hooked) == (0, ["v1", "v2"])


def test_of_each_object_it_is_told_that_its_command_failed(site):
    # spec: FOL-6
    with Air(site.place, version(1)) as air, site.follow("--on-complete", "false") as follower:
        follower.event("hook", lambda event: event["phase"] == "failed")
        air.send(version(2))
        follower.event("hook", lambda e: e["phase"] == "failed" and is_of(version(2))(e))
        ended = follower.stop()
    failures = [one for one in ended.events if one.get("cause") == "on_complete"]
    assert len(failures) == 2


def test_a_stop_while_the_command_runs_is_told_apart_from_what_became_of_that(site):
    # spec: FOL-7
    hook = site.hook("exec sleep 60")
    with Air(site.place, version(1)), site.follow("--on-complete", hook) as follower:
        until(lambda: site.hooked)
        ended = follower.stop()
    assert (ended.code, ended.last["reason"]) == (0, "stopped by SIGTERM")
    (warning,) = [one for one in ended.events if one.get("cause") == "on_complete"]
    assert "ended after" in warning["warning"]


@pytest.mark.slow
def test_what_passes_ends_nothing(site, tmp_path):
    # spec: FOL-6
    one = version(1)
    site.output = tmp_path / "later" / "out"
    with Air(site.place, one), site.follow() as follower:
        said = follower.event("warning", lambda event: event.get("cause") == "retry")
        assert (said["seconds"], "later" in said["warning"]) == (1.0, True)
        site.output.parent.mkdir()
        follower.event("complete")
        ended = follower.stop()
    assert ended.code == 0
    assert len([one for one in ended.events if one.get("cause") == "retry"]) == 1


def test_an_interface_that_is_not_there_yet_is_waited_for(site):
    # spec: FOL-6, FOL-7
    with (
        service_manager() as manager,
        Running(
            *("recv", "-o", site.output, "-i", "nosuch0", "--follow", "--json"),
            env={"PGMLITE_STATE": str(site.state), "NOTIFY_SOCKET": manager.address},
        ) as follower,
    ):
        said = follower.event("warning", lambda event: event.get("cause") == "retry")
        assert "nosuch0" in said["warning"]
        manager.hears("READY=1")
        assert follower.stop().code == 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--timeout", "5"), "--timeout"),
        (("--object", "0" * 16), "--object"),
        (("--key", "k.pem"), "--stream"),
        (("--key", "nosuch.pem", "--stream", STREAM, "--allow-rollback"), "--allow-rollback"),
        (("-g", "10.0.0.1"), "10.0.0.1"),
    ],
    ids=["timeout", "object", "stream", "rollback", "group"],
)
def test_what_can_never_go_well_ends_it_at_once(site, monkeypatch, capfd, options, word):
    # spec: FOL-6
    monkeypatch.setenv("PGMLITE_STATE", str(site.state))
    inside = Inside(monkeypatch, capfd)
    ended = inside("recv", "-o", site.output, *site.place.flags, "--follow", "--json", *options)
    assert ended.code == 2
    assert word in ended.error
    assert ended.last["event"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_end_it_well_at_any_time(site, number):
    # spec: FOL-7
    with Air(site.place, version(1), most=5), site.follow() as follower:
        follower.event("manifest")
        ended = follower.stop(number)
    assert (ended.code, ended.last["event"]) == (0, "stopped")


def test_the_newest_release_and_keys_that_change(site, tmp_path):
    # spec: FOL-3, FOL-8
    keys = pem(tmp_path, 0)
    options = ("--key", keys, "--stream", STREAM)
    one, two, other = release(1), release(2), release(3, (1,))
    with Air(site.place, one) as air, site.follow(*options) as follower:
        follower.event("complete", is_of(one))
        air.send(one, two)
        follower.event("complete", is_of(two))
        air.send(one, other)
        idle(follower, air)
        pem(tmp_path, 1)
        (keys / "broken.pem").write_text("no key")
        follower.say(signal.SIGHUP)
        follower.event("warning", lambda event: event.get("cause") == "key")
        idle(follower, air)
        assert not follower.has_said("failed")
        (keys / "broken.pem").unlink()
        follower.say(signal.SIGHUP)
        follower.event("complete", is_of(other))
        ended = follower.stop()
    assert completed(ended) == ["router-1.bin", "router-2.bin", "router-3.bin"]
    assert site.output.read_bytes() == other.data


@pytest.mark.slow
def test_the_service_manager_is_told(site, tmp_path):
    # spec: FOL-7
    one = version(1)
    with service_manager(tmp_path) as manager:
        env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
        hook = site.hook(f'echo "none:$NOTIFY_SOCKET" >> {site.notes}; sleep 0.8')
        with Air(site.place, one), site.follow("--on-complete", hook, env=env) as follower:
            manager.hears("READY=1")
            follower.event("hook", lambda event: event["phase"] == "done")
            manager.hears("STATUS=v1 in place; waiting")
            before = manager.said.count("WATCHDOG=1")
            assert follower.stop().code == 0
            manager.hears("STOPPING=1")
    assert before >= 4  # while the command slept, too
    assert site.hooked == ["v1", "none:"]


@pytest.mark.slow
def test_many_objects_in_a_short_time(site):
    # spec: FOL-5
    count = 12
    objects = [make_object(3_000, symbol_size=1_404, seed=n, name=f"o{n}") for n in range(count)]
    with Air(site.place) as air, site.follow("--on-complete", site.hook()) as follower:
        follower.event("start")
        sizes = []
        for sample in objects:
            air.send(sample)
            follower.event("hook", lambda e, s=sample: is_of(s)(e) and e["phase"] == "done")
            sizes.append(follower.memory_kib())
        ended = follower.stop()
    assert site.hooked == [f"o{n}" for n in range(count)]
    assert ended.last["fetched"] == sum(one.manifest.symbols for one in objects)
    assert sizes[-1] - sizes[count // 2] < 1_024  # KiB; a receiver has four times as much


@pytest.mark.slow
def test_a_state_that_is_damaged_is_begun_anew(site):
    # spec: FOL-3
    one = version(1)
    with Air(site.place, one) as air:
        with site.follow() as follower:
            follower.event("complete")
            follower.stop()
        (path,) = site.state.glob("follow-*.json")
        path.write_text("{}")
        with site.follow() as follower:
            assert "begun anew" in follower.event("warning")["warning"]
            idle(follower, air)
            assert completed(follower.stop()) == []
    assert f"{one.manifest.oid:016x}" in path.read_text()


def test_a_folder_for_state_is_not_needed(site):
    # spec: FOL-3
    site.state.write_text("a file")
    with Air(site.place, version(1)), site.follow() as follower:
        follower.event("complete")
        assert follower.stop().code == 0


@pytest.mark.slow
def test_a_folder_and_an_archive_that_is_none(site, tmp_path):
    # spec: FOL-2, FOL-6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode() * 9_000)
    junk = make_object(9_000, symbol_size=1_404, name="site")
    junk = replace(junk, manifest=replace(junk.manifest, archive=Archive(2, 100)))
    site.output = f"{tmp_path}/site/"
    with site.follow("--on-complete", site.hook()) as follower:
        with sending(tmp_path / "a", site.place, "--name", "a"):
            follower.event("hook", lambda event: event["phase"] == "done")
        with Air(site.place, junk) as air:
            follower.event("warning", lambda event: "is not unpacked" in event["warning"])
            follower.event("warning", lambda event: event.get("reason") == "unfit")
            idle(follower, air)
        with sending(tmp_path / "b", site.place, "--name", "b"):
            follower.event("complete", lambda event: event["name"] == "b")
            ended = follower.stop()
    assert (tmp_path / "site" / "file").read_bytes() == b"b" * 9_000
    assert completed(ended) == ["a", "b"]
    assert len([one for one in ended.events if one["event"] == "manifest"]) == 3
