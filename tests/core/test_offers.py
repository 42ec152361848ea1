"""Which objects a receiver takes: one by default, several by another policy."""

from collections.abc import Mapping
from random import Random

import pytest

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Adopted, Damaged, Superseded
from pgmlite.core.machine import (
    MS,
    SECOND,
    Action,
    Complete,
    Decode,
    Prepare,
    SendNak,
    Store,
    Verify,
)
from pgmlite.core.receive.diagnosis import Diagnosis, Load
from pgmlite.core.receive.offers import Answer, Offer, OneObject, Refuse, Take, Wait
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.receive.transfer import TransferState
from pgmlite.sim.memory import answer
from pgmlite.wire.layout import Order, PacketType
from tests.support.builders import Drive, Sample, batches, make_object
from tests.support.disk import Disk
from tests.support.nak_builders import spm_packet

ONE = make_object(5 * 512 + 148, name="one.bin")
OTHER = make_object(4_000, name="other.bin", seed=1)
THIRD = make_object(3_000, name="third.bin", seed=2)


class Two:
    """Takes two objects at once, and a third one never."""

    def offer(self, now: int, offer: Offer, transfers: Mapping[int, object]) -> Answer:
        return Take() if offer.oid in transfers or len(transfers) < 2 else Refuse()


class Service:
    """A receiver of several objects, each with a disk of its own."""

    def __init__(self) -> None:
        self.machine = Receiver(ReceiverConfig(), rng=Random(0), policy=Two())
        self.disks: dict[int, Disk] = {}
        self.seen: list[Action] = []

    def give(self, packets: list[bytes], *, now: int = 0, limit: int = 64) -> None:
        for batch in batches(packets, limit=limit, refused=self.machine.counters.refused):
            self.perform(self.machine.receive(now, batch))
            while self.machine.deadline == 0:
                self.perform(self.machine.tick(now))

    def perform(self, actions: list[Action]) -> None:
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            self.seen.append(action)
            match action:
                case Prepare() | Verify() | Decode():
                    disk = self.disks.setdefault(action.oid, Disk(b""))
                    todo = answer(self.machine, disk, action) + todo
                case Store():
                    self.disks[action.oid].store(action)

    @property
    def completed(self) -> list[int]:
        return [action.oid for action in self.seen if isinstance(action, Complete)]


def turns(*parts: list[bytes]) -> list[bytes]:
    """Return packets that take turns, the longer parts at the end alone."""
    longest = max(map(len, parts))
    return [part[n] for n in range(longest) for part in parts if n < len(part)]


class TestTwoAtOnce:
    @pytest.mark.parametrize("limit", [1, 64])
    @pytest.mark.parametrize("announced", [True, False])
    def test_both_come_whole(self, limit: int, announced: bool) -> None:
        service = Service()
        opening = [ONE.spm(), OTHER.spm()] if announced else []
        rest = [] if announced else [ONE.spm(), OTHER.spm()]
        data = turns(ONE.all_odata(), OTHER.all_odata())
        nodes = turns(ONE.nodes(), ONE.nodes(), OTHER.nodes(), OTHER.nodes())
        service.give([*opening, *data, *rest, *nodes, *nodes], limit=limit)
        assert sorted(service.completed) == sorted([ONE.manifest.oid, OTHER.manifest.oid])
        for sample in (ONE, OTHER):
            assert service.disks[sample.manifest.oid].data == sample.data
        assert service.machine.counters.refused == {}
        assert not any(isinstance(action, Superseded) for action in service.seen)

    def test_one_that_is_complete_ends_nothing_else(self) -> None:
        service = Service()
        service.give([ONE.spm(), OTHER.spm(), *ONE.all_odata(), *ONE.nodes(), *ONE.nodes()])
        assert service.completed == [ONE.manifest.oid]
        packets = service.machine.counters.packets
        service.give([ONE.spm(), *ONE.all_odata()], now=60 * SECOND)
        assert service.machine.counters.packets == packets
        service.give(turns(ONE.all_odata(), OTHER.all_odata()) + OTHER.nodes() + OTHER.nodes())
        assert service.completed == [ONE.manifest.oid, OTHER.manifest.oid]
        assert service.disks[OTHER.manifest.oid].data == OTHER.data

    def test_one_that_is_spoilt_is_fetched_again_alone(self) -> None:
        service = Service()
        service.give([ONE.spm(), OTHER.spm(), *ONE.nodes(), *OTHER.nodes()] * 2)
        service.give([*ONE.all_odata(), *OTHER.all_odata()])
        oid = ONE.manifest.oid
        service.perform(service.machine.doubt(oid, [1]))
        assert service.seen[-1] == Damaged(0, oid, 1, is_dropped=True)
        states = {number: one.state for number, one in service.machine.transfers.items()}
        assert states == {
            oid: TransferState.RECEIVING,
            OTHER.manifest.oid: TransferState.COMPLETE,
        }
        service.give(ONE.odata(range(8, 16)))
        assert service.completed.count(oid) == 2

    def test_a_third_one_is_refused(self) -> None:
        service = Service()
        service.give([ONE.spm(), OTHER.spm()])
        service.give([THIRD.spm(), *THIRD.odata(range(5))], now=60 * SECOND)
        assert service.machine.counters.refused == {"object": 6}

    def test_each_asks_for_its_own(self) -> None:
        service, now = Service(), 0
        for sample in (ONE, OTHER):
            carousel = [n for n in range(sample.manifest.symbols) if n != 3]
            for place, symbol in enumerate([*carousel, *carousel[:20]]):
                now += SECOND // 100
                if place % 20 == 0:
                    service.give([spm_packet(sample)], now=now)
                service.give(sample.odata([symbol], sqn=place), now=now)
                service.perform(service.machine.tick(now))
        packets = [one.packet for one in service.seen if isinstance(one, SendNak)]
        oids = {int(batch.rows["oid"][0]) for batch in batches(packets, limit=1)}
        assert oids == {ONE.manifest.oid, OTHER.manifest.oid}

    def test_many_objects_in_one_batch_cost_one_answer_each(self) -> None:
        service = Service()
        service.give([ONE.spm(), OTHER.spm()])
        strangers = [ONE.odata([0], oid=oid)[0] for oid in range(1, 65)]
        service.give(strangers)
        assert service.machine.counters.refused == {"object": 64}


