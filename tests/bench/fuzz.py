"""Fuzzing by coverage, for as long as you like: parsers, machines, replay.

    python -m tests.bench.fuzz [SECONDS] [TARGET...]

Uses atheris where it is installed (pip install atheris), and for a fifth of the time, or all of it,
blind mutations of the same seeds: there memory is ours alone, while atheris keeps books of its own.
Each target runs in processes of its own for its share of the time. Prints inputs and the growth of
memory; an input that fails stays in the file named last, and the exit code is 1.
"""

from __future__ import annotations

import importlib.util
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

TARGETS = ("packet", "rows", "receiver", "repairer", "replay", "capture", "tiles", "trust", "pglm")
LARGEST = {
    "packet": 2_000,
    "rows": 4_000,
    "receiver": 8_000,
    "repairer": 4_000,
    "replay": 12_000,
    "capture": 12_000,
    "tiles": 40_000,
    "trust": 20_000,
    "pglm": 20_000,
}


def by_coverage(name: str, seconds: float, corpus: str) -> None:
    """Let atheris look for new paths; never returns."""
    import atheris

    with atheris.instrument_imports(include=["pgmlite"]):
        from tests.support.fuzz_targets import TARGETS as TARGETS_OF
        from tests.support.fuzz_targets import seeds
    for number, seed in enumerate(seeds(name)):
        (Path(corpus) / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={seconds:.0f}",
        f"-max_len={LARGEST[name]}",
        "-print_final_stats=1",
        "-timeout=900",
        "-report_slow_units=900",
        "-rss_limit_mb=1024",
    ]
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS_OF[name])
    atheris.Fuzz()


def blindly(name: str, seconds: float) -> None:
    """Change seeds at random."""
    from tests.support.fuzz_targets import TARGETS as TARGETS_OF
    from tests.support.fuzz_targets import seeds

    rng, pool, count = Random(time.time_ns()), seeds(name), 0
    end, settled = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = bytearray(rng.choice(pool))
        for _ in range(rng.randrange(1, 8)):
            if data:
                data[rng.randrange(len(data))] = rng.choice(
                    (0, 1, 127, 128, 255, rng.randrange(256))
                )
        del data[rng.randrange(len(data) + 1) if rng.random() < 0.1 else len(data) :]
        try:
            TARGETS_OF[name](bytes(data))
        except BaseException:
            Path("crash-input").write_bytes(data)
            raise
        count += 1
        if count == 100:
            settled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"stat::number_of_executed_units: {count}")
    print(f"grew by {(peak - settled) >> 10} MB to {peak >> 10} MB after the first hundred")


def main(arguments: list[str]) -> int:
    """Run the targets one after the other."""
    seconds = float(arguments[0]) if arguments else 60.0
    names = arguments[1:] or list(TARGETS)
    total, failed = 0, False
    with_atheris = importlib.util.find_spec("atheris") is not None
    ways = {"--coverage": 0.8, "--blind": 0.2} if with_atheris else {"--blind": 1.0}
    for name in names:
        for way, share in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                limit = str(seconds / len(names) * share)
                call = [sys.executable, __file__, way, name, limit, folder]
                done = subprocess.run(call, capture_output=True, text=True)
            said = done.stdout + done.stderr
            count = int((re.findall(r"number_of_executed_units: *(\d+)", said) or ["0"])[0])
            memory = (re.findall(r"grew by .*", said) or [""])[0]
            total += count
            verdict = "no exception" if not done.returncode else "FAILED"
            print(f"{name} {way[2:]}: {count} inputs, {verdict}, {memory}".rstrip(", "), flush=True)
            if done.returncode:
                failed = True
                print(said[-4_000:])
    print(f"{total} inputs in all")
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--coverage"]:
        by_coverage(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] == ["--blind"]:
        blindly(sys.argv[2], float(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
