"""Forged symbols of objects with repair symbols: they are found, or cost a block; never more."""

import numpy as np
import pytest

from pgmlite.core.events import Damaged
from pgmlite.core.machine import Decode, Held, Prepare, Verify
from pgmlite.sim.memory import MemoryStore
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.geometry import Ids
from tests.support.builders import Sample
from tests.support.rounds import Listener, coded, kinds, rounds, symbol_batches


def forged(batch: PacketBatch, *rows: int) -> PacketBatch:
    """Return packets of which some have another payload than was sent."""
    payload = batch.payload.copy()
    for row in rows:
        seed = [int(batch.offsets[row]), int(batch.rows["esi"][row])]
        payload[row] ^= np.random.default_rng(seed).integers(1, 256, payload.shape[1], np.uint8)
    return PacketBatch(batch.kind, batch.rows, batch.offsets, payload, batch.source)


class TestForged:
    K = 128

    def hear_forged(self, listener: Listener, ids: Ids, *rows: int) -> None:
        """Let symbols come that are forged, those of them that `rows` says, or all."""
        for batch in symbol_batches(listener.sample, ids):
            listener.take(forged(batch, *(rows or range(len(batch)))))

    def sample(self) -> Sample:
        return coded(self.K, block_symbols=self.K, repair_symbols=3 * self.K)

    @pytest.mark.parametrize(
        ("what", "joined"),
        [
            (["source"], 0),
            (["source", "repair"], 0),
            (["source"], 60),
            (["repair"], 60),
            (["source"], 128),
            (["repair"], 128),
        ],
    )
    def test_a_few_are_found_within_32_symbols(self, what: list[str], joined: int) -> None:
        # spec: FEC-7
        sample = self.sample()
        listener, ring = Listener(sample), rounds(sample)
        esis = [{"source": joined % self.K + 3, "repair": self.K}[one] for one in what]
        self.hear_forged(listener, Ids(np.zeros(len(esis), np.int64), np.array(esis)))
        place = joined
        while not any(isinstance(action, Damaged) for action in listener.seen):
            assert not listener.is_complete
            listener.hear(ring.ids(place, 1))
            place += 1
        suspected = place
        (event,) = (action for action in listener.seen if isinstance(action, Damaged))
        assert (event.waits_for, event.forged, event.is_dropped) == (24, 0, False)
        assert not listener.is_complete
        listener.follow(ring, place, step=1)
        assert listener.heard - (suspected - joined) <= 32
        counters = listener.machine.counters
        assert (counters.damaged, counters.forged) == (1, len(esis))
        last = [action for action in listener.seen if isinstance(action, Damaged)][-1]
        assert (last.forged, last.waits_for, last.is_dropped) == (len(esis), 0, False)

    def test_a_forged_repair_symbol_that_is_not_needed_is_nothing(self) -> None:
        sample = self.sample()
        listener = Listener(sample)
        self.hear_forged(listener, Ids(np.zeros(1, np.int64), np.array([self.K + 100])))
        listener.follow(rounds(sample))
        assert listener.heard <= self.K + 2
        assert listener.machine.counters.damaged == 0

    def test_a_whole_block_with_a_forged_symbol_is_mended(self) -> None:
        # spec: RCV-6: all source symbols are in their places, and one is not what was sent.
        sample = self.sample()
        listener, ring = Listener(sample), rounds(sample)
        (batch,) = symbol_batches(sample, ring.ids(0, self.K - 1))
        listener.take(forged(batch, 17))
        listener.hear(ring.ids(self.K - 1, 1))
        assert kinds(listener, Verify) == 1
        listener.follow(ring, self.K, step=1)
        assert listener.heard <= 1 + 32
        assert listener.machine.counters.forged == 1

    @pytest.mark.parametrize("count", [50, 1_000])
    def test_too_many_cost_the_block_and_nothing_wrong_is_published(self, count: int) -> None:
        sample = coded(1_024, repair_symbols=512)
        listener, ring = Listener(sample), rounds(sample)
        self.hear_forged(listener, ring.ids(1_024, count % 512 + 20))
        if count > 512:
            self.hear_forged(listener, ring.ids(0, count - 512))
        listener.follow(ring, 100, step=16, limit=4)
        counters = listener.machine.counters
        assert counters.damaged >= 1
        assert any(isinstance(action, Damaged) and action.is_dropped for action in listener.seen)
        # Each try takes all that there is, and each search more than the one before.
        assert kinds(listener, Decode) <= 10

    def test_a_flood_costs_no_more_than_it_sends(self) -> None:
        sample = coded(64, repair_symbols=400)
        listener, draws = Listener(sample), np.random.default_rng(1)
        for _ in range(40):
            esis = draws.choice(464, 64, replace=False)
            self.hear_forged(listener, Ids(np.zeros(64, np.int64), np.sort(esis)))
        decodes = [action for action in listener.seen if isinstance(action, Decode)]
        # A search, and the try before it, for as many symbols as a block and its surplus have.
        assert len(decodes) <= 2 * 40 * 64 / (64 + 64) + 4
        surpluses = [len(one.surplus_esis) for one in decodes if one.is_search]
        assert surpluses == sorted(surpluses)
        assert max(surpluses) == 64
        assert listener.machine.progress[0] <= 64
        assert not listener.is_complete
        listener.follow(rounds(sample), 0, limit=5)

    def test_few_repair_symbols_can_not_tell(self) -> None:
        # spec: RCV-6, FEC-7: as of objects without any, the block is fetched again.
        sample = coded(64, repair_symbols=16)
        listener, ring = Listener(sample), rounds(sample)
        self.hear_forged(listener, ring.ids(64, 1))
        listener.hear(ring.ids(0, 60))
        listener.hear(ring.ids(66, 4))
        (event,) = (action for action in listener.seen if isinstance(action, Damaged))
        assert event.is_dropped
        listener.follow(ring, 0)

    def test_a_wrong_guess_about_the_disk_is_no_damage(self) -> None:
        sample = coded(64)
        listener = Listener(sample, store=Guess(sample))
        assert not kinds(listener, Damaged)
        listener.follow(rounds(sample), 100)


class Guess(MemoryStore):
    """A disk that says of bytes that may match that they may."""

    def __init__(self, sample: Sample) -> None:
        super().__init__(bytes(len(sample.data)))

    def prepare(self, wanted: Prepare) -> Held:
        super().prepare(wanted)
        return Held(extents=[(0, wanted.size)])
