"""Commands under supervision: what they get, and that nothing is left of them."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import Interrupted
from pgmlite.net import keeper
from pgmlite.net.hook import Command, Ending, supervise
from pgmlite.net.waiting import Stop
from tests.support.hooks import is_alive
from tests.support.loopback import PATIENCE, until
from tests.support.loops import Until, to_the_end

SH = "/bin/sh"
LONG = 20 * SECOND

# A script gets the path as $1.


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
        waits = supervise(
            command,
            self.folder / "the path",
            {"PGMLITE_NAME": "größe".encode()},
            timeout=timeout,
            lock=self.lock,
            grace=grace,
        )
        return to_the_end(waits, stop)

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
    assert "its time limit" in str(ending)
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
