"""The command of ``--on-complete``: found, run at least once, numbered, supervised."""

import contextlib
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import DiskError, Interrupted
from pgmlite.net import keeper
from pgmlite.net.hook import MAX_SAFE_NAME, Command, Ending, find_command, safe_name, supervise
from pgmlite.net.loop import Stop
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.storage.record import Phase, Publication, PublishedRecord, parse
from tests.support.builders import make_object
from tests.support.loopback import (
    PATIENCE,
    Cli,
    Ended,
    Endpoint,
    Inside,
    Until,
    endpoint,
    environment,
    make_file,
    receive,
    receiving,
    sending,
    until,
)

SH = "/bin/sh"
CAPTURE = Path(__file__).resolve().parents[2] / "captures" / "clean-carousel-ipv4.pcap"
LONG = 20 * SECOND


# Programs and names.


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("''", "is empty"),
        ("no-such-program-anywhere --force", "no-such-program-anywhere: not found"),
        ("/no/such/program", "/no/such/program: not found"),
        ("'open", "'open"),
        ("{folder}", "can be run"),
        ("{folder}/plain.txt", "can be run"),
        ("plain.txt", "can be run"),
    ],
)
def test_a_command_that_can_not_run_is_refused_before_the_first_packet(
    tmp_path, monkeypatch, capsys, text, why
):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "plain.txt").write_text("exit 0\n")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    output = tmp_path / "out"
    code, error = Cli(monkeypatch, capsys).refuse(
        *("recv", "-o", output, *endpoint().flags),
        *("--on-complete", text.format(folder=folder)),
    )
    assert code == 2
    assert "--on-complete" in error
    assert why in error
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_command_is_split_as_a_shell_does_and_found_in_the_path():
    command = find_command("sh -c 'echo \"$@\"' two\\ words")
    assert command.words == ("sh", "-c", 'echo "$@"', "two words")
    assert os.access(command.program, os.X_OK)
    assert Path(command.program).name == "sh"


def test_a_time_limit_without_a_command_is_refused(tmp_path, monkeypatch, capsys):
    refuse = Cli(monkeypatch, capsys).refuse
    arguments = ("recv", "-o", tmp_path / "out", *endpoint().flags, "--hook-timeout")
    code, error = refuse(*arguments, 5)
    assert (code, "--on-complete" in error) == (2, True)
    code, error = refuse(*arguments, 0, "--on-complete", "true")
    assert (code, "--hook-timeout 0" in error) == (2, True)


@given(name=st.text())
@example(name="")
@example(name="../../etc/passwd")
@example(name="--force")
@example(name="-.-.hidden")
@example(name="...")
@example(name="$(reboot)")
@example(name="größe – 1.bin")
@example(name="x" * 300)
@example(name="." * 200 + "x")
def test_safe_names(name):
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", safe)
    assert len(safe) <= MAX_SAFE_NAME
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}", name):
        assert safe == name


# Supervision. A script gets the path as $1.


@pytest.fixture
def lock(tmp_path):
    fd = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield fd
    os.close(fd)


