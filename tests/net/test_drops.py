"""How many packets the system dropped, by what it counts."""

from __future__ import annotations

from pgmlite.net.drops import DropCount


def test_what_gro_joined_counts_in_packets() -> None:
    drops = DropCount()
    for _ in range(100):
        drops.take(None, 40)
    drops.take(3, 40)
    drops.take(3, 40)
    assert drops.packets == 120


def test_packets_that_come_singly_are_counted_exactly() -> None:
    drops = DropCount()
    drops.take(173, 1)
    drops.take(200, 1)
    assert drops.packets == 200


def test_the_count_goes_round_and_begins_anew_with_a_socket() -> None:
    drops = DropCount()
    drops.take((1 << 32) - 1, 1)
    before = drops.packets
    drops.take(1, 1)
    assert drops.packets == before + 2
    drops.restart()
    drops.take(5, 1)
    assert drops.packets == before + 7
