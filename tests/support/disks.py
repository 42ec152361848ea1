"""File systems of our own, in images behind loop devices: disks that fill up, fail, lose power.

Needs root. Programs that use them run in a mount namespace of their own (`seclude`): whatever ends
them, no mount and no loop device outlives them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
    "btrfs": ("mkfs.btrfs", "-q", "-f", "-K"),
}
"""File systems, and how they are made."""

SIZE = 384 * MIB
"""Bytes of an image: all of them want no less."""

FICLONE = 0x4004_9409
"""ioctl: share all of another file's bytes (linux/fs.h)."""

SECLUDED = "PGMLITE_TEST_SECLUDED"


class CommandFailed(Exception):
    """A command failed; the message has its words."""


def sh(*command: object) -> str:
    """Run a command to its end, which must be a good one; return what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise CommandFailed(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@functools.cache
def missing(system: str) -> str:
    """Return what keeps this machine from having such a disk, as a sentence; empty: nothing."""
    if os.geteuid():
        return "Disks of our own need root."
    tools = ("unshare", "mount", "umount", "losetup", MAKE[system][0])
    if absent := [tool for tool in tools if not shutil.which(tool)]:
        return f"Disks of our own need these tools: {', '.join(absent)}."
    probe = f"from tests.support import disks; disks.seclude(); disks.probe({system!r})"
    done = secluded("-c", probe)
    return f"No {system} can be mounted: {done.stderr.strip()[-300:]}" if done.returncode else ""


def secluded(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments; it secludes itself."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def probe(system: str) -> None:
    """Mount a disk once."""
    with workshop() as folder, Disk(folder / "image", folder / "disk", system):
        pass


def seclude() -> None:
    """Begin this program again in a mount namespace of its own, unless it is in one."""
    if os.environ.get(SECLUDED) == str(os.getpid()):
        return
    os.environ[SECLUDED] = str(os.getpid())  # `unshare` and Python keep the process
    os.execvp("unshare", ["unshare", "--mount", *_this_program()])


def _this_program() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


@contextlib.contextmanager
def workshop(options: str = "size=90%") -> Iterator[Path]:
    """Return an empty folder in memory."""
    folder = Path(sh("mktemp", "-d"))
    sh("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        sh("umount", "-l", folder)
        folder.rmdir()


def clone(image: Path, to: Path) -> Path:
    """Copy an image as it is at this instant, on a file system that can."""
    with image.open("rb") as source, to.open("wb") as copy:
        fcntl.ioctl(copy, FICLONE, source.fileno())
    return to


@contextlib.contextmanager
def loop_device(image: Path, *options: str) -> Iterator[Path]:
    """Have an image as a block device."""
    device = Path(sh("losetup", "--find", "--show", *options, image))
    try:
        yield device
    finally:
        sh("losetup", "--detach", device)


class Disk(contextlib.AbstractContextManager["Disk"]):
    """A file system in an image, mounted while the context lasts.

    Attributes:
        image: Its bytes.
        folder: Where it is mounted.
    """

    def __init__(self, image: Path, folder: Path, system: str, *, size: int = SIZE) -> None:
        """
        Args:
            image: Made with `size` bytes, if it is not there.
        """
        self.image, self.folder, self.system = image, folder, system
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(size)
            sh(*MAKE[system], image)
        folder.mkdir(exist_ok=True)
        self.mount()

    def mount(self) -> None:
        """Mount it; the loop device goes when it is mounted no more."""
        options = "loop,nouuid" if self.system == "xfs" else "loop"
        sh("mount", "-t", self.system, "-o", options, self.image, self.folder)

    def unmount(self) -> None:
        """Unmount it; what the system had in memory of it is gone."""
        sh("umount", self.folder)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(CommandFailed):
            sh("umount", "-l", self.folder)