@dataclass
class Scripts:
    """Runs shell scripts under supervision, in a folder in which they leave notes."""

    folder: Path
    lock: int

    def __call__(
        self,
        script: str,
        *,
        timeout: int = LONG,
        grace: int = LONG,
        stop: Stop | None = None,
        shell: str = SH,
    ) -> Ending:
        command = Command(shell, ("sh", "-c", f"cd {self.folder}\n{script}", "sh"))
        return supervise(
            command,
            self.folder / "the path",
            {"PGMLITE_NAME": "größe".encode()},
            stop or Stop(),
            timeout=timeout,
            lock=self.lock,
            grace=grace,
        )

    def note(self, name: str) -> str:
        """Return what a script wrote; empty: nothing."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / name).read_text().strip()
        return ""

    def noted(self, name: str) -> Callable[[], bool]:
        """Return a condition: the note is there."""
        return lambda: bool(self.note(name))


@pytest.fixture
def scripts(tmp_path, lock):
    return Scripts(tmp_path, lock)


def is_alive(pid: int | str) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not, nor does none."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_command_that_does_its_work(scripts, capfd):
    ending = scripts(
        'echo "$0|$1|$#|$PGMLITE_NAME|$HOME"; echo oops >&2; cat; '
        "grep SigIgn /proc/$$/status; kill -0 $PPID; test -t 0"
        " || exit 3"
    )
    said = capfd.readouterr()
    assert said.out == ""  # that is for events
    first, oops, ignored = said.err.splitlines()
    assert first == f"sh|{scripts.folder / 'the path'}|1|größe|{os.environ['HOME']}"
    assert oops == "oops"
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0
    assert (ending.code, ending.signal, ending.is_good) == (3, None, False)
    assert str(ending) == "exit code 3"
    assert scripts("exit 0").is_good


def test_a_flood_of_output_goes_by(scripts, capfd):
    ending = scripts("yes 0123456789abcdef | head -c 3000000; yes x | head -c 3000000 >&2")
    assert ending.is_good
    assert len(capfd.readouterr().err) == 6_000_000


def test_a_command_that_is_killed_by_itself(scripts):
    ending = scripts("kill -KILL $$")
    assert (ending.code, ending.signal, ending.is_good) == (None, "SIGKILL", False)
    assert str(ending) == "killed by SIGKILL"
    assert scripts("kill -40 $$").signal == "signal 40"


def test_a_command_that_kills_its_group(scripts):
    # As scripts do that clean up with `trap "kill 0" EXIT`.
    ending = scripts(
        "sleep 600 & echo $! > child; trap 'trap \"\" TERM; kill 0; wait; exit 0' EXIT; exit 5"
    )
    assert ending.is_good
    assert not is_alive(scripts.note("child"))


@pytest.mark.parametrize("kind", ["gone", "no program"])
def test_a_command_that_can_not_be_started_any_more(scripts, kind):
    program = scripts.folder / "program"
    if kind == "no program":
        program.write_bytes(b"\x7fELF")
        program.chmod(0o755)
    ending = scripts("", shell=str(program))
    assert not ending.is_good
    assert ending.code is None
    assert str(ending) in {"No such file or directory", "Exec format error"}


def test_a_hanging_command_is_ended_at_its_time(scripts):
    ending = scripts("sleep 600 & echo $! > child; echo $$ > shell; wait", timeout=300 * MS)
    assert ending.timed_out
    assert not ending.is_good
    assert ending.seconds >= 0.3
    assert "--hook-timeout" in str(ending)
    assert not is_alive(scripts.note("child"))
    assert not is_alive(scripts.note("shell"))


def test_a_command_that_ends_well_when_it_is_ended_has_not_done_its_work(scripts):
    stop = Until(scripts.noted("ready"))
    ending = scripts("trap 'exit 0' TERM; echo yes > ready; sleep 600 & wait", stop=stop)
    assert ending.code == 0
    assert not ending.is_good


@pytest.mark.parametrize("grace", [LONG, 100 * MS], ids=["heeds SIGTERM", "deaf"])
@pytest.mark.parametrize("place", ["itself", "child", "session", "orphan"])
def test_no_orphan_is_left_of_a_command_that_is_ended(scripts, place, grace):
    deaf = "trap '' TERM INT HUP; " if grace != LONG else ""
    hang = f"{deaf}echo $$ > pid.tmp; mv pid.tmp pid; while :; do sleep 600 & wait; done"
    script = {
        "itself": hang,
        "child": f"sh -c {shlex.quote(hang)} & sleep 600",
        "session": f"setsid sh -c {shlex.quote(hang)} & sleep 600",
        "orphan": f"(setsid sh -c {shlex.quote(hang)} &); sleep 600",
    }[place]
    ending = scripts(script, stop=Until(scripts.noted("pid")), grace=grace)
    assert isinstance(ending.interrupted, Interrupted)
    assert not ending.is_good
    if place == "itself" or not deaf:
        assert ending.signal == ("SIGKILL" if deaf else "SIGTERM")
    assert not is_alive(scripts.note("pid"))


def test_who_cleans_up_has_time_for_it_though_the_shell_is_gone(scripts):
    worker = "trap 'sleep 0.3; echo yes > clean; exit' TERM; echo yes > ready; sleep 600 & wait"
    ending = scripts(f"sh -c {shlex.quote(worker)} & wait", stop=Until(scripts.noted("ready")))
    assert ending.signal == "SIGTERM"
    assert scripts.note("clean") == "yes"


def is_locked(path: Path) -> bool:
    """Whether somebody has a lock on a file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_what_a_command_leaves_on_purpose_stays_and_has_no_lock(scripts):
    ending = scripts("setsid sleep 600 >/dev/null 2>&1 & echo $! > daemon")
    daemon = int(scripts.note("daemon"))
    try:
        assert ending.is_good
        assert is_alive(daemon)
        held = [fd.resolve() for fd in Path(f"/proc/{daemon}/fd").iterdir()]
        assert scripts.folder / "lock" not in held
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_signal_that_came_before_keeps_it_from_starting(scripts):
    with pytest.raises(Interrupted):
        scripts("echo yes > ran", stop=Until(lambda: True))
    assert not scripts.note("ran")


