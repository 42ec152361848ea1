"""A stranger who gets a forged node in before each true one: it costs nobody a cycle.

    python -m tests.bench.forged_nodes

does the same with an object of 64 MiB.
"""

from collections.abc import Iterator

from pgmlite.core.machine import Transmit
from pgmlite.wire.layout import PacketType
from tests.support.builders import Drive, Sample, encode, make_object, make_sender, play


def reads_of_a_cycle(sample: Sample) -> Iterator[list[bytes]]:
    """Yield one cycle as a sender sends it; a forged node before each true one ends a read."""
    sender = make_sender(sample, rate=100_000_000, cycles=1)
    sender.start(0)
    together: list[bytes] = []
    for _, burst in play(sender):
        for one in encode(burst, sample.data) if isinstance(burst, Transmit) else ():
            if one[3] == PacketType.TREE:
                yield [*together, one[:48] + bytes([one[48] ^ 1]) + one[49:]]
                together = []
            together.append(one)
    yield together


def receive_with_forgeries(mebibytes: int) -> Drive:
    """Return a receiver that heard one cycle of an object with symbols of 256 bytes."""
    sample = make_object(mebibytes << 20, symbol_size=256, block_symbols=1_024)
    drive = Drive()
    for packets in reads_of_a_cycle(sample):
        drive.give(packets)
    assert drive.machine.counters.odata == sample.manifest.symbols
    assert drive.refused["tree"] >= sample.manifest.tree.nodes
    return drive


def test_an_object_verifies_in_one_cycle_all_the_same() -> None:
    # spec: TREE-4
    assert receive_with_forgeries(4).is_complete
