"""What leaves of signed objects where it is repaired: tile by tile, with leaves of its own."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core import serial
from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import MS, SECOND, Transmit
from pgmlite.core.send.tiles import PATH_EVERY
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.request import build_nak
from tests.core.test_count_answers import request, said
from tests.support.answering import Answering
from tests.support.builders import packet
from tests.support.leaving import check, leaving, runs_of, sample_of
from tests.support.nak_builders import kind_of, nak_packet, symbols_sent
from tests.support.signed import SignedSample

SPM, ODATA, RDATA = PacketType.SPM, PacketType.ODATA, PacketType.RDATA
TREE, NCF = PacketType.TREE, PacketType.NCF


def ask(sender: Answering, *wanted: Any, source: str = "10.0.0.1") -> list[Transmit]:
    """Let a NAK arrive, of symbols or, of an object with repair symbols, (block, count)."""
    sample = sender.sample
    fields = {"sqn": sender.last_sqn, "tsi": sender.machine.tsi}
    if sample.manifest.repair_symbols:
        body = build_nak(sender.nonce, sender.now, 0.0, request(*((b, 0, n) for b, n in wanted)))
        nak = packet(PacketType.NAK, body, **(sample.fields | fields))
    else:
        nak = nak_packet(sample, wanted, nonce=sender.nonce, timestamp=sender.now, **fields)
    return sender.give(nak, source=(source, 1))


def named(ncf: Transmit, sample: SignedSample) -> list[tuple[int, int]]:
    """Return what an NCF says, as (block, ESI)."""
    geometry = sample.manifest.geometry
    if not geometry.repair_symbols:
        ids = geometry.ids(np.array(symbols_sent([ncf], NCF, sample)))
        return list(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))
    return [
        (block, (first - step) % geometry.ring(block))
        for block, first, count in said([ncf], sample)
        for step in range(count)
    ]


def some_needs(sample: SignedSample, rng: Random, number: int) -> list[Any]:
    """Return what a NAK may ask for, by name something else in each of five."""
    geometry = sample.manifest.geometry
    if not geometry.repair_symbols:
        return sorted(rng.sample(range(number, geometry.symbols, 5), rng.randint(1, 50)))
    blocks = sorted(rng.sample(range(geometry.blocks), rng.randint(1, min(8, geometry.blocks))))
    return [(block, rng.randint(1, 30)) for block in blocks]


class TestRepairs:
    @pytest.mark.slow
    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(["plain", "coded", "groups", "one"]),
        st.booleans(),
        st.sampled_from([2_000_000, 10_000_000, 500_000_000]),
        st.lists(st.integers(0, 60), min_size=1, max_size=5),
        st.integers(0, 1 << 30),
    )
    def test_each_tile_has_its_leaf_before_it_and_once_more(
        self, shape: str, carousel: bool, rate: int, pauses: list[int], seed: int
    ) -> None:
        # spec: REP-13
        sample, rng = sample_of(shape), Random(seed)
        sender = Answering(sample, carousel=carousel, rate=rate, order=Order.BLOCKS)
        for number, pause in enumerate(pauses):
            sender.run(sender.now + pause * MS)
            ask(sender, *some_needs(sample, rng, number))
        while sender.repairs.is_waiting:
            sender.run(sender.now + 10 * MS)
        sent = leaving([one for _, one in sender.sent], sample)
        check(sent, sample, RDATA)
        # spec: REP-11
        promises: dict[tuple[int, int], int] = {}
        for _, burst in sender.sent:
            first = int(burst.rows["sqn"][0])
            if kind_of(burst) is NCF:
                by = (first + int(burst.rows["offset"][0])) % (1 << 32)
                promises = dict.fromkeys(named(burst, sample), by) | promises
            elif kind_of(burst) is RDATA:
                for one in leaving([burst], sample):
                    by = promises.pop(one.symbol)
                    assert serial.distance(one.sqn % (1 << 32), by) >= 0

    @pytest.mark.parametrize("shape", ["plain", "coded", "groups"])
    def test_symbols_of_a_tile_go_out_together(self, shape: str) -> None:
        sample = sample_of(shape)
        sender = Answering(sample, carousel=False, rate=1_000_000)
        geometry = sample.manifest.geometry
        blocks = range(min(4, geometry.tile_blocks))
        if geometry.repair_symbols:
            ask(sender, *((block, 40) for block in blocks))
        else:
            ask(sender, *range(0, 40, 3))
        while sender.repairs.is_waiting:
            sender.run(sender.now + 10 * MS)
        sent = leaving([one for _, one in sender.sent], sample)
        runs = [sent[first].tile for first, _ in runs_of(sent, RDATA)]
        assert len(runs) == len(set(runs))
        leaves = Counter(one.node for one in sent if one.node >= sample.tiles.tiles.tree.nodes)
        assert set(leaves.values()) == {2}
        assert sum(one.kind is RDATA for one in sent) == sender.machine.counters.rdata

    @pytest.mark.slow
    def test_leaves_are_paid_from_the_share(self) -> None:
        # spec: REP-13, REP-5
        sample = sample_of("plain")
        repair = RepairConfig(port=9, share=0.5, grtt_min=1, grtt_start=1)
        sender = Answering(sample, repair=repair, spm_min=SECOND, order=Order.BLOCKS)
        rng, sizes = Random(1), Counter[str]()
        while sender.now < 3 * SECOND:
            if sender.machine.waiting < 100:
                ask(sender, *sorted(rng.sample(range(sample.manifest.symbols), 60)))
            sender.run(sender.now + 20 * MS)
        sent = leaving([one for _, one in sender.sent], sample)
        shape = sample.tiles.tiles.tree
        kinds = Counter(one.kind for one in sent)
        tiles = len(runs_of(sent, RDATA))
        sizes["leaves"] = 2 * tiles * (HEADER_SIZE + 48 + sample.tiles.tiles.length(0))
        sizes["rdata"] = kinds[RDATA] * (HEADER_SIZE + 48 + 160)
        sizes["odata"] = kinds[ODATA] * (HEADER_SIZE + 48 + 160)
        assert kinds[RDATA] > 500
        assert shape.nodes
        assert sizes["leaves"] + sizes["rdata"] <= 1.05 * sizes["odata"]

    def test_who_joined_later_gets_all_that_is_above(self) -> None:
        # spec: REP-13
        sample = sample_of("coded")
        sender = Answering(sample, carousel=False, rate=5_000_000)
        tree = sample.tiles.tiles.tree
        for block in range(PATH_EVERY + 1):
            ask(sender, (block, 3))
            sender.run(sender.now + 20 * MS)
        before = len(sender.sent)
        sender.run(sender.now + 2 * SECOND)
        assert any(kind_of(one) is SPM for _, one in sender.sent[before:])
        before = len(sender.sent)
        ask(sender, (7, 3))
        sender.run(sender.now + 100 * MS)
        sent = leaving([one for _, one in sender.sent[before:]], sample)
        (first, _) = runs_of(sent, RDATA)[0]
        known = {one.node for one in sent[:first]}
        leaf = tree.nodes + sent[first].tile
        assert {leaf, *tree.above(leaf)} <= known