def test_nothing_is_left_of_a_command_whose_keeper_is_killed(scripts):
    ending = scripts("sleep 600 & echo $! > child; kill -KILL $PPID; wait")
    assert ending.signal == "SIGKILL"
    assert not ending.is_good
    until(lambda: not is_alive(scripts.note("child")))


def test_the_lock_outlives_the_receiver_until_its_command_is_gone(tmp_path):
    lock, pid = tmp_path / "lock", tmp_path / "pid"
    deaf = f"trap '' TERM; echo $$ > {pid}.tmp; mv {pid}.tmp {pid}; while :; do sleep 600; done"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fd = str(file.fileno())
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, "0.3", fd, SH, "sh", "-c", deaf],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(file.fileno(),),
            start_new_session=True,
        )
    with process:
        until(pid.exists)
        process.stdin.close()  # as if the receiver was killed
        while is_locked(lock):
            pass
        assert not is_alive(pid.read_text())
        assert process.wait(PATIENCE) == -signal.SIGKILL


def test_without_the_kernels_help_the_group_is_ended(scripts, monkeypatch, tmp_path):
    # As where /proc does not list children, and where ctypes or prctl are missing.
    text = Path(keeper.__file__).read_text()
    poor = tmp_path / "keeper.py"
    poor.write_text(text.replace('"children"', '"nothing"').replace("import ctypes", "import no"))
    assert poor.read_text() != text
    monkeypatch.setattr(keeper, "__file__", str(poor))
    hang = "trap '' TERM; echo $$ > pid; while :; do sleep 600 & wait; done"
    stop = Until(scripts.noted("pid"))
    ending = scripts(f"sh -c {shlex.quote(hang)} & sleep 600", stop=stop, grace=100 * MS)
    assert ending.interrupted
    until(lambda: not is_alive(scripts.note("pid")))


# From end to end.


@pytest.fixture(scope="module")
def carousel(tmp_path_factory):
    """A small file on the air."""
    source = make_file(tmp_path_factory.mktemp("carousel") / "small –.bin", 5_000)
    place = endpoint()
    with sending(source, place, rate="10M") as sender:
        sender.event("start")
        yield source, place


@dataclass
class Site:
    """An output, and a command that notes its attempts beside it."""

    folder: Path
    inside: Inside

    def __post_init__(self) -> None:
        self.output = self.folder / "out"
        self.record = self.folder / "out.pgmlite"

    def hook(self, script: str = "") -> str:
        """Return a command; `script` goes on in the folder."""
        text = f'cd {self.folder}; echo "$PGMLITE_ATTEMPT" >> calls; {script}'
        return shlex.join(["sh", "-c", text, "sh"])

    @property
    def attempts(self) -> list[int]:
        """How the command was called, time after time."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in (self.folder / "calls").read_text().split()]
        return []

    def has(self, name: str) -> bool:
        """Whether a script left something."""
        return (self.folder / name).exists()

    def publication(self) -> Publication:
        """Return what the record says."""
        return parse(self.record.read_bytes())

    def publish(self, name: str = "old", attempts: int = 0) -> Publication:
        """Leave what an earlier `recv` would."""
        sample = make_object(1_000, name=name)
        self.output.write_bytes(sample.data)
        publication = Publication.of(sample.manifest, self.output.stat())
        for _ in range(attempts):
            publication = publication.start()
        record = PublishedRecord(self.output, pytest.fail)
        record.write(publication)
        record.close()
        return publication

    def receive(self, place: Endpoint, script: str = "", *options: object) -> Ended:
        """Run `recv` to its end, with the command that goes on with `script`."""
        hook = ("--on-complete", self.hook(script))
        return self.inside.receive(self.output, place, *hook, *options)

    def without_network(self, script: str = "") -> Ended:
        """Start `recv` where its interface does not exist."""
        flags = ("-g", "239.1.2.3", "-i", "nosuch0", "--json")
        ended = self.inside("recv", "-o", self.output, *flags, "--on-complete", self.hook(script))
        assert ended.code == 3, ended.stderr
        return ended


@pytest.fixture
def inside(monkeypatch, capfd):
    return Inside(monkeypatch, capfd)


@pytest.fixture
def site(tmp_path, inside):
    return Site(tmp_path, inside)


def last_hook(ended: Ended) -> dict:
    """Return the last event of the hook."""
    return [event for event in ended.events if event["event"] == "hook"][-1]


def phases(ended: Ended) -> list[tuple[str, int]]:
    """Return what the events say of the command."""
    return [(e["phase"], e["attempt"]) for e in ended.events if e["event"] == "hook"]


PATCHED = """
import os, signal
from pgmlite import cli
from pgmlite.cli.hook import CompletionHook as Hook
publishing, finish = Hook.publishing, Hook.finish

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def record_and_die(*arguments):
    publishing(*arguments)
    die()

