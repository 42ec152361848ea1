"""What it takes to send a folder, beside `tar` and a pipe: time to the first packet, and memory.

    python -m tests.bench.folders [FILES [GIGABYTES]]

The folder has that many small files, 10 000 by default, in folders of a hundred, with a symbolic
link and a mode of their own here and there, and one file of 1 GiB. Sent over the loopback
interface; both ways copy into the spool, hash, and send. Each way is taken three times, the pages
of the files being in memory; the least counts. Prints what the largest resident memory was, of all
processes of a way together, and what `tar` makes of the archive: equal, or what differs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

from pgmlite.storage.spooled import open_source
from tests.support.loopback import Running, endpoint, make_file

RUNS = 3
PIECE = 1 << 20


def make_folder(folder: Path, files: int, gigabytes: float) -> Path:
    """Make the folder."""
    draw = Random(1)
    folder.mkdir()
    for number in range(files):
        inside = folder / f"part-{number // 100:04}"
        inside.mkdir(exist_ok=True)
        path = inside / f"file-{number:06}.dat"
        path.write_bytes(draw.randbytes(draw.randint(0, 8_000)))
        path.chmod(draw.choice((0o644, 0o600, 0o755, 0o440)))
        if not number % 50:
            (inside / f"link-{number}").symlink_to(f"../{inside.name}/{path.name}")
    large = make_file(folder / "large", PIECE).read_bytes()
    with (folder / "large").open("wb") as file:
        for _ in range(int(gigabytes * 1024)):
            file.write(large)
    return folder


def by_itself(folder: Path) -> tuple[float, int]:
    """Send the folder; return the seconds to the first packet, and KiB."""
    began = time.monotonic()
    with Running("send", folder, *endpoint().flags, "--json") as sender:
        return _first_packet(sender, began)


def by_tar(folder: Path) -> tuple[float, int]:
    """Send what `tar` makes of it; the same."""
    began = time.monotonic()
    with ExitStack() as opened:
        tar = subprocess.Popen(["tar", "-C", folder, "-cf", "-", "."], stdout=subprocess.PIPE)
        opened.enter_context(tar)
        assert tar.stdout
        flags = (*endpoint().flags, "--json")
        sender = opened.enter_context(Running("send", "-", *flags, stdin=tar.stdout.fileno()))
        return _first_packet(sender, began)


def _first_packet(sender: Running, began: float) -> tuple[float, int]:
    sender.event("start", limit=600)
    seconds = time.monotonic() - began
    sender.memory_kib()
    return seconds, sender.peak_kib


def differences(folder: Path, scratch: Path) -> str:
    """Return how the folder differs from what `tar` unpacks of its archive."""
    source = open_source(folder, scratch)
    out = scratch / "out"
    out.mkdir()
    unpack = subprocess.Popen(["tar", "-xpf", "-", "-C", out], stdin=subprocess.PIPE)
    assert unpack.stdin
    memory = memoryview(bytearray(PIECE))
    for at in range(0, source.size, PIECE):
        piece = memory[: min(PIECE, source.size - at)]
        source.read_into(piece, at)
        unpack.stdin.write(piece)
    unpack.stdin.close()
    source.close()
    assert not unpack.wait()
    facts = "%P %y %m %U %G %Ts %l\n"  # whole seconds are kept
    listed = [
        subprocess.run(["find", one, "-printf", facts], capture_output=True, check=True).stdout
        for one in (folder, out)
    ]
    if sorted(listed[0].splitlines()) != sorted(listed[1].splitlines()):
        return "names, kinds, modes, owners, times or links differ"
    compared = subprocess.run(
        ["diff", "-rq", "--no-dereference", folder, out], capture_output=True, check=False
    )
    return compared.stdout.decode() or f"equal, {len(listed[0].splitlines())} members"


def main() -> None:
    """Print the figures."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    gigabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR") or "/var/tmp") as name:
        folder = make_folder(Path(name) / "folder", files, gigabytes)
        ways: dict[str, Callable[[Path], tuple[float, int]]] = {
            "send DIR": by_itself,
            "tar | send -": by_tar,
        }
        for way, run in ways.items():
            runs = [run(folder) for _ in range(RUNS)]
            seconds, kib = min(one for one, _ in runs), max(one for _, one in runs)
            print(f"{way:<14}{seconds:8.2f} s to the first packet{kib / 1024:8.0f} MiB", flush=True)
        print(f"another tar: {differences(folder, Path(name))}")


if __name__ == "__main__":
    main()
