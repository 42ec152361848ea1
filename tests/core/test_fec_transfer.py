"""Whole transfers with repair symbols: lengths, late joiners, kills, forged symbols.

ring.md's figures hold for means of many runs: here each is one that is drawn once and for all, with
the room that a single run needs. `tests.bench` has the means.
"""

from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.config import SenderConfig
from pgmlite.core.events import Damaged
from pgmlite.core.machine import LYING, MS, SECOND, Complete, Decode, Held, Prepare, Store, Verify
from pgmlite.core.ring import Ring
from pgmlite.core.send.sender import Sender
from pgmlite.wire.geometry import Ids
from pgmlite.wire.layout import Order
from tests.support.builders import Sample
from tests.support.nak_builders import Group
from tests.support.rounds import (
    Careless,
    Listener,
    at_random,
    coded,
    in_bursts,
    kinds,
    rounds,
    some_places,
)


class TestLengths:
    @pytest.mark.parametrize("first", [0, 1])
    def test_who_loses_nothing_never_decodes(self, first: int) -> None:
        sample = coded(32 * 20 + 5, block_symbols=32)
        listener = Listener(sample)
        listener.follow(rounds(sample, first=first))
        assert listener.heard <= sample.manifest.symbols + 16
        assert not kinds(listener, Decode)
        counters = listener.machine.counters
        assert counters.repair_symbols_received == counters.recovered == counters.duplicates == 0
        assert listener.machine.progress == (sample.manifest.symbols,) * 2

    @pytest.mark.parametrize("symbols", [1, 2, 3, 5, 16, 17, 40, 64])
    def test_small_objects(self, symbols: int) -> None:
        heard = []
        for seed in range(30):
            listener = Listener(coded(symbols), lossy=at_random(0.05, seed))
            listener.follow(rounds(listener.sample))
            heard.append(listener.heard)
        assert mean(heard) <= 1.13 * symbols + 3

    @pytest.mark.parametrize("extra", [1, 5, 100])
    def test_short_last_blocks_keep_pace(self, extra: int) -> None:
        lengths = []
        for seed in range(10):
            listener = Listener(coded(2 * 256 + extra, block_symbols=256))
            listener.lossy = at_random(0.05, seed)
            listener.follow(rounds(listener.sample))
            lengths.append(listener.lengths)
        assert mean(lengths) <= 1.15  # K = 256 has to spare for more than 1024 has

    @pytest.mark.parametrize(("share", "most"), [(0.01, 1.06), (0.05, 1.12), (0.2, 1.36)])
    def test_losses_cost_what_was_lost(self, share: float, most: float) -> None:
        sample = coded(5 * 512, block_symbols=512)
        lengths = []
        for seed in range(3):
            listener = Listener(sample, lossy=at_random(share, seed))
            listener.follow(rounds(sample))
            lengths.append(listener.lengths)
        assert mean(lengths) <= most

    def test_half_of_all_lost_ends_too(self) -> None:
        sample = coded(3 * 128, block_symbols=128)
        listener = Listener(sample, lossy=at_random(0.5))
        listener.follow(rounds(sample))
        assert listener.lengths <= 3.5

    def test_bursts_are_spread_over_blocks(self) -> None:
        sample = coded(16 * 256, block_symbols=256)
        lengths = []
        for seed in range(3):
            listener = Listener(sample, lossy=in_bursts(0.05, 20, seed))
            listener.follow(rounds(sample))
            lengths.append(listener.lengths)
        assert mean(lengths) <= 1.15

    @pytest.mark.parametrize(("share", "most"), [(0.0, 1.06), (0.05, 1.14)])
    def test_who_joins_late_takes_no_longer(self, share: float, most: float) -> None:
        sample = coded(5 * 256, block_symbols=256)
        for seed, place in enumerate(some_places(sample, 12)):
            listener = Listener(sample, lossy=at_random(share, seed))
            listener.follow(rounds(sample, first=seed % 16), place)
            assert listener.lengths <= most

    @pytest.mark.parametrize("order", Order)
    @pytest.mark.parametrize("symbols", [40, 16 * 9 + 3])
    def test_every_order_completes_from_anywhere(self, order: Order, symbols: int) -> None:
        sample = coded(symbols, block_symbols=16, repair_symbols=40)
        ring = Ring(sample.manifest.geometry, order)
        for seed, place in enumerate(some_places(sample, 5)):
            listener = Listener(sample, lossy=at_random(0.1, seed))
            listener.follow(ring, place)

    def test_two_senders_that_share_the_ring_repeat_nothing(self) -> None:
        sample = coded(4 * 256, block_symbols=256)
        rings = [rounds(sample, sector=i, sectors=2, first=8 * i) for i in (0, 1)]
        listener, place = Listener(sample), 0
        while not listener.is_complete:
            for tsi, ring in enumerate(rings):
                listener.hear(ring.ids(place, 16), tsi=tsi)
            place += 16
        assert listener.lengths <= 1.01
        counters = listener.machine.counters
        assert counters.duplicates == counters.decoded == 0

    def test_before_the_manifest_source_symbols_are_kept_and_repair_symbols_are_not(self) -> None:
        sample = coded(64)
        listener, ring = Listener(sample, is_announced=False), rounds(sample)
        listener.hear(ring.ids(0, 20))
        listener.hear(ring.ids(64, 10))
        counters = listener.machine.counters
        assert (counters.fetched, counters.early) == (20, 10)
        listener.give([sample.spm(), *sample.nodes()])
        assert listener.machine.progress == (20, 64)
        listener.follow(ring, 70)
        assert listener.machine.counters.decoded == 1


