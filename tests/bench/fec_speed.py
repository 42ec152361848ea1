"""What encoding and decoding cost, beside BLAKE3 of the same block, and how long others wait.

    python -m tests.bench.fec_speed [SYMBOL_SIZE]

prints CPU times of one core, the best of some, all taken in turn in one process; then the gaps of a
loop of 0.5 ms while another thread decodes. Symbols of 1404 bytes by default. Less than a minute.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pgmlite.fec import decode as decoding
from pgmlite.fec.decode import Solution, decode, solve
from pgmlite.fec.encode import encode, parities
from pgmlite.fec.locate import locate
from pgmlite.wire.digests import digest

Symbols = npt.NDArray[np.uint8]

SHARES = (0.002, 0.01, 0.05, 0.1, 0.2, 0.33, 0.5, 1.0)
TIMES = 12
"""How often each is timed."""


def best(*works: Callable[[], object]) -> list[float]:
    """Return the CPU time of each work in ms, the least of some times in turn."""
    found = [float("inf")] * len(works)
    for _ in range(TIMES):
        for number, work in enumerate(works):
            began = time.thread_time()
            work()
            found[number] = min(found[number], (time.thread_time() - began) * 1_000)
    return found


def solved_anew(k: int, esis: npt.NDArray[np.int64]) -> Solution:
    """Return a solution that no other call has left behind."""
    decoding.inverse_of.cache_clear()
    return solve(k, esis)


def received(
    rng: np.random.Generator, source: Symbols, share: float
) -> tuple[npt.NDArray[np.int64], Symbols]:
    """Return ESIs and symbols that are held when a share of the source symbols is missing."""
    k = len(source)
    lost = max(1, round(k * share))
    while True:
        repairs = k + rng.permutation(max(k // 2, 64, lost + 10))[: lost + 3]
        esis = np.concatenate((rng.permutation(k)[lost:], repairs))
        if not solve(k, esis).lacks:
            return esis, encode(source, esis)


def decoding_line(rng: np.random.Generator, source: Symbols, share: float) -> None:
    """Print what it costs to decode a block of which a share is missing."""
    k, size = source.shape
    esis, symbols = received(rng, source, share)
    solution = solve(k, esis)
    hashed, rank, rest, whole = best(
        lambda: digest(memoryview(source)),
        lambda: solved_anew(k, esis),
        lambda: decode(solution, symbols),
        lambda: decode(solved_anew(k, esis), symbols),
    )
    assert (decode(solution, symbols) == source[solution.missing]).all()
    print(
        f"{k:>5}{share:>8.1%}{rank:>8.2f}{rest:>9.2f}{whole:>9.2f}"
        f"{k * size * 8e-6 / whole:>8.2f}{whole / hashed:>8.1f}{rest / hashed:>8.1f}",
        flush=True,
    )


def encoding_line(source: Symbols, count: int) -> None:
    """Print what it costs to make so many repair symbols, with parities that are kept."""
    k, size = source.shape
    kept = parities(source)
    esis = k + np.arange(count)
    hashed, took = best(lambda: digest(memoryview(source)), lambda: encode(source, esis, kept))
    rate = count * size * 8e-6 / took
    print(f"{k:>5}{count:>8}{took:>8.2f}{rate:>8.2f}{took / hashed:>8.1f}", flush=True)


def gaps(work: Callable[[], object] | None, seconds: float = 3.0) -> str:
    """Return how late a loop of 0.5 ms is, while another thread works."""
    ended = threading.Event()
    times = 0

    def repeat() -> None:
        nonlocal times
        while work and not ended.is_set():
            work()
            times += 1

    thread = threading.Thread(target=repeat)
    thread.start()
    took = []
    last = time.perf_counter()
    until = last + seconds
    while last < until:
        time.sleep(0.0005)
        now = time.perf_counter()
        took.append((now - last) * 1_000)
        last = now
    ended.set()
    thread.join()
    half, most, longest = np.percentile(took, [50, 99, 100])
    return f"{half:>8.2f}{most:>8.2f}{longest:>8.2f}{times / seconds:>8.0f}"


def gap_lines(rng: np.random.Generator, source: Symbols) -> None:
    """Print the gaps beside nothing, beside hashing, which needs no interpreter, and decoding."""
    print("\ngaps of a loop of 0.5 ms, in ms: median, 99%, longest; blocks a second beside it")
    print(f"{'beside nothing':<28}{gaps(None)}", flush=True)
    print(f"{'hashing':<28}{gaps(lambda: digest(memoryview(source)))}", flush=True)
    for share in (0.05, 0.33, 1.0):
        esis, symbols = received(rng, source, share)
        found = gaps(lambda e=esis, s=symbols: decode(solved_anew(len(source), e), s))
        print(f"{f'decoding, {share:.0%} missing':<28}{found}", flush=True)


def main(size: int = 1_404) -> None:
    """Print all of it."""
    rng = np.random.default_rng(1)
    blocks = {k: rng.integers(0, 256, (k, size), dtype=np.uint8) for k in (1_024, 256, 64, 16)}
    print(f"symbols of {size} bytes; CPU ms a block, best of {TIMES}; x: times BLAKE3 of the block")
    print("    K missing    rank   decode     both  Gbit/s       x  x without rank")
    for share in SHARES:
        decoding_line(rng, blocks[1_024], share)
    for k in (256, 64, 16):
        for share in (0.05, 0.33):
            decoding_line(rng, blocks[k], share)
    source = blocks[1_024]
    hashed, made = best(lambda: digest(memoryview(source)), lambda: parities(source))
    print(f"\nparities of 1024: {made:.2f} ms, {made / hashed:.1f} x; repair symbols from them:")
    print("    K  symbols     ms  Gbit/s       x")
    for count in (16, 64, 512, 3_072):
        encoding_line(source, count)
    esis, symbols = received(rng, source, 0.05)
    more = np.setdiff1d(1_024 + np.arange(512), esis)[:30]
    esis = np.concatenate((esis, more))
    symbols = np.concatenate((symbols, encode(source, more)))
    symbols[[5, -1]] ^= rng.integers(0, 256, (2, size), dtype=np.uint8)
    (took,) = best(lambda: locate(1_024, esis, symbols))
    print(f"\nlocate 2 forged of 1024, 5% missing, 33 surplus: {took:.1f} ms")
    gap_lines(rng, source)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