def swap(hook, manifest):
    os.rename(os.environ["OTHER"], hook._path)
    finish(hook, manifest)

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


def test_no_command_runs_for_what_was_put_in_the_place_of_the_output(site, carousel):
    _, place = carousel
    other = make_file(site.folder / "other", 5_000)
    recv = ("recv", "-o", site.output, *place.flags, "--on-complete", site.hook())
    ended = patched("finish", "swap", *recv, OTHER=other)
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


# The output was the announced object already: nothing is renamed.


@pytest.fixture
def in_place(site, monkeypatch):
    """Run `recv` whose loop finds the announced object in place."""

    def recv(name: str, script: str = "") -> Ended:
        def done(loop: ReceiveLoop) -> SimpleNamespace:
            loop._socket.close()
            return SimpleNamespace(manifest=make_object(1_000, name=name).manifest)

        monkeypatch.setattr(ReceiveLoop, "run", done)
        return site.receive(endpoint(), script)

    return recv


def test_in_place_without_a_record_it_runs_once(site, in_place):
    site.output.write_bytes(make_object(1_000).data)
    assert phases(in_place("new")) == [("started", 1), ("done", 1)]
    again = in_place("new")
    assert (again.code, phases(again)) == (0, [])
    assert site.attempts == [1]


@pytest.mark.parametrize("change", ["object", "file", "record"])
def test_in_place_it_runs_for_what_the_record_does_not_name(site, in_place, change):
    publication = site.publish("old").start().end()
    record = PublishedRecord(site.output, pytest.fail)
    record.write(publication)
    record.close()
    assert in_place("old").code == 0
    assert site.attempts == []  # it is done
    if change == "file":
        os.utime(site.output, ns=(0, 0))
    elif change == "record":
        site.record.write_text("{}")
    ended = in_place("new" if change == "object" else "old")
    assert (ended.code, phases(ended)) == (0, [("started", 1), ("done", 1)])
    assert site.publication().name == ("new" if change == "object" else "old")


def test_in_place_what_was_done_at_the_start_does_not_run_again(site, in_place):
    site.publish("old", attempts=3)
    ended = in_place("old")
    assert (ended.code, phases(ended)) == (0, [("started", 4), ("done", 4)])


def test_in_place_what_failed_at_the_start_fails_without_running_again(site, in_place):
    site.publish("old")
    ended = in_place("old", "exit 5")
    assert ended.code == 8
    assert "exit code 5" in ended.error
    assert phases(ended) == [("started", 1), ("failed", 1)]
    other = in_place("new", "test $PGMLITE_ATTEMPT = 1")
    assert other.code == 0
    assert phases(other) == [("started", 2), ("failed", 2), ("started", 1), ("done", 1)]


def test_a_hook_that_another_receiver_runs_is_left_to_it(site, in_place, monkeypatch):
    monkeypatch.setattr("pgmlite.cli.hook.PATIENCE", 0)
    site.publish("old")
    other = PublishedRecord(site.output, pytest.fail)
    assert other.read()
    ended = in_place("old")
    assert ended.code == 8
    assert "another receiver" in ended.error
    assert phases(ended) == []
    other.close()
    assert in_place("old").code == 0
    assert site.attempts == [1]


def test_what_another_receiver_published_meanwhile_keeps_its_record(site, in_place):
    site.publish("old")
    fresh = site.folder / "fresh"
    script = f"cp out.pgmlite {fresh}; mv {fresh} out.pgmlite"
    assert in_place("old", script).code == 0
    assert site.publication().phase is Phase.STARTED


def test_a_record_that_can_not_be_written_keeps_the_hook_from_running(site, in_place, monkeypatch):
    site.publish("old")
    monkeypatch.setattr("pgmlite.storage.record.PublishedRecord.write", _no_space)
    ended = in_place("old")
    assert ended.code == 8
    assert "No space" in ended.error
    assert site.attempts == []


def _no_space(record: PublishedRecord, publication: Publication) -> None:
    raise DiskError(f"record {record.path}: No space left on device")


def test_a_hook_whose_end_can_not_be_recorded_is_done_all_the_same(site, in_place, monkeypatch):
    site.publish("old")
    write = PublishedRecord.write

    def no_end(record: PublishedRecord, publication: Publication) -> None:
        (_no_space if publication.phase is Phase.DONE else write)(record, publication)

    monkeypatch.setattr("pgmlite.storage.record.PublishedRecord.write", no_end)
    ended = in_place("old")
    assert ended.code == 0
    assert any("No space" in line for line in ended.stderr)
    assert site.publication().phase is Phase.STARTED
