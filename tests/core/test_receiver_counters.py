"""What a receiver counts: losses, cycles, packets."""

import pytest

from pgmlite.core.receive.transfer import TransferState
from tests.support.builders import Drive, Sample, make_object

# 6 blocks of 8 symbols, the last of 3 symbols of which the last has 20 bytes; a tree of 6 nodes.
ONE = make_object(5 * 512 + 148, name="one.bin")
OTHER = make_object(4_000, name="other.bin", seed=1)
LAST = ONE.manifest.symbols - 1


def announced(sample: Sample = ONE, **config: int) -> Drive:
    """Return a receiver that has the manifest and the tree."""
    drive = Drive(**config)
    drive.give([sample.spm(), *sample.nodes()])
    assert drive.state is TransferState.RECEIVING
    return drive


class TestCounting:
    def test_loss_is_counted_by_source_session_and_channel(self) -> None:
        # spec: RCV-9
        drive = announced()
        for source, tsi, channel in [("a", 1, 0), ("b", 1, 0), ("a", 2, 0), ("a", 1, 1)]:
            fields = {"tsi": tsi, "channel": channel}
            drive.give(ONE.odata([0], sqn=100, **fields), source=source)
            drive.give(ONE.odata([0], sqn=105, **fields), source=source)
        assert drive.machine.lost == 4 * 4
        drive.give(ONE.odata([0], sqn=103, tsi=1), source="a")
        assert drive.machine.lost == 15

    def test_two_sessions_in_one_batch(self) -> None:
        drive = announced()
        for sqn in (10, 12):
            drive.give([p for tsi in (1, 2) for p in ONE.odata([0, 1], sqn=2 * sqn, tsi=tsi)])
        assert drive.machine.lost == 2 * 2

    def test_strangers_cannot_grow_the_table_of_senders(self) -> None:
        # spec: RCV-13
        drive = announced(max_senders=5)
        for number in range(100):
            drive.give(ONE.odata([0], sqn=1), source=f"sender {number}")
            drive.give(ONE.odata([0], sqn=3), source=f"sender {number}")
            drive.give([ONE.spm()], source="a")
        assert drive.machine.current is not None
        assert len(drive.machine.current.losses) == 5
        assert drive.machine.lost == 100

    def test_packets_are_counted_by_the_address_they_came_from(self) -> None:
        # spec: NET-19
        drive = announced()
        drive.give([*ONE.odata([0, 1], sqn=1), ONE.spm()], source="b")
        drive.give(OTHER.odata([0], sqn=1), source="c")
        announcing = 1 + len(ONE.nodes())
        assert drive.machine.per_source == {"a": announcing, "b": 3}
        for number in range(100):
            drive.give(ONE.odata([0], sqn=1), source=f"sender {number}")
        drive.give(ONE.odata([0], sqn=2), source="a")
        assert len(drive.machine.per_source) == 64
        assert drive.machine.per_source["a"] == announcing + 1

    def test_cycles_include_what_was_lost(self) -> None:
        drive = Drive()
        for cycle in range(4):
            every = ONE.all_odata(sqn=43 * cycle)
            drive.give(every[cycle % 2 :: 2] if cycle else every)
        assert drive.machine.lost == 64
        assert drive.machine.cycles == pytest.approx(4, rel=0.05)

    def test_a_number_out_of_thin_air_spoils_no_counter(self) -> None:
        drive = Drive()
        drive.give(ONE.all_odata(sqn=1))
        assert drive.machine.cycles == 1
        drive.give(ONE.odata([0], sqn=1 << 30))
        assert drive.machine.lost == 0
        assert drive.machine.cycles == pytest.approx(1, rel=0.05)

    def test_a_packet_is_counted_once(self) -> None:
        drive = Drive()
        packets = [ONE.spm(), *ONE.nodes(), *ONE.all_odata()[:-1], b"junk"]
        drive.give([*packets, *OTHER.odata([0])])
        counters = drive.machine.counters
        assert counters.packets == len(packets) - 1 + 1
        assert counters.bytes == sum(map(len, packets)) - 4 + 112
        assert (counters.odata, counters.duplicates) == (LAST, 0)
        assert drive.refused == {"short": 1, "object": 1}
