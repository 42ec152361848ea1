"""Time to completion on a lossy carousel, against its closed form."""

from functools import cache
from random import Random

import numpy as np
import pytest

from pgmlite.core.config import ReceiverConfig, SenderConfig
from pgmlite.core.machine import MS, Complete
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.send.sender import Sender
from pgmlite.sim.network import Link, Network
from tests.support.builders import Sample, make_object

LOSS = 0.05
SYMBOLS = 1_000
RATE = 2_000_000_000
GROUP, GROUPS = 10, 3
"""Receivers are independent: each network has three groups of ten, and thirty groups of one."""


def carousel_time(symbols: int, loss: float, receivers: int) -> float:
    """Return the expected cycles until all `receivers` have all `symbols`.

    After c whole cycles and j symbols more, j symbols were sent c + 1 times and the others c
    times: P(T <= c * N + j) = [(1 - p**(c + 1))**j * (1 - p**c)**(N - j)]**R. The mean of T is
    the sum of P(T > t) over all t.
    """
    places = np.arange(symbols)
    slots, cycle = 0.0, 0
    while True:
        once_more, before = 1 - loss ** (cycle + 1), 1 - loss**cycle
        done = (once_more**places * before ** (symbols - places)) ** receivers
        slots += float(np.sum(1 - done))
        if done[0] > 1 - 1e-12:
            return slots / symbols
        cycle += 1


@pytest.mark.parametrize(
    ("symbols", "loss", "receivers", "cycles"),
    [(100, 0.05, 10, 2.733), (1_000, 0.05, 1, 2.73), (50, 0.0, 1_000, 1.0)],
)
def test_closed_form_gives_known_values(
    symbols: int, loss: float, receivers: int, cycles: float
) -> None:
    assert carousel_time(symbols, loss, receivers) == pytest.approx(cycles, abs=0.005)


@cache
def sample() -> Sample:
    return make_object(64 * SYMBOLS, block_symbols=100)


@cache
def cycles_of(seed: int) -> tuple[float, ...]:
    """Return the cycles that each receiver of one run took."""
    network = Network(seed)
    config = SenderConfig(rate=RATE, packet_overhead=48, spm_min=MS // 10, max_burst=25)
    sender = Sender(config, sample().manifest, sample().tree, rng=Random(seed))
    nodes = [
        network.add(
            f"r{number}", Receiver(ReceiverConfig(), rng=Random(number)), link=Link(loss=LOSS)
        )
        for number in range(GROUP * GROUPS)
    ]
    network.add("sender", sender, data=sample().data)
    until = 0
    while not all(
        isinstance(node.outcome[-1][1], Complete) if node.outcome else 0 for node in nodes
    ):
        until += MS // 2
        network.run(until)
    return tuple(node.machine.cycles for node in nodes)


@pytest.mark.parametrize("receivers", [1, GROUP])
def test_mean_of_20_runs_is_the_closed_form(receivers: int) -> None:
    last = [
        max(group)
        for seed in range(20)
        for group in np.reshape(cycles_of(seed), (-1, receivers)).tolist()
    ]
    expected = carousel_time(SYMBOLS, LOSS, receivers)
    assert sum(last) / len(last) == pytest.approx(expected, rel=0.05)
