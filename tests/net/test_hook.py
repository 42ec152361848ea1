"""The command of ``--on-complete`` from end to end: at least once, and never beside itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgmlite.storage.record import Phase
from tests.support.hooks import Site, is_alive, last_hook, phases
from tests.support.loopback import (
    PATIENCE,
    Ended,
    Inside,
    endpoint,
    environment,
    make_file,
    receive,
    receiving,
    sending,
    until,
)

CAPTURE = Path(__file__).resolve().parents[2] / "captures" / "clean-carousel-ipv4.pcap"


@pytest.fixture(scope="module")
def carousel(tmp_path_factory):
    """A small file on the air."""
    source = make_file(tmp_path_factory.mktemp("carousel") / "small –.bin", 5_000)
    place = endpoint()
    with sending(source, place, rate="10M") as sender:
        sender.event("start")
        yield source, place


@pytest.fixture
def inside(monkeypatch, capfd):
    return Inside(monkeypatch, capfd)


@pytest.fixture
def site(tmp_path, inside):
    return Site(tmp_path, inside)


PATCHED = """
import os, signal
from pgmlite import cli
from pgmlite.net.completion import CompletionHook as Hook
publishing, finish = Hook.publishing, Hook.finish

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def record_and_die(*arguments):
    publishing(*arguments)
    die()

def swap(*arguments):
    os.rename(os.environ["OTHER"], os.environ["OUTPUT"])
    return finish(*arguments)

