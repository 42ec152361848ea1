"""What one source can have repeated while the carousel goes on (spec: REP-16)."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.send.alone import Account
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import build_nak, build_request
from tests.support.answering import NCF, ODATA, RDATA, SAMPLE, TOTAL, Answering
from tests.support.builders import make_object, packet
from tests.support.nak_builders import Group, kind_of, symbols_of, symbols_sent

SYMBOL = 1_404
CONFIG = RepairConfig(port=9)


def sent(answering: Answering, until: int) -> Counter[PacketType]:
    """Go on until `until` ns; return how many packets of each type left."""
    kinds: Counter[PacketType] = Counter()
    for burst in answering.run(until):
        kinds[kind_of(burst)] += len(burst.rows)
    return kinds


@cache
def attacked(seconds: int, sources: tuple[str, ...], loss: float = 0.0) -> Counter[PacketType]:
    """Ask for the most that there is once a second, from each source; return what left."""
    sender = Answering(SAMPLE, trusting=False)
    total: Counter[PacketType] = sent(sender, SECOND)
    for second in range(1, seconds + 1):
        for source in sources:
            request, _ = build_request(symbols_of(range(TOTAL)), 1_164)
            body = build_nak(sender.nonce, sender.now, loss, request)
            fields = SAMPLE.fields | {"tsi": sender.machine.tsi, "sqn": 0}
            for burst in sender.give(packet(PacketType.NAK, body, **fields), source=(source, 1)):
                total[kind_of(burst)] += len(burst.rows)
        total += sent(sender, (second + 1) * SECOND)
    return total


@pytest.mark.slow
def test_one_nak_a_second_slows_the_carousel_by_a_tenth_at_most() -> None:
    # spec: REP-16
    alone, beside = attacked(25, ()), attacked(25, ("10.0.0.66",))
    assert beside[RDATA] > 0.05 * alone[ODATA]
    assert beside[ODATA] >= 0.9 * alone[ODATA]


@pytest.mark.slow
def test_who_lies_about_its_losses_costs_one_length_of_the_object_at_most() -> None:
    # spec: REP-16
    alone, beside = attacked(25, ()), attacked(25, ("10.0.0.66",), loss=1.0)
    assert TOTAL < beside[RDATA] <= TOTAL + 0.1 * beside[ODATA] + CONFIG.alone_burst
    assert beside[ODATA] >= 0.9 * alone[ODATA] - TOTAL


@pytest.mark.slow
def test_what_one_may_not_have_others_may() -> None:
    # spec: REP-16
    one, three = (attacked(10, tuple(f"10.0.0.{n}" for n in range(1, last))) for last in (2, 4))
    assert 2 * one[RDATA] < three[RDATA] < 4 * one[RDATA]


def test_what_is_not_queued_is_not_confirmed() -> None:
    sender = Answering(SAMPLE, trusting=False)
    sender.run(100 * MS)
    bursts = sender.ask(range(2_000, 2_400))
    assert symbols_sent(bursts, NCF, SAMPLE) == list(sender.queued.symbols)
    assert CONFIG.alone_burst <= len(sender.queued) < 100


def test_nothing_is_bounded_where_no_carousel_goes_on() -> None:
    lingering = Answering(SAMPLE, trusting=False, cycles=1)
    lingering.run(4 * SECOND)
    alone = Answering(SAMPLE, trusting=False, carousel=False)
    for sender in (lingering, alone):
        sender.ask(range(2_000, 3_000))
        assert len(sender.queued) == 1_000
        assert sent(sender, sender.now + 2 * SECOND)[RDATA] == 1_000


@pytest.mark.parametrize(
    ("passed", "loss", "had", "left"),
    [
        (0, 0.0, 0, 64),
        (0, 1.0, 64, 0),
        (1_000, 0.0, 0, 64 + 100 + 20),
        (1_000, 0.2, 0, 64 + 100 + 250 + 20),
        (100_000, 0.0, 0, 64 + 10_000 + 80),
        (100_000, 0.5, 0, 64 + 10_000 + 4_000),
        (100_000, 1.0, 14_000, 64),
    ],
)
def test_the_account_of_a_source(passed: int, loss: float, had: int, left: int) -> None:
    # spec: REP-16
    assert Account(0, had).left(CONFIG, 4_000, passed, loss) == left


@pytest.mark.slow
@pytest.mark.parametrize("repair_symbols", [0, 512])
@pytest.mark.parametrize("cycles", [None, 1])
def test_an_honest_receiver_alone_is_not_held_back(repair_symbols: int, cycles: int | None) -> None:
    sample = make_object(
        3_000 * SYMBOL, symbol_size=SYMBOL, block_symbols=512, repair_symbols=repair_symbols
    )
    ends = []
    for bounds in ({}, {"alone_burst": 1 << 20}):
        group = Group(sample)
        repair = RepairConfig(port=9, **bounds)
        group.add_sender(repair=repair, rate=50_000_000, cycles=cycles)
        nodes = group.add_receivers(1, loss=0.3)
        ends.append(group.run_until_complete(nodes, limit=60 * SECOND))
    assert ends[0] <= 1.05 * ends[1]
