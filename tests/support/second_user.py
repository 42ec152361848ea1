"""A second user who may write to the folder of the output, and a receiver that he bothers."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.support.loopback import PATIENCE, Ended, Endpoint, Inside

SECOND_USER = 65_534
THIRD_USER = 1
SIZE = 20_000

STICKY, OPEN = 0o1777, 0o777
HANDS = f"""
import json, os, sys, threading  # before it can't read them any more
os.setgroups([]); os.setgid({SECOND_USER}); os.setuid({SECOND_USER}); os.umask(0)
for line in sys.stdin:
    try:
        exec(json.loads(line), globals())
        print(flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


class SecondUser:
    """A process of another user, which does what it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", HANDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._says, self._hears = self._process.stdin, self._process.stdout

    def tries(self, code: str) -> str:
        """Run statements; return the error that ended them, or an empty string."""
        print(json.dumps(code), file=self._says, flush=True)
        answer = self._hears.readline()
        assert answer, "the statements are wrong"
        return answer.strip()

    def does(self, code: str) -> None:
        """Run statements, which he is able to."""
        assert self.tries(code) == ""

    def close(self) -> None:
        self._says.close()
        self._hears.close()
        self._process.wait(PATIENCE)


class Scene:
    """A folder for all, a file of a third user's elsewhere, and a receiver."""

    def __init__(
        self, base: Path, user: SecondUser, inside: Inside, carousel: tuple[Path, Endpoint]
    ) -> None:
        base.chmod(0o711)
        self.folder = base / "folder"
        self.folder.mkdir()
        self.elsewhere = base / "elsewhere"
        self.elsewhere.mkdir(0o700)
        self.output = self.folder / "out"
        self.victim = self.elsewhere / "victim"
        self.victim.write_bytes(b"precious")
        self.victim.chmod(0o640)
        os.chown(self.victim, THIRD_USER, THIRD_USER)
        self._inside = inside
        self._source, self._place = carousel
        self.user = user
        user.does(f"os.chdir({str(self.folder)!r})")

    @property
    def right(self) -> bytes:
        """The announced object."""
        return self._source.read_bytes()

    def at(self, suffix: str) -> Path:
        """Return a path beside the output."""
        return self.output.with_name(self.output.name + suffix)

    def fill(self, suffix: str, content: bytes) -> None:
        """Write what is in a file that he made; he has it open, and could."""
        # Where fs.protected_regular is on, not even root may open it as one that may be new.
        with self.at(suffix).open("r+b") as file:
            file.truncate()
            file.write(content)

    def lay(self, kind: str, path: Path) -> None:
        """Put something in the receiver's way, as the second user where the system lets him."""
        name = repr(path.name)
        match kind:
            case "file":
                self.user.does(f"open({name}, 'wb').write(b'evil' * {SIZE // 4})")
            case "fifo":
                self.user.does(f"os.mkfifo({name}, 0o666)")
            case "folder":
                self.user.does(f"os.mkdir({name}, 0o777)")
            case "link":
                self.user.does(f"os.symlink({str(self.victim)!r}, {name})")
            case "link to nothing":
                nowhere = self.elsewhere / "new"
                self.user.does(f"os.symlink({str(nowhere)!r}, {name})")
            case "hard link":  # he could, where fs.protected_hardlinks is 0
                os.link(self.victim, path)

    def receive(self) -> Ended:
        """Run a receiver to its end."""
        with limit(PATIENCE):
            return self._inside.receive(self.output, self._place, *self._hook)

    def start_without_network(self) -> Ended:
        """Run a receiver that has nothing to go by but what lies there."""
        with limit(PATIENCE):
            nowhere = ("-g", "239.1.2.3", "-i", "nosuch0")
            return self._inside("recv", "-o", self.output, *nowhere, *self._hook)

    @property
    def _hook(self) -> tuple[str, str]:
        look = f'cat "$1" >> {self.elsewhere / "seen"}'
        return "--on-complete", shlex.join(["sh", "-c", look, "sh"])

    @property
    def seen(self) -> bytes:
        """What the command saw."""
        with contextlib.suppress(FileNotFoundError):
            return (self.elsewhere / "seen").read_bytes()
        return b""

    def judge(self, ended: Ended, before: bytes | None = None, named: Path | None = None) -> None:
        """Assert that the receiver did right, or nothing.

        Args:
            before: What the output was.
            named: What the error has to name.
        """
        if ended.code == 0:
            assert self.output.read_bytes() == self.right
            status = self.output.lstat()
            assert stat.S_ISREG(status.st_mode)
            assert status.st_uid == os.geteuid()
            assert self.user.tries("open('out', 'r+')") == "PermissionError"
            assert self.seen == self.right
        else:
            assert ended.code == 7, ended.stderr
            assert str(named or self.folder) in ended.error
            assert self.seen == b""
            if before is None:
                assert not self.output.exists()
            else:
                assert self.output.read_bytes() == before
        self.check_victim()

    def check_victim(self) -> None:
        """Assert that the third user's file is what it was."""
        status = self.victim.lstat()
        assert self.victim.read_bytes() == b"precious"
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert (status.st_uid, status.st_gid) == (THIRD_USER, THIRD_USER)
        assert {one.name for one in self.elsewhere.iterdir()} <= {"victim", "seen"}


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Fail what waits for ever, such as for the writer of a FIFO."""

    def late(number: int, frame: FrameType | None) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
