"""Losses by session, and who takes NAKs: what is remembered, and what makes room."""

import pytest

from pgmlite.core.config import NakConfig
from pgmlite.core.receive import policy
from pgmlite.core.receive.losses import LossCounts
from pgmlite.core.receive.repairers import Repairers
from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import batches, make_object, make_spm
from tests.support.nak_builders import SPM_FIELDS

ONE = make_object(64 * 100)


def heard(counts: LossCounts, source: str, *sqns: int) -> None:
    for sqn in sqns:
        for batch in batches(ONE.odata([0], sqn=sqn), source=source):
            counts.count(batch)


class TestLossCounts:
    def test_what_made_room_stays_in_the_sum_and_in_the_share(self) -> None:
        # spec: RCV-13
        counts = LossCounts(2)
        heard(counts, "a", 1, 5)
        heard(counts, "b", 1, 2)
        heard(counts, "c", 1, 2)
        assert len(counts) == 2
        assert counts.lost == 3
        assert counts.share == pytest.approx(3 / 9)

    def test_counts_of_two_objects_have_nothing_in_common(self) -> None:
        first, second = LossCounts(1), LossCounts(1)
        heard(first, "a", 1, 5)
        heard(first, "b", 1, 5)
        heard(second, "a", 6, 7)
        assert (first.lost, second.lost, second.share) == (6, 0, 0)

    def test_numbers_out_of_thin_air_are_counted_apart(self) -> None:
        counts = LossCounts(2)
        heard(counts, "a", 1, 1 << 20)
        assert (counts.lost, counts.share) == (0, 0)
        assert counts.unbelieved == (1 << 20) - 2
        heard(counts, "b", 1)
        heard(counts, "c", 1)  # "a" makes room
        assert (counts.lost, counts.unbelieved) == (0, (1 << 20) - 2)


class TestRepairers:
    KEY = (Endpoint("S", 0), 1, 0)
    AT = Endpoint("S", 9)

    def known(self) -> Repairers:
        repairers = Repairers(NakConfig())
        repairers.take(5, self.AT, self.KEY, make_spm(b"", **SPM_FIELDS), preferred=True)
        return repairers

    def test_the_time_to_a_repair_moves_towards_what_is_measured(self) -> None:
        # spec: NAK-7
        repairer = self.known().of_session(self.KEY)
        assert repairer is not None
        repairer.repaired(800)
        assert repairer.repair_delay == 800
        repairer.repaired(1_600)
        assert repairer.repair_delay == 900
        repairer.repaired(100)
        assert repairer.repair_delay == 800

    def test_who_is_dead_or_not_heard_is_not_chosen(self) -> None:
        # spec: NAK-10
        repairers = self.known()
        repairer = repairers.choose(6)
        assert repairer is not None
        repairer.dead_until = 100
        assert repairers.choose(99) is None
        assert repairers.choose(100) is repairer
        assert repairers.choose(5 + NakConfig().spm_patience) is None


class TestPolicy:
    """Rules that a group asks of all members at once are those that one receiver asks."""

    def test_trust(self) -> None:
        # spec: NAK-9
        config = NakConfig()
        packets = [0, 15, 16, 1_000]
        each = [bool(policy.is_trusted(config, number)) for number in packets]
        assert each == [False, False, True, True]

    def test_an_address_is_asked_only_if_we_were_told_of_it_or_it_has_a_carousel(self) -> None:
        # spec: NAK-9
        with_carousel = make_spm(b"", **SPM_FIELDS)
        alone = make_spm(b"", **(SPM_FIELDS | {"repair_share": 100}))
        deaf = make_spm(b"", **(SPM_FIELDS | {"repair_port": 0}))
        source, at = Endpoint("S", 5), Endpoint("S", 9)
        assert policy.endpoint_of(with_carousel, source, set()) == (at, False)
        assert policy.endpoint_of(with_carousel, source, {at}) == (at, True)
        assert policy.endpoint_of(alone, source, set()) is None
        assert policy.endpoint_of(alone, source, {at}) == (at, True)
        assert policy.endpoint_of(deaf, source, {at, Endpoint("S", 0)}) is None

    @pytest.mark.parametrize(("lost", "received", "share"), [(0, 0, 0), (1, 3, 0.25), (5, 0, 1.0)])
    def test_share_of_losses(self, lost: int, received: int, share: float) -> None:
        assert float(policy.lost_share(lost, received)) == share