class TestOneObject:
    POLICY = OneObject(None, 5 * SECOND)

    @staticmethod
    def receiver(*given: Sample) -> Receiver:
        service = Service()
        service.machine = Receiver(ReceiverConfig(), rng=Random(0))
        for sample in given:
            service.give([sample.spm()])
        return service.machine

    def test_answers(self) -> None:
        offer = Offer(2, 100, 64, is_announced=True)
        none, one = {}, self.receiver(ONE).transfers
        assert self.POLICY.offer(0, offer, none) == Take()
        assert self.POLICY.offer(5 * SECOND - 1, offer, one) == Wait(is_rival=True)
        assert self.POLICY.offer(5 * SECOND, offer, one) == Take((ONE.manifest.oid,))
        assert OneObject(3, SECOND).offer(0, offer, none) == Refuse()
        data = Offer(2, 100, 64)
        assert self.POLICY.offer(0, data, none) == Take()
        assert self.POLICY.offer(60 * SECOND, data, one) == Wait()
        repeated = Offer(2, 100, 64, is_announced=True, has_carousel=False)
        assert self.POLICY.offer(60 * SECOND, repeated, one) == Refuse()

    def test_what_there_is_no_room_for_takes_nobodys_place(self) -> None:
        # spec: RCV-17
        service, late = Service(), 60 * SECOND
        policy = OneObject(None, 5 * SECOND, lambda size: size < OTHER.manifest.size)
        service.machine = machine = Receiver(ReceiverConfig(), rng=Random(0), policy=policy)
        for packets in ([OTHER.spm()], OTHER.odata([0])):
            service.give(packets)
        assert (machine.counters.refused, machine.transfers) == ({"disk": 2}, {})
        # Nor what seemed to fit by the headers of its data.
        service.give([*ONE.odata([0], oid=OTHER.manifest.oid), OTHER.spm()])
        assert machine.counters.refused == {"disk": 3}
        service.give([ONE.spm(), *ONE.odata([0])], now=late)
        service.give([OTHER.spm(), *OTHER.odata([0])], now=2 * late)
        assert machine.counters.refused == {"disk": 4, "object": 1}
        assert machine.manifest == ONE.manifest
        assert machine.progress[0] == 1

    def test_once_bytes_were_passed_on_nothing_takes_its_place(self) -> None:
        # spec: RCV-27
        begun = False
        policy = OneObject(None, 5 * SECOND, is_begun=lambda: begun)
        one, late = self.receiver(ONE).transfers, 60 * SECOND
        for stream in ("", "a/b"):  # a higher release, too
            offer = Offer(2, 100, 64, is_announced=True, stream=stream)
            begun = False
            assert policy.offer(late, offer, one) == Take((ONE.manifest.oid,))
            begun = True
            assert policy.offer(late, offer, one) == Refuse("begun")
            assert policy.offer(late, offer, {}) == Take()
        known = Offer(ONE.manifest.oid, len(ONE.data), 64, is_announced=True)
        assert policy.offer(late, known, one) == Take()
        assert policy.offer(late, Offer(2, 100, 64), one) == Wait()

    def test_what_was_passed_on_is_waited_for_in_words(self) -> None:
        # spec: RCV-27
        policy = OneObject(None, 5 * SECOND, is_begun=lambda: True)
        drive = Drive(policy=policy)
        watched = Diagnosis(drive.machine, "GROUP", overhead=48, granted=1 << 20, wanted=1 << 20)
        drive.give([ONE.spm()])
        drive.give([OTHER.spm()], now=9 * SECOND)
        assert drive.refused == {"begun": 1}
        said = {one.cause: one for one in watched.look(9 * SECOND, Load())}
        assert said["object"].facts["reason"] == "begun"
        assert said["object"].text.endswith(
            "not taken: a part of one.bin was passed on, and nothing but its rest can follow"
        )
        assert said["silence"].text.endswith(
            "waiting for the rest of one.bin, since a part of it was passed on"
        )

    def test_what_was_lost_of_an_object_that_is_gone_stays_in_the_sum_and_leaves_the_share(
        self,
    ) -> None:
        # spec: RCV-9
        service = Service()
        service.machine = machine = Receiver(ReceiverConfig(), rng=Random(0))
        service.give([ONE.spm(sqn=0), *ONE.odata([0], sqn=1), *ONE.odata([1], sqn=12)])
        assert machine.lost == 10
        service.give([OTHER.spm(sqn=100), *OTHER.odata([0], sqn=101)], now=60 * SECOND)
        assert any(isinstance(action, Adopted) for action in service.seen)
        assert machine.lost == 10
        assert machine.current is not None
        assert machine.current.losses.share == 0


