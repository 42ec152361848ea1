"""The share of repairs, and of what confirms them."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core import serial
from pgmlite.core.config import MIN_RATE, RepairConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import UsageError
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.layout import PacketType
from tests.support.answering import DEFAULT, NCF, ODATA, RDATA, SAMPLE, TOTAL, Answering, alone
from tests.support.builders import make_object
from tests.support.nak_builders import (
    kind_of,
    symbols_sent,
)


class TestShares:
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_the_carousel_keeps_its_part_in_every_window(self, share: float) -> None:
        # spec: REP-5
        repair = RepairConfig(port=9, share=share, grtt_min=1, grtt_start=1)
        sender = Answering(SAMPLE, repair=repair, spm_min=SECOND)
        rng, kinds = Random(1), []
        while sender.now < 4 * SECOND:
            if sender.machine.waiting < 200:
                sender.ask(rng.sample(range(TOTAL), 500))
            for burst in sender.run(sender.now + 20 * MS):
                kinds += [kind_of(burst)] * len(burst.rows)
        repairs = np.array([kind is RDATA for kind in kinds if kind in {ODATA, RDATA}])
        assert len(repairs) > 4_000
        assert repairs.mean() == pytest.approx(share, rel=0.1)
        sums = np.concatenate(([0], np.cumsum(repairs)))
        # Repairs that did not use their share when there were none may do so later, up to 88.
        for window in (200, 1_000, 3_000):
            assert (sums[window:] - sums[:-window]).max() <= window * share + 88

    @pytest.mark.slow
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
    def test_ncfs_are_paid_from_the_share_of_repairs(self, share: float) -> None:
        # spec: REP-5
        sender = Answering(SAMPLE, repair=RepairConfig(port=9, share=share), spm_min=SECOND)
        rng, sizes = Random(1), Counter[PacketType]()
        sender.run(100 * MS)
        while sender.now < 2 * SECOND:
            # Far apart, so that NCFs are long, and more than they have room for.
            for number in range(4):
                source = (f"10.3.{number}.{sender.now // MS % 200}", 1)
                sender.ask(rng.sample(range(TOTAL), 60), source=source)
            for burst in sender.run(sender.now + 10 * MS):
                sizes[kind_of(burst)] += burst.length + len(burst.rows) * (HEADER_SIZE + 48)
        repairs = sizes[RDATA] + sizes[NCF]
        assert sizes[NCF] > 0.05 * repairs
        assert repairs / (repairs + sizes[ODATA]) == pytest.approx(share, rel=0.05)

    @settings(max_examples=30)
    @given(
        st.sampled_from([0.05, 0.5, 0.9]),
        st.sampled_from([5_000_000, 200_000_000]),
        st.booleans(),
        st.lists(st.tuples(st.integers(0, 40 * MS), st.integers(1, 300)), max_size=6),
    )
    def test_what_is_confirmed_is_sent_by_the_sqn_that_the_ncf_says(
        self, share: float, rate: int, carousel: bool, asks: list[tuple[int, int]]
    ) -> None:
        # spec: REP-11
        repair = RepairConfig(port=9, share=share)
        sender = Answering(SAMPLE, repair=repair, rate=rate, carousel=carousel)
        for number, (pause, count) in enumerate(asks):
            sender.run(sender.now + pause)
            sender.ask(range(500 + 400 * number, 500 + 400 * number + count))
        while sender.machine.waiting:
            sender.run(sender.now + 10 * MS)
        promised: dict[int, int] = {}
        for _, burst in sender.sent:
            first = int(burst.rows["sqn"][0])
            if kind_of(burst) is NCF:
                last = first + int(burst.rows["offset"][0])
                for symbol in symbols_sent([burst], NCF, SAMPLE):
                    promised.setdefault(symbol, last)
            elif kind_of(burst) is RDATA:
                for place, symbol in enumerate(symbols_sent([burst], RDATA, SAMPLE)):
                    assert serial.distance(first + place, promised.pop(symbol)) >= 0
        assert len(promised) <= sender.machine.counters.odata, "what the carousel brought sooner"

    def test_without_repairs_all_is_carousel(self) -> None:
        sender = Answering(SAMPLE)
        kinds = Counter(kind_of(burst) for burst in sender.run(SECOND))
        assert set(kinds) == {ODATA, PacketType.SPM, PacketType.TREE}

    @pytest.mark.parametrize("carousel", [True, False])
    def test_ncfs_keep_to_their_share_and_are_joined(self, carousel: bool) -> None:
        # spec: REP-3
        sender = Answering(SAMPLE, carousel=carousel, spm_min=SECOND)
        sender.run(10 * MS)
        start, wanted, ncfs = sender.now, [], []
        while sender.now < start + SECOND // 2:
            for _ in range(3):
                wanted.append(1_000 + len(wanted) * 7 % 3_000)
                source = (f"10.1.{len(wanted) // 200}.{len(wanted) % 200}", 1)
                ncfs += [(sender.now, burst) for burst in sender.ask(wanted[-1], source=source)]
            ncfs += [
                (sender.now, burst)
                for burst in sender.run(sender.now + 2 * MS)
                if kind_of(burst) is NCF
            ]
        sent = [burst for _, burst in ncfs if kind_of(burst) is NCF]
        assert sender.machine.refused == {}
        size = sum(burst.length + HEADER_SIZE + 48 for burst in sent)
        allowed = 10_000_000 / 8 * DEFAULT.ncf_share * DEFAULT.share
        assert size <= allowed * 0.56
        assert len(sent) < 0.75 * len(wanted)
        sender.run(sender.now + SECOND)
        everything = [burst for _, burst in sender.sent]
        assert set(wanted) <= set(symbols_sent(everything, NCF, SAMPLE))

    def test_no_more_ncfs_leave_together_than_their_burst(self) -> None:
        # spec: REP-3
        sample = make_object(64 * 70_000, block_symbols=1_000)
        sender = Answering(sample, spm_min=SECOND)
        sender.run(10 * MS)
        wanted = range(1_000, 61_000, 16)
        for start in range(0, len(wanted), 500):
            for burst in sender.ask(*wanted[start : start + 500], source=(f"10.1.0.{start}", 1)):
                assert kind_of(burst) is NCF
        together = sender.sent[-1][0]
        ncfs = [b for at, b in sender.sent if at == together and kind_of(b) is NCF]
        size = sum(burst.length + HEADER_SIZE + 48 for burst in ncfs)
        share = 10_000_000 / 8 * DEFAULT.ncf_share * DEFAULT.share
        assert 0 < size <= share * 0.05 + 1_300
        sender.run(sender.now + SECOND)
        everything = [burst for _, burst in sender.sent]
        assert set(wanted) == set(symbols_sent(everything, NCF, sample))

    @pytest.mark.parametrize("rate", [MIN_RATE, 200_000])
    def test_one_ncf_is_always_due_after_a_pause_however_low_the_rate_is(self, rate: int) -> None:
        # spec: REP-3
        sender = Answering(SAMPLE, carousel=False, rate=rate)
        for number in range(3):
            sender.run(sender.now + 10 * SECOND)
            (ncf,) = sender.ask(1_000 + number)
            assert kind_of(ncf) is NCF
            pause = (ncf.length + HEADER_SIZE + 48) * 8 * SECOND / (rate * 0.05)
            # At once only after what the one before it costs.
            assert sender.ask(2_000 + number, source=("10.9.9.9", 0)) == []
            sender.run(sender.now + int(2 * pause))
            assert 2_000 + number in symbols_sent([b for _, b in sender.sent], NCF, SAMPLE)

    def test_confirmations_that_have_to_wait_do_not_spin(self) -> None:
        # Nothing is left to send but NCFs, and these are over their share.
        sender = alone()
        sender.ask(1_000)
        sender.run(5 * MS)
        for number in range(300):
            sender.ask(1_000, source=(f"10.2.{number // 200}.{number % 200}", 1))
            sender.settle()
        assert len(sender.run(500 * MS)) < 20

    @pytest.mark.parametrize("share", [0.0, 0.04, 0.91, 1.0])
    def test_shares_that_would_starve_either_side(self, share: float) -> None:
        with pytest.raises(UsageError, match="share"):
            RepairConfig(share=share)
