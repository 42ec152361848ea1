"""A loop device that is imaged by receivers which are killed, on the loopback interface.

    python -m tests.bench.device_kills [COUNT [SEED [SIZE]]]

COUNT receivers, 20 by default, take one object of SIZE bytes, 24 MiB by default, lose 3% of it,
write it to one device and are killed at a random instant; the last one goes on to the end. All the
time every byte of the device is read: it must be what was there before, or what the object has
there; and as long as anything is missing the block at byte 0 must be the old one. Prints the sums;
if a byte was wrong at any time, or one is at the end, the exit code is 1. Needs root.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from tests.support.disks import loop_device, sh
from tests.support.loopback import (
    PATIENCE,
    Endpoint,
    Running,
    endpoint,
    make_file,
    sending,
)

COUNT, SEED, SIZE = 20, 1, 24 << 20
RATE = 60_000_000
KILLED = 0.12
"""Share of the object after which, newly stored, a receiver is killed, at most."""

CALM = 2.0
"""Seconds in which nothing is stored, after which a receiver is killed as well."""

HEAD = 4_096
"""Bytes that come last of all."""

BEHIND = 1 << 20
"""Bytes of the device behind the object."""


class Watch(threading.Thread):
    """Reads a device all the time.

    Attributes:
        looks: How often it was read.
        wrong: What was wrong, if anything was.
    """

    def __init__(self, device: Path, before: bytes, after: bytes) -> None:
        super().__init__(daemon=True)
        self.looks = 0
        self.wrong: list[str] = []
        self._device = device
        self._old = np.frombuffer(before, np.uint8)
        self._new = np.concatenate((np.frombuffer(after, np.uint8), self._old[len(after) :]))
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self.look()

    def read(self) -> npt.NDArray[np.uint8]:
        """Return the bytes of the device."""
        return np.fromfile(self._device, np.uint8)

    def look(self) -> None:
        """Look at every byte once."""
        found = self.read()
        self.looks += 1
        is_new = found == self._new
        if wrong := np.count_nonzero(~is_new & (found != self._old)):
            self.wrong.append(f"{wrong} bytes are neither old nor new")
        # What is read first may be written a moment later.
        has_head = bool(is_new[:HEAD].all())
        if has_head and not bool((self.read() == self._new).all()):
            self.wrong.append("the first block is there, and another one is not")

    @property
    def done(self) -> float:
        """The share of bytes that are those of the object."""
        return float(np.count_nonzero(self.read() == self._new)) / len(self._new)

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()


def receiving(device: Path, folder: Path, place: Endpoint, seed: int) -> Running:
    """Start a receiver."""
    flags = (*place.flags, "--json", "--timeout", PATIENCE, "--drop", "3%", "--seed", seed)
    env = {"PGMLITE_STATE": str(folder / "state")}
    return Running("recv", "--device", device, "--spool", folder, *flags, env=env)


def main(count: int = COUNT, seed: int = SEED, size: int = SIZE) -> int:
    """Kill receivers; return 1 if anything was wrong."""
    rng = Random(seed)
    with tempfile.TemporaryDirectory(prefix="device-kills-") as name:
        folder = Path(name)
        source = make_file(folder / "source", size, seed=seed)
        image = make_file(folder / "image", (size + BEHIND) // 512 * 512, seed=seed + 1)
        before, place, most = image.read_bytes(), endpoint(), int(KILLED * size)
        # So that blocks are whole all the time.
        flags = ("--order", "blocks", "--start", "0/1", "--block-symbols", 128)
        with loop_device(image) as device, sending(source, place, *flags, rate=str(RATE)) as sender:
            sender.event("start")
            watch = Watch(device, before, source.read_bytes())
            watch.start()
            ended = 0
            for number in range(count):
                with receiving(device, folder, place, number) as receiver:
                    receiver.event("start")
                    wait_for_more(folder, rng.randrange(most), receiver)
                    is_done = not receiver.is_running
                    receiver.say(9)
                    receiver.end()
                print(f"kill {number + 1}: {watch.done:.1%} of the device is as it shall be")
                if is_done:
                    ended += 1
                    restore(device, before)  # once more from the beginning
            with receiving(device, folder, place, count) as receiver:
                last = receiver.end(2 * PATIENCE)
            watch.end()
            watch.look()
            sh("blockdev", "--flushbufs", device)
        after = image.read_bytes()
    if last.code:
        watch.wrong.append(f"the last receiver ended with {last.code}: {last.stderr[-1:]}")
    if after != source_and_rest(size, seed, before):
        watch.wrong.append("at the end the device is not as it shall be")
    for text in sorted(set(watch.wrong)):
        print(f"WRONG: {text} ({watch.wrong.count(text)} times)")
    print(
        f"{count} kills, {ended} of them too late; {watch.looks} looks at {len(before)} bytes, "
        f"{len(watch.wrong)} wrong; at the end {last.last.get('event')}"
    )
    return int(bool(watch.wrong))


def restore(device: Path, before: bytes) -> None:
    """Write what was there, from byte 0 on."""
    with device.open("r+b", 0) as file:
        file.write(before)


def stored(folder: Path) -> int:
    """Return the bytes that lie in the partial file."""
    return sum(one.stat().st_blocks * 512 for one in folder.glob("*.part"))


def wait_for_more(folder: Path, count: int, receiver: Running) -> None:
    """Wait until so many bytes more are stored, or nothing is for a while, or it has ended."""
    first = latest = stored(folder)
    since = time.monotonic()
    while latest < first + count and receiver.is_running and time.monotonic() < since + CALM:
        time.sleep(0.01)
        before, latest = latest, stored(folder)
        if latest > before:
            since = time.monotonic()


def source_and_rest(size: int, seed: int, before: bytes) -> bytes:
    """Return what the device shall have."""
    return Random(f"{seed}/{size}").randbytes(size) + before[size:]


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