class TestIds:
    """Offsets and encoding symbol ids that contradict each other."""

    @pytest.mark.parametrize("kind", [PacketType.ODATA, PacketType.RDATA])
    def test_what_contradicts_itself_is_refused(self, kind: PacketType) -> None:
        # spec: PKT-13
        service = Service()
        service.give([ONE.spm()])
        wrong = ONE.odata([9], esi=2, type=kind)
        service.give([*ONE.odata([8], type=kind), *wrong, *ONE.odata([10], type=kind)])
        assert service.machine.counters.refused == {"esi": 1}
        assert service.machine.progress[0] == 2
        assert service.disks[ONE.manifest.oid].data[576:640] != ONE.data[576:640]

    @pytest.mark.parametrize("announced", [True, False])
    def test_repair_symbols_of_an_object_without_any(self, announced: bool) -> None:
        # spec: PKT-13
        service = Service()
        service.give([ONE.spm()] if announced else ONE.odata([0]))
        stored = service.machine.progress[0]
        service.give(ONE.odata([8], flags=1, esi=8))
        counters = service.machine.counters
        # Before the manifest it may have some.
        assert (counters.refused["esi"], counters.early) == ((1, 0) if announced else (0, 1))
        assert service.machine.progress[0] == stored

    def test_a_carousel_that_is_nowhere(self) -> None:
        # spec: PKT-8
        service = Service()
        nowhere = spm_packet(ONE, first=ONE.manifest.blocks)
        service.give([nowhere])
        assert service.machine.counters.refused == {"spm": 1}
        service.give([ONE.spm(), nowhere, spm_packet(ONE, order=Order.ROUNDS, first=1)])
        assert service.machine.counters.refused == {"spm": 3}
        for place in (1 << 62, (1 << 64) - 1):
            service.give([spm_packet(ONE, place=place)])
        assert service.machine.counters.refused == {"spm": 5}


def test_objects_that_nobody_sends_hold_a_receiver_once_each() -> None:
    """Two strangers announce without end, and the sender's SPMs are rare."""
    fakes = [make_object(64 * 20, seed=seed) for seed in (1, 2)]
    true = make_object(64 * 20, seed=3)
    drive = Drive()
    for step in range(25 * 20):
        now = 25 * MS * step
        if drive.machine.manifest == true.manifest:
            break
        if step % 40 == 17:
            drive.give([true.spm()], now=now)
        for fake in fakes:
            drive.give([fake.spm()], now=now)
    assert drive.machine.manifest == true.manifest
    assert now <= 12 * SECOND
