"""What is seen on channels: bits, losses that were not made up, and which of them are usual."""

from __future__ import annotations

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.receive.traffic import Seen, Traffic, lost_between
from pgmlite.core.receive.usual import UsualLoss
from pgmlite.wire.endpoint import Endpoint
from tests.support.path import packets


def test_what_is_missing_between_two_numbers_is_bounded() -> None:
    # spec: RTE-3
    sqns = packets(0, [5, 6, 7, 9, 1 << 30, 8, 8, 10]).rows["sqn"].astype("u4")
    assert lost_between(sqns, 16) == (7, 16)
    assert lost_between(sqns[:4], 16) == (4, 1)


def test_numbers_wrap() -> None:
    sqns = packets(0, [(1 << 32) - 2, 1, (1 << 32) - 1]).rows["sqn"].astype("u4")
    assert lost_between(sqns, 16) == (3, 1)


def test_memory_is_bounded_by_what_came() -> None:
    # spec: RTE-3
    config = RatesConfig(max_sessions=4, max_counted=1000)
    traffic = Traffic(config)
    for tsi in range(100):
        traffic.take(packets(0, range(3), tsi=tsi))
    for first in range(0, 10_000, 500):
        traffic.take(packets(0, range(first, first + 500), tsi=1000))
    seen, sessions = traffic.look()
    assert len(sessions[0]) == 4
    assert seen[0].received <= 1500
    assert seen[0].bits == 10_300 * 1280 * 8


def test_a_session_that_sends_much_is_not_driven_out() -> None:
    # spec: RTE-3
    traffic = Traffic(RatesConfig(max_sessions=4))
    traffic.take(packets(0, [1, 5, 9], tsi=1))
    for tsi in range(2, 100):
        traffic.take(packets(0, [tsi], tsi=tsi))
    seen, _ = traffic.look()
    assert seen[0].lost == 3, "two thirds of half of the packets"


def test_one_batch_may_be_of_several_sessions() -> None:
    traffic = Traffic(RatesConfig())
    batch = packets(0, [1, 100, 3, 101])
    batch.rows["tsi"] = [1, 2, 1, 2]
    traffic.take(batch)
    seen, sessions = traffic.look()
    assert (seen[0].received, seen[0].lost, len(sessions[0])) == (4, 1, 2)


def test_ipv4_has_smaller_headers() -> None:
    traffic = Traffic(RatesConfig())
    traffic.take(packets(0, [1], source=Endpoint("192.0.2.1", 1)))
    assert traffic.look()[0][0].bits == 1260 * 8


def test_a_quarter_of_the_latest_looks_had_no_more() -> None:
    # spec: RTE-11
    usual = UsualLoss()
    for loss in [0.0] * 8 + [0.05] * 23:
        usual.add(loss)
    assert usual.share == 0
    for _ in range(2):
        usual.add(0.05)
    assert usual.share == 0.05


def test_chance_is_allowed_for() -> None:
    # spec: RTE-11
    usual = UsualLoss()
    usual.settle(0.02)
    assert not usual.is_exceeded(Seen(0, 94, 6), 0.0)
    assert usual.is_exceeded(Seen(0, 930, 70), 0.0)