class TestCounts:
    def test_every_symbol_is_counted_once(self) -> None:
        sample = coded(6 * 32, block_symbols=32)
        listener = Listener(sample, lossy=at_random(0.1))
        end = listener.follow(rounds(sample), 40)
        counters = listener.machine.counters
        fates = counters.fetched + counters.early + counters.unneeded + counters.duplicates
        assert counters.odata == fates
        assert 0 < counters.repair_symbols_received < end
        assert counters.recovered > 0
        assert counters.decoded <= 6
        assert counters.damaged == counters.forged == 0

    def test_stored_never_exceeds_what_there_is(self) -> None:
        sample = coded(3 * 32, block_symbols=32)
        listener, ring = Listener(sample, lossy=at_random(0.2)), rounds(sample)
        before = 0
        for place in range(0, 400, 8):
            listener.hear(ring.ids(place, 8))
            if listener.is_complete:
                break
            stored, symbols = listener.machine.progress
            assert before <= stored <= symbols == 96
            before = stored
        assert listener.is_complete

    def test_counts_alone_complete_nothing(self) -> None:
        sample = coded(32)
        listener = Listener(sample)
        listener.store.matches = lambda *_: False
        listener.store.decode = None
        listener.hear(rounds(sample).ids(0, 32))
        assert listener.machine.progress == (32, 32)
        assert not listener.is_complete