Hook.{name} = {patch}
cli.main()
"""


def patched(name: str, patch: str, *arguments: object, **env: object) -> Ended:
    """Run pgmlite with one step of it replaced."""
    code = PATCHED.format(name=name, patch=patch)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment({key: str(value) for key, value in env.items()}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return Ended(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


def test_killed_between_rename_and_hook_the_next_start_runs_it_without_a_network(site, carousel):
    source, place = carousel
    recv = ("recv", "-o", site.output, *place.flags, "--on-complete", site.hook())
    assert patched("finish", "die", *recv).code == -signal.SIGKILL
    assert site.output.read_bytes() == source.read_bytes()
    assert site.attempts == []
    ended = site.without_network('echo "$PGMLITE_NAME" > name; test "$1" = "$PGMLITE_PATH"')
    assert phases(ended) == [("started", 1), ("done", 1)]
    assert site.attempts == [1]
    assert (site.folder / "name").read_text() == f"{source.name}\n"
    assert site.publication().phase is Phase.DONE
    assert phases(site.without_network()) == []  # once is enough
    assert site.attempts == [1]


def test_killed_between_record_and_rename_nothing_runs(site, carousel):
    _, place = carousel
    site.output.write_text("before")
    recv = ("recv", "-o", site.output, *place.flags, "--on-complete", site.hook())
    assert patched("publishing", "record_and_die", *recv).code == -signal.SIGKILL
    assert site.publication().phase is Phase.PUBLISHED
    assert site.output.read_text() == "before"
    assert phases(site.without_network()) == []
    assert site.receive(place).code == 0
    assert site.attempts == [1]


def test_killed_in_the_hook_it_runs_again_and_never_beside_itself(site, carousel):
    _, place = carousel
    script = """
        if [ $PGMLITE_ATTEMPT = 1 ]; then
            sleep 600 & echo $! > child
            read -r _ _ _ recv _ < /proc/$PPID/stat
            kill -KILL $recv
            wait
        fi
        ! kill -0 $(cat child)
    """
    ended = receive(site.output, place, "--on-complete", site.hook(script))
    assert ended.code == -signal.SIGKILL
    assert site.publication().phase is Phase.STARTED
    assert phases(site.without_network(script)) == [("started", 2), ("done", 2)]
    assert site.attempts == [1, 2]


def test_a_hook_that_fails_runs_again_at_each_start_until_it_does_its_work(site, carousel):
    _, place = carousel
    ended = site.receive(place, "exit 3")
    assert ended.code == 8
    assert "exit code 3" in ended.error
    assert str(site.output) in ended.error
    end = last_hook(ended)
    assert end["phase"] == "failed"
    assert (end["code"], end["signal"], end["timed_out"]) == (3, None, False)
    assert (ended.last["event"], ended.last["exit_code"]) == ("failed", 8)
    failing = site.without_network("kill -KILL $$")
    assert phases(failing) == [("started", 2), ("failed", 2)]
    assert failing.events[1]["signal"] == "SIGKILL"
    assert [e["warning"] for e in failing.events if e["event"] == "warning"]
    assert phases(site.without_network()) == [("started", 3), ("done", 3)]
    assert phases(site.without_network()) == []
    assert site.attempts == [1, 2, 3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("start", ["after the transfer", "at the start"])
def test_a_signal_ends_both(site, carousel, number, start):
    _, place = carousel
    hook = site.hook("sleep 600 & echo $! > tmp; mv tmp child; wait")
    attempt = 1
    if start == "at the start":
        site.publish(attempts=1)
        attempt = 2
    with receiving(site.output, place, "--on-complete", hook) as receiver:
        receiver.event("hook")
        until(lambda: site.has("child"))
        ended = receiver.stop(number)
    assert ended.code == 6
    assert number.name in ended.error
    assert last_hook(ended)["phase"] == "failed"
    assert not is_alive((site.folder / "child").read_text())
    assert (site.publication().phase, site.publication().attempt) == (Phase.STARTED, attempt)
    assert site.attempts == [attempt]


def test_a_hanging_hook_ends_at_its_time(site, carousel):
    _, place = carousel
    ended = site.receive(place, "sleep 600 & echo $! > child; wait", "--hook-timeout", 0.5)
    assert ended.code == 8
    assert "--hook-timeout" in ended.error
    assert last_hook(ended)["timed_out"]
    if site.has("child"):  # it had the time to start
        assert not is_alive((site.folder / "child").read_text())
    assert site.publication().phase is Phase.STARTED


@pytest.mark.slow
def test_the_time_of_recv_is_not_that_of_its_hook(site):
    site.publish()
    hook = ("--on-complete", site.hook("sleep 0.4"))
    ended = receive(site.output, endpoint(), *hook, "--timeout", 0.1)
    assert ended.code == 5
    assert phases(ended) == [("started", 1), ("done", 1)]


def test_what_is_published_after_a_failure_has_an_attempt_of_its_own(site, carousel):
    source, place = carousel
    site.publish(attempts=1)
    ended = site.receive(place, "test $PGMLITE_ATTEMPT = 1")
    assert ended.code == 0, ended.stderr
    assert phases(ended) == [("started", 2), ("failed", 2), ("started", 1), ("done", 1)]
    assert site.output.read_bytes() == source.read_bytes()
    assert site.publication().name == source.name
    assert sorted(one.name for one in site.folder.iterdir()) == ["calls", "out", "out.pgmlite"]


def test_the_path_is_absolute_though_the_output_was_not(site, carousel):
    _, place = carousel
    hook = ("--on-complete", site.hook('echo "$1" > path'))
    ended = site.inside.receive(os.path.relpath(site.output), place, *hook)
    assert ended.code == 0, ended.stderr
    path = Path((site.folder / "path").read_text().strip())
    assert path.is_absolute()
    assert path.samefile(site.output)


def lease(kind: str) -> str:
    """Return what ends with 1 if the output is open elsewhere: `RDLCK` for writing, `WRLCK` at all.

    RAUC installs nothing that somebody can still write to.
    """
    code = f"import fcntl, sys; fcntl.fcntl(open(sys.argv[1]), fcntl.F_SETLEASE, fcntl.F_{kind})"
    return f"exec {sys.executable} -c '{code}' \"$1\""


def test_the_command_has_the_output_alone(site, carousel):
    _, place = carousel
    ended = site.receive(place, lease("WRLCK"))
    assert ended.code == 0, ended.stderr
    site.record.unlink()
    ended = site.receive(place, lease("WRLCK"))
    assert (ended.code, ended.event("complete")["is_new"]) == (0, False), ended.stderr
    site.publish(attempts=1)
    site.without_network(lease("RDLCK"))
    assert site.publication().phase is Phase.DONE


def test_no_command_runs_for_what_was_put_in_the_place_of_the_output(site, carousel):
    _, place = carousel
    other = make_file(site.folder / "other", 5_000)
    recv = ("recv", "-o", site.output, *place.flags, "--on-complete", site.hook())
    ended = patched("finish", "swap", *recv, OTHER=other, OUTPUT=site.output)
    assert ended.code == 8
    assert str(site.output) in ended.error
    assert site.attempts == []


@pytest.mark.parametrize("verb", ["recv", "replay"])
def test_who_publishes_without_a_hook_leaves_no_record(site, carousel, verb):
    _, place = carousel
    site.publish(attempts=1)
    if verb == "recv":
        assert site.inside.receive(site.output, place).code == 0
    else:
        assert site.inside("replay", CAPTURE, "-o", site.output).code == 0
    assert not site.record.exists()


def test_a_file_that_is_no_record_is_left_alone_without_a_hook(site, carousel):
    _, place = carousel
    site.record.write_text("somebody's notes")
    assert site.inside.receive(site.output, place).code == 0
    assert site.record.read_text() == "somebody's notes"


def test_a_forged_record_runs_nothing_and_is_named(site):
    publication = site.publish()
    site.record.chmod(0o666)
    ended = site.without_network()
    assert site.attempts == []
    (warning,) = (e["warning"] for e in ended.events if e["event"] == "warning")
    assert str(site.record) in warning
    assert site.publication() == publication


def test_what_is_in_the_way_of_a_record_is_named_before_the_first_packet(site):
    site.record.mkdir()
    ended = site.receive(endpoint())
    assert ended.code == 7
    assert str(site.record) in ended.error
    assert [event["event"] for event in ended.events] == ["failed"]


def test_what_can_not_be_recorded_is_not_published(site, carousel):
    source, _ = carousel
    place = endpoint()
    with receiving(site.output, place, "--on-complete", site.hook()) as receiver:
        receiver.event("start")
        site.record.mkdir()
        with sending(source, place):
            ended = receiver.end()
    assert ended.code == 7
    assert str(site.record) in ended.error
    assert not site.output.exists()
    assert site.has("out.part")
    assert site.attempts == []
