"""Folders sent and received, beside the same by ``tar`` and pipes, over the loopback interface.

    python -m tests.bench.folders [FILES [MIB [FOLDER]]]

A folder of FILES small files, 10 000 by default, with links and modes, and one of a large file of
MIB, 1024 by default, are each sent to ``recv -o DIR/``, and by ``tar | pgmlite send -`` to
``recv -o - | tar x``. What came is compared by ``diff`` and ``find``. Prints the seconds until what
was sent is ready, those that receiving took in all, and the peak memory of sender and receiver; and
the same for a receiver that finds the folder in place. FOLDER is where the folders are, by default
that of temporary files. If anything differs the exit code is 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.support.loopback import COMMAND, Endpoint, Running, endpoint, environment

RATE = "1G"
LIMIT = 900.0
FIND = r"%P %y %m %U:%G %n %l %Ts\n"
IN_FOLDER = 100


def make(folder: Path, files: int, mib: int) -> Path:
    """Make the folder; its bytes compress no better than those of programs."""
    random = Random(7)
    folder.mkdir()
    for number in range(files):
        place = folder / f"d{number // IN_FOLDER % 17}" / str(number // IN_FOLDER)
        if number % IN_FOLDER == 0:
            place.mkdir(parents=True)
        path = place / f"file-{number}.conf"
        path.write_bytes(random.randbytes(random.randrange(6_000)))
        path.chmod(random.choice((0o644, 0o600, 0o755)))
        if number % 50 == 0:
            (place / f"link-{number}").symlink_to(path.name)
    if mib:
        with (folder / "large.img").open("wb") as file:
            for _ in range(mib):
                file.write(random.randbytes(1 << 20))
    return folder


def equal(one: Path, other: Path) -> bool:
    """Whether two folders are the same to other tools."""
    same = subprocess.run(["diff", "-r", "--no-dereference", one, other], check=False)
    printed = [_printed(folder) for folder in (one, other)]
    return not same.returncode and printed[0] == printed[1]


def _printed(folder: Path) -> list[bytes]:
    command = ["find", ".", "-printf", FIND]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return sorted(done.stdout.split(b"\n"))


@dataclass(frozen=True)
class Took:
    """Seconds and KiB."""

    ready: float
    receiving: float
    sender: int
    receiver: int

    def __str__(self) -> str:
        return (
            f"ready {self.ready:6.1f} s, received {self.receiving:6.1f} s, "
            f"memory {self.sender / 1024:5.0f} and {self.receiver / 1024:5.0f} MiB"
        )


def as_folder(tree: Path, output: Path, place: Endpoint) -> Took:
    """Send and receive it as a folder."""
    began = time.monotonic()
    with Running("send", tree, *place.flags, "-r", RATE, "--json") as sender:
        sender.event("start", limit=LIMIT)
        ready = time.monotonic() - began
        began = time.monotonic()
        with Running("recv", "-o", f"{output}/", *place.flags, "--json") as receiver:
            while receiver.is_running:
                receiver.memory_kib()
                time.sleep(0.02)
            took = time.monotonic() - began
            ended = receiver.end(LIMIT)
            assert not ended.code, ended
            receiving = receiver.peak_kib
        sender.memory_kib()
        return Took(ready, took, sender.peak_kib, receiving)


def as_pipe(tree: Path, output: Path, place: Endpoint) -> Took:
    """Send and receive it through pipes."""
    output.mkdir()
    began = time.monotonic()
    pack = subprocess.Popen(["tar", "-cf", "-", "-C", tree, "."], stdout=subprocess.PIPE)
    with Running(
        "send", "-", *place.flags, "-r", RATE, "--json", "--order", "blocks", "--start", "0/1",
        stdin=pack.stdout,
    ) as sender:  # fmt: skip
        sender.event("start", limit=LIMIT)
        pack.wait()
        ready = time.monotonic() - began
        began = time.monotonic()
        receiver = subprocess.Popen(
            [*COMMAND, "recv", "-o", "-", *place.flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        unpack = subprocess.Popen(["tar", "-xpf", "-", "-C", output], stdin=receiver.stdout)
        assert receiver.stdout
        receiver.stdout.close()
        peak = 0
        while receiver.poll() is None:
            peak = max(peak, peak_kib(receiver.pid))
            time.sleep(0.02)
        code = unpack.wait() or receiver.returncode
        os.sync()  # as the other way has it
        took = time.monotonic() - began
        assert not code
        sender.memory_kib()
        return Took(ready, took, sender.peak_kib, peak)


def peak_kib(pid: int) -> int:
    """Return the highest memory of a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), default=0)


def main(files: int, mib: int, where: str | None) -> int:
    """Run it."""
    bad = 0
    with tempfile.TemporaryDirectory(dir=where) as name:
        room = Path(name)
        for what, parts in (("small files", (files, 0)), ("large file", (0, mib))):
            tree = make(room / "tree", *parts)
            size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file())
            print(f"{what}: {parts[0] or 1} files, {size >> 20} MiB")
            place = endpoint()
            for how, run in (("DIR/", as_folder), ("tar | - | tar", as_pipe)):
                took = run(tree, room / "out", place)
                is_right = equal(tree, room / "out")
                bad += not is_right
                print(f"  {how:14} {took}{'' if is_right else '  DIFFERS'}")
                if run is as_folder:
                    again = as_folder(tree, room / "out", place)
                    print(f"  {'in place':14} {again}")
                shutil.rmtree(room / "out")
                place = endpoint()
            shutil.rmtree(tree)
    return bool(bad)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        main(
            int(arguments[0]) if arguments else 10_000,
            int(arguments[1]) if arguments[1:] else 1_024,
            arguments[2] if arguments[2:] else None,
        )
    )