class TestDriving:
    """What the machine says to a driver that takes its time."""

    @staticmethod
    def slow(sample: Sample, share: float = 0.2) -> tuple[Listener, list[Decode]]:
        """Return a receiver whose Decodes wait in the list."""
        listener, waiting = Listener(sample, lossy=at_random(share)), []
        size = sample.manifest.block_size

        def perform(actions):
            for one in actions:
                if isinstance(one, Decode):
                    waiting.append(one)
                    continue
                if isinstance(one, Store):
                    blocks = {run[0] // size for together in one.runs for run in together}
                    assert not blocks & {decode.block for decode in waiting}
                Listener.perform(listener, [one])
            return []

        listener.perform = perform
        return listener, waiting

    @staticmethod
    def answer(listener: Listener, action: Decode) -> None:
        done = listener.store.decode(action)
        listener.perform(
            listener.machine.decoded(action.oid, action.block, done.lacks, done.forged, ok=done.ok)
        )
        listener.settle()

    def test_two_blocks_at_a_time_and_nothing_is_stored_in_them(self) -> None:
        sample = coded(8 * 32, block_symbols=32)
        listener, waiting = self.slow(sample)
        ring, place, tries = rounds(sample), 0, 0
        while not listener.is_complete:
            assert place < 10 * sample.manifest.symbols
            listener.hear(ring.ids(place, 32))
            place += 32
            assert len(waiting) <= 2
            assert listener.machine.deadline is None
            if place % 64 == 0 and waiting:
                tries += 1
                self.answer(listener, waiting.pop(0))
        assert tries >= 8
        assert listener.machine.counters.unneeded > 0
        assert bytes(listener.store.data[: len(sample.data)]) == sample.data

    def test_what_is_lacking_is_waited_for(self) -> None:
        # spec: FEC-6
        sample = coded(32)
        listener, waiting = self.slow(sample, 0.0)
        ring = rounds(sample)
        listener.hear(ring.ids(32, 33))
        (action,) = waiting
        assert (action.block, len(action.surplus_esis), action.is_search) == (0, 1, False)
        assert sorted(action.lying.tolist()) == list(range(33, 65))
        waiting.clear()
        listener.perform(listener.machine.decoded(action.oid, 0, lacks=3, ok=False))
        for place in (65, 66):
            listener.hear(ring.ids(place, 1))
            listener.settle()
            assert not waiting
        listener.hear(ring.ids(67, 1))
        assert len(waiting[0].surplus_esis) == 4
        # What came while it was decoded counts as well.
        listener.hear(ring.ids(68, 2))
        first = waiting.pop()
        listener.perform(listener.machine.decoded(first.oid, 0, lacks=2, ok=False))
        listener.settle()
        assert len(waiting[0].surplus_esis) == 6

    def test_a_block_that_turns_out_to_be_there_needs_no_answer(self) -> None:
        sample = coded(32)
        listener, waiting = self.slow(sample, 0.0)
        listener.hear(rounds(sample).ids(32, 34))
        (action,) = waiting
        listener.perform(listener.machine.verified(action.oid, 0, ok=True))
        assert listener.is_complete
        assert listener.machine.decoded(action.oid, 0, ok=True) == []
        assert listener.machine.counters.decoded == 0
        assert listener.machine.progress == (32, 32)

    def test_blocks_wait_for_their_digests(self) -> None:
        sample = coded(2 * 24, block_symbols=24)
        listener = Listener(sample, is_announced=False)
        listener.give([sample.spm()])
        listener.hear(rounds(sample).ids(48, 2 * 26))
        assert not kinds(listener, Decode)
        assert listener.machine.deadline is None
        listener.give(sample.nodes())
        assert kinds(listener, Decode) >= 2

    def test_a_short_symbol_in_a_foreign_place_is_whole(self) -> None:
        sample = coded(8, short=40)
        listener, ring = Listener(sample), rounds(sample)
        listener.hear(ring.ids(8, 1))  # a repair symbol, which goes to the last place
        listener.hear(ring.ids(7, 1))
        (action,) = listener.seen[-1:]
        assert isinstance(action, Store)
        assert action.esis is not None
        assert (action.runs, action.esis.tolist()) == ([[(6 * 64, 0, 1)]], [7])
        assert action.payload.tobytes() == sample.data[7 * 64 :] + bytes(40)

    @pytest.mark.parametrize("when", ["never", "twice", "later"])
    def test_answers_that_nobody_waits_for_are_nothing(self, when: str) -> None:
        sample = coded(32)
        listener, waiting = self.slow(sample, 0.0)
        oid = sample.manifest.oid
        if when == "never":
            assert listener.machine.decoded(oid, 0, ok=True) == []
            assert listener.machine.decoded(oid + 1, 0, ok=True) == []
            assert not listener.is_complete
            return
        listener.hear(rounds(sample).ids(32, 34))
        self.answer(listener, waiting[0])
        assert listener.is_complete
        assert listener.machine.decoded(oid, 0, lacks=2, ok=False) == []
        if when == "later":
            listener.perform(listener.machine.doubt(oid, [0]))
            assert listener.machine.decoded(oid, 0, ok=True) == []
        assert kinds(listener, Complete) == 1

    def test_what_is_wrong_without_those_that_were_found_is_searched_again(self) -> None:
        sample = coded(32)
        listener, waiting = self.slow(sample, 0.0)
        listener.hear(rounds(sample).ids(32, 36))
        action = waiting.pop()
        (event,) = listener.machine.decoded(action.oid, 0, forged=[33], ok=False)
        assert event == Damaged(0, action.oid, 0, forged=1, waits_for=24)
        listener.hear(rounds(sample).ids(68, 28))
        action = waiting.pop()
        assert action.is_search
        (event,) = listener.machine.decoded(action.oid, 0, forged=[34, 35], ok=False)
        assert event == Damaged(0, action.oid, 0, forged=2, waits_for=48)
        counters = listener.machine.counters
        assert (counters.damaged, counters.forged) == (2, 3)

    def test_what_can_not_be_read_is_collected_again(self) -> None:
        sample = coded(32)
        listener, waiting = self.slow(sample, 0.0)
        ring = rounds(sample)
        listener.hear(ring.ids(32, 34))
        action = waiting.pop()
        unread = tuple((action.lying.astype(int) - 1).tolist())
        assert listener.machine.decoded(action.oid, 0, forged=unread, ok=False)
        assert listener.machine.progress[0] == len(action.surplus_esis)
        listener.perform = lambda actions: Listener.perform(listener, actions)
        listener.follow(ring, 70)


class TestKills:
    @settings(max_examples=25)
    @given(st.integers(0, 1_000), st.lists(st.integers(1, 120), min_size=1, max_size=4))
    def test_nothing_that_was_stored_comes_again(self, seed: int, lives: list[int]) -> None:
        sample = coded(4 * 24 + 5, block_symbols=24, repair_symbols=64)
        store, ring = Careless(), rounds(sample)
        place, lossy = seed, at_random(0.2, seed)
        for life in lives:
            listener = Listener(sample, store=store, lossy=lossy)
            before = listener.machine.progress[0]
            listener.hear(ring.ids(place, life))
            place += life
            if listener.is_complete:
                break
            kept = listener.machine.progress[0]
            assert kept >= before
            # But for what lay in memory, which has no place.
            resumed = Listener(sample, store=store).machine
            assert resumed.progress[0] == kept
            assert resumed.counters.damaged == 0
        last = Listener(sample, store=store, lossy=lossy)
        last.follow(ring, place)
        assert last.machine.counters.damaged == 0

    def test_a_record_that_is_wrong_ends_well(self) -> None:
        sample = coded(3 * 24, block_symbols=24, repair_symbols=96)
        store, ring = Careless(), rounds(sample)
        listener = Listener(sample, store=store)
        listener.hear(ring.ids(72, 60))  # repair symbols
        for offset in range(0, 24 * 64, 3 * 64):  # a third of a block is not what it was
            store.data[offset : offset + 64] = bytes(64)
        again = Listener(sample, store=store)
        assert again.machine.progress[0] == 60
        again.follow(ring, 132, limit=8)
        assert again.machine.counters.damaged <= 2

    def test_source_symbols_that_lie_elsewhere_are_put_in_their_places(self) -> None:
        # And nobody waits for what could match there, as bytes.
        sample = coded(2 * 24, block_symbols=24)
        first = Listener(sample, store=Careless(), is_announced=False)
        store, prepare = first.store, first.store.prepare
        one, other = slice(0, 64), slice(23 * 64, 24 * 64)
        store.data = bytearray(sample.data)
        store.data[one], store.data[other] = store.data[other], store.data[one]
        lying = (np.arange(48) % 24 + 1).astype(LYING)
        lying[[0, 23]] = lying[[23, 0]]

        def recorded(wanted: Prepare) -> Held:
            return Held([(0, lying)], 24, prepare(wanted).extents)

        store.prepare = recorded
        first.give([sample.spm(), *sample.nodes()])
        assert first.is_complete
        assert (kinds(first, Decode), first.machine.counters.recovered) == (1, 0)
        assert [action.block for action in first.seen if isinstance(action, Verify)] == [1]
        assert store.data[: len(sample.data)] == sample.data

    def test_foreign_symbols_of_a_record_wait_for_the_manifest(self) -> None:
        sample = coded(48, block_symbols=24, repair_symbols=64)
        store, ring = Careless(), rounds(sample)
        first = Listener(sample, store=store)
        first.hear(ring.ids(48, 30))
        assert first.machine.progress[0] == 30
        listener = Listener(sample, store=store, is_announced=False)
        # Data first: it would take the places of other symbols, which may be these very ones.
        listener.hear(Ids(np.zeros(3, np.int64), np.array([0, 8, 15])))
        assert listener.machine.counters.early == 3
        listener.give([sample.spm(), *sample.nodes()])
        assert listener.machine.progress[0] == 30
        listener.follow(ring, 80)
        assert listener.machine.counters.damaged == 0


class TestNetwork:
    """The same with senders, under a virtual clock."""

    @pytest.mark.parametrize("order", Order)
    def test_several_receivers_and_one_that_comes_late(self, order: Order) -> None:
        sample = coded(4 * 64 + 5, block_symbols=64)
        group = Group(sample)
        sender = group.add_sender(order=order, rate=400_000)
        nodes = group.add_receivers(3, loss=0.05)
        nodes += group.add_receivers(1, loss=0.05, at=300 * MS)
        group.run_until_complete(nodes, limit=60 * SECOND)
        assert sender.machine.cycles <= {Order.RANDOM: 2.5}.get(order, 1.8)
        for node in nodes:
            counters = node.machine.counters
            assert counters.damaged == counters.duplicates == 0
            assert (counters.recovered > 0) == (counters.decoded > 0)

    def test_two_senders_that_share_the_ring(self) -> None:
        sample = coded(8 * 64, block_symbols=64)
        group = Group(sample)
        senders = [
            group.add_sender(
                f"S{i}", order=Order.ROUNDS, first=2 * i, sector=i, sectors=2, rate=400_000
            )
            for i in (0, 1)
        ]
        nodes = group.add_receivers(2, loss=0.02)
        group.run_until_complete(nodes, limit=60 * SECOND)
        assert sum(sender.machine.cycles for sender in senders) <= 1.25
        assert nodes[0].machine.counters.duplicates == 0

    def test_a_stranger_forges_symbols_all_the_time(self) -> None:
        sample = coded(4 * 64, block_symbols=64, repair_symbols=128)
        group = Group(sample)
        group.add_sender(order=Order.ROUNDS, rate=400_000)
        other = coded(4 * 64, block_symbols=64, repair_symbols=128, seed=1)
        # It has the same manifest, and other bytes.
        rate = 20_000
        config = SenderConfig(rate=rate, packet_overhead=28)
        forger = Sender(config, sample.manifest, sample.tree, rng=group.network.rng("F"))
        group.network.add("F", forger, data=other.data)
        nodes = group.add_receivers(2, loss=0.05)
        group.run_until_complete(nodes, limit=60 * SECOND)
        assert forger.counters.odata > 0
        assert any("F" in node.machine.current.forgers for node in nodes)
