"""A receiver that follows: many objects, kills, power cuts, on the loopback interface.

    python -m tests.bench.follow [OBJECTS [KILLS [CUTS [SEED]]]]

First 200 objects, one after the other, each announced for a while after it is in place, together
with the one before it: what is fetched, how often the command runs, how long a round takes, and how
large the process is. Then objects while the receiver is killed, 40 times, at whatever it is doing;
and then, as root, 20 power cuts: a copy of the disk as it is at that instant, on which the next
receiver goes on. After a kill or a cut the command may run once more, if the record that was left
says that it had not ended. In capitals is what must never be; then the exit code is 1.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from pgmlite.storage.record import Phase, parse
from tests.support import disks
from tests.support.builders import Sample, make_object
from tests.support.disks import Disk, clone, sh, workshop
from tests.support.following import SYMBOL, Air, Site, is_of
from tests.support.loopback import Running

SMALL, LARGE = 20_000, 400_000
"""Bytes of objects: of those that are counted, and of those during which there is a kill."""

IDLE = 200
"""Packets that are sent of what is in place."""

LATEST = 0.6
"""Seconds from the start of a transfer to a kill."""

BOOT_ID = "/proc/sys/kernel/random/boot_id"

names = itertools.count()


def new_object(size: int) -> Sample:
    """Return an object that was never there."""
    number = next(names)
    return make_object(size, symbol_size=SYMBOL, seed=number, name=f"o{number}")


def wait_for_hook(follower: Running, sample: Sample) -> None:
    """Wait until the command for an object is done, in this process or one before it."""
    follower.event("hook", lambda event: is_of(sample)(event) and event["phase"] == "done")


def idle(air: Air) -> None:
    """Let what is announced be heard for a while."""
    end = air.sent + IDLE
    while air.sent < end:
        time.sleep(0.002)


def many(folder: Path, count: int) -> Counter[str]:
    """Follow so many objects in one process; return what was wrong."""
    site, wrong = Site(folder), Counter[str]()
    sizes: list[int] = []
    seconds = 0.0
    before: list[Sample] = []
    total = 0
    with Air(site.place) as air, site.follow("--on-complete", site.hook()) as follower:
        follower.event("start")
        for _ in range(count):
            sample = new_object(SMALL)
            total += sample.manifest.symbols
            began = time.monotonic()
            air.send(*before, sample)
            wait_for_hook(follower, sample)
            seconds += time.monotonic() - began
            idle(air)
            before = [sample]
            sizes.append(follower.memory_kib())
            if site.output.read_bytes() != sample.data:
                wrong["OTHER BYTES"] += 1
        ended = follower.stop()
    hooks = Counter(site.hooked)
    fetched = ended.last["fetched"]
    if set(hooks.values()) != {1} or len(hooks) != count:
        wrong["NOT ONCE EACH"] += 1
    if fetched != total:
        wrong["FETCHED AGAIN"] += fetched - total
    if sizes[-1] > sizes[count // 4] + 2_048:
        wrong["GROWS"] += 1
    if ended.code:
        wrong["CODE"] += 1
    print(
        f"{count} objects: {len(hooks)} commands, {sum(hooks.values()) - len(hooks)} more than one "
        f"each; {fetched} symbols fetched of {total}, {fetched - total} for what was in place; "
        f"{seconds / count:.3f} s from the first packet to the end of the command; "
        f"{sizes[count // 4] / 1024:.1f} MiB after a quarter, {sizes[-1] / 1024:.1f} MiB at the end"
    )
    return wrong


class Interrupted:
    """Objects whose receivers are interrupted, and what became of their commands."""

    def __init__(self, rng: Random) -> None:
        self.found = Counter[str]()
        self._rng = rng
        self._allowed = Counter[str]()
        """Runs of the command beyond the first, by the name of the object."""

    def interrupt(self, follower: Running, sample: Sample) -> None:
        """Kill it at a random moment."""
        follower.event("start")
        follower.event("manifest", is_of(sample))
        time.sleep(self._rng.random() * LATEST)
        follower.say(signal.SIGKILL)

    def look(self, output: Path, allowed: set[bytes]) -> None:
        """Look at what was left."""
        content = output.read_bytes() if output.exists() else b""
        if content not in allowed:
            self.found["OTHER BYTES"] += 1
        record = output.with_name("out.pgmlite")
        if record.exists():
            said = parse(record.read_bytes())
            if said.phase is Phase.STARTED:
                self._allowed[said.name] += 1
                self.found["in a command"] += 1
                return
        self.found["elsewhere"] += 1

    def judge(self, hooked: list[str], count: int) -> None:
        """Compare how often commands ran with how often they should."""
        runs = Counter(hooked)
        self.found["commands"] = len(runs)
        self.found["run again"] = sum(runs.values()) - len(runs)
        if len(runs) != count:
            self.found["NOT RUN"] += count - len(runs)
        for name, times in runs.items():
            if times > 1 + self._allowed[name]:
                self.found["RUN TOO OFTEN"] += 1


def kills(folder: Path, count: int, rng: Random) -> Counter[str]:
    """Kill a receiver in each of so many objects; return what was wrong."""
    site, trial = Site(folder), Interrupted(rng)
    options = ("--on-complete", site.hook("sleep 0.05"))
    last = b""
    with Air(site.place) as air:
        for _ in range(count):
            sample = new_object(LARGE)
            air.send(sample)
            with site.follow(*options) as follower:
                trial.interrupt(follower, sample)
            trial.look(site.output, {last, sample.data})
            with site.follow(*options) as follower:
                settle(follower, site, sample)
                follower.stop()
            last = sample.data
    trial.judge(site.hooked, count)
    print(f"{count} kills: {dict(sorted(trial.found.items()))}")
    return trial.found


def settle(follower: Running, site: Site, sample: Sample) -> None:
    """Wait until the command for an object is done, whoever saw that."""
    record = site.output.with_name("out.pgmlite")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            said = parse(record.read_bytes())
            if said.oid == sample.manifest.oid and said.phase is Phase.DONE:
                return
        time.sleep(0.01)
    raise AssertionError(f"{sample.manifest.name} was not done: {follower.end().stderr}")


@contextlib.contextmanager
def next_boot(folder: Path, number: int) -> Iterator[None]:
    """Let programs believe that the machine was started anew."""
    file = folder / "boot_id"
    file.write_text(f"00000000-0000-4000-8000-{number:012x}\n")
    sh("mount", "--bind", file, BOOT_ID)
    try:
        yield
    finally:
        sh("umount", BOOT_ID)


def cuts(count: int, rng: Random) -> Counter[str]:
    """Cut the power in each of so many objects; return what was wrong."""
    trial = Interrupted(rng)
    with workshop() as memory, Disk(memory / "host", memory / "shop", "xfs", size=4 << 30) as host:
        shop = host.folder
        site = Site(shop)
        site.output, site.state = shop / "disk" / "d" / "out", shop / "disk" / "state"
        options = ("--on-complete", site.hook("sleep 0.05"))
        disk = Disk(shop / "image", shop / "disk", "ext4")
        site.output.parent.mkdir()
        sh("sync", "-f", disk.folder)
        last = b""
        with Air(site.place) as air:
            for number in range(count):
                sample = new_object(LARGE)
                air.send(sample)
                with next_boot(shop, 2 * number), site.follow(*options) as follower:
                    follower.event("manifest", is_of(sample))
                    time.sleep(rng.random() * LATEST)
                    follower.say(signal.SIGSTOP)  # what it began after the cut would count
                    clone(disk.image, shop / "cut")
                disk.unmount()
                os.replace(shop / "cut", disk.image)
                disk.mount()
                trial.look(site.output, {last, sample.data})
                with next_boot(shop, 2 * number + 1), site.follow(*options) as follower:
                    settle(follower, site, sample)
                    follower.stop()
                last = sample.data
        trial.judge(site.hooked, count)
        disk.unmount()
    print(f"{count} power cuts: {dict(sorted(trial.found.items()))}")
    return trial.found


def main(objects: int = 200, killed: int = 40, cut: int = 20, seed: int = 1) -> int:
    """Follow; return 1 if something was wrong."""
    rng, found = Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("many", "kills"):
            (Path(folder) / name).mkdir()
        if objects:
            found += many(Path(folder) / "many", objects)
        if killed:
            found += kills(Path(folder) / "kills", killed, rng)
    if cut:
        if why := disks.missing("ext4"):
            print(f"no power cuts: {why}")
        else:
            found += cuts(cut, rng)
    wrong = {name: count for name, count in found.items() if name.isupper()}
    print("wrong:", wrong or "nothing")
    return int(bool(wrong))


if __name__ == "__main__":
    if not os.geteuid():
        disks.seclude()
    sys.exit(main(*map(int, sys.argv[1:])))
