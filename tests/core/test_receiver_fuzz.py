"""The receiver in every state and under anything that a network can bring: it never raises."""

from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.core.machine import SECOND, Complete
from pgmlite.core.receive.transfer import TRANSFER_TRANSITIONS, TransferEvent, TransferState
from pgmlite.core.ring import Ring
from pgmlite.wire.layout import Order
from tests.support.builders import Drive, Sample, make_object

ONE = make_object(5 * 512 + 148, name="one.bin")
OTHER = make_object(4_000, name="other.bin", seed=1)
CODED = make_object(4_030, name="coded.bin", seed=2, repair_symbols=26, tile_blocks=2)
SAMPLES = {sample.manifest: sample for sample in (ONE, OTHER, CODED)}
RING = Ring(CODED.manifest.geometry, Order.ROUNDS)

FORGED = {
    "oid": st.sampled_from([ONE.manifest.oid, OTHER.manifest.oid, CODED.manifest.oid, 1]),
    "esi": st.integers(0, 40),
    "flags": st.sampled_from([0, 1, 2]),
    "tsi": st.integers(0, 3),
    "sqn": st.sampled_from([0, 1, 5_000, 1 << 31, (1 << 32) - 1]),
    "channel": st.integers(0, 2),
    "size": st.sampled_from([0, 1, 64, 4_000, 1 << 34, 1 << 41, (1 << 63) - 1, 1 << 63]),
    "symbol_size": st.sampled_from([0, 64, 128, 65_456]),
    "offset": st.sampled_from([0, 64, 128, 1 << 33, (1 << 63) - 64, (1 << 63) - 128]),
}


class TestStates:
    @staticmethod
    def reach(state: TransferState) -> Drive:
        drive = Drive()
        match state:
            case TransferState.COLLECTING:
                drive.give(ONE.odata([0]))
            case TransferState.RECEIVING:
                drive.give([ONE.spm(), *ONE.nodes(), *ONE.odata([0])])
            case TransferState.COMPLETE:
                drive.give([ONE.spm(), *ONE.nodes(), *ONE.all_odata()])
        assert drive.state is state
        return drive

    @pytest.mark.parametrize("event", TransferEvent)
    @pytest.mark.parametrize("state", TransferState)
    def test_every_event_in_every_state(self, state: TransferState, event: TransferEvent) -> None:
        drive = self.reach(state)
        match event:
            case TransferEvent.MANIFEST:
                drive.give([ONE.spm()])
            case TransferEvent.LAST_BLOCK:
                for block in range(ONE.manifest.blocks):
                    drive.perform(drive.machine.verified(ONE.manifest.oid, block, ok=True))
            case TransferEvent.DOUBT:
                drive.perform(drive.machine.doubt(ONE.manifest.oid, [1]))
        assert drive.state is TRANSFER_TRANSITIONS.get((state, event), state)

    def test_complete_is_the_end_and_can_be_reached_from_everywhere(self) -> None:
        leaving = [e for state, e in TRANSFER_TRANSITIONS if state is TransferState.COMPLETE]
        assert leaving == [TransferEvent.DOUBT]
        reached = {TransferState.COMPLETE}
        for _ in TransferState:
            reached |= {state for (state, _), to in TRANSFER_TRANSITIONS.items() if to in reached}
        assert reached == set(TransferState)

    def test_a_receiver_of_one_object_takes_nothing_after_it(self) -> None:
        drive = self.reach(TransferState.COMPLETE)
        counters, data = repr(drive.machine.counters), bytes(drive.store.data)
        packets = [ONE.spm(), *ONE.all_odata(), *ONE.nodes()]
        assert drive.give(packets, now=60 * SECOND) == []
        assert drive.machine.tick(60 * SECOND) == []
        assert drive.machine.deadline is None
        assert (repr(drive.machine.counters), drive.store.data) == (counters, data)
        assert drive.give([OTHER.spm(), *OTHER.all_odata()], now=120 * SECOND) == []
        assert drive.refused == {"object": 1 + len(OTHER.all_odata())}


def flipped(one: bytes, at: int, bits: int) -> bytes:
    at %= len(one)
    return one[:at] + bytes([one[at] ^ bits]) + one[at + 1 :]


def carousel(place: int, count: int, **fields: Any) -> list[bytes]:
    """Return what is sent of the object with repair symbols from a place on."""
    if fields:
        ids = RING.ids(place, count)
        return CODED.encoded(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True), **fields)
    whole = whole_turn()
    return [whole[at % len(whole)] for at in range(place, place + count)]


@cache
def whole_turn() -> list[bytes]:
    ids = RING.ids(0, RING.turn)
    return CODED.encoded(zip(ids.blocks.tolist(), ids.esis.tolist(), strict=True))


@st.composite
def arrivals(draw: st.DrawFn) -> list[bytes]:
    """Draw packets of one kind, some of them forged or broken, or junk."""
    sample: Sample = draw(st.sampled_from([ONE, ONE, OTHER, CODED, CODED]))
    fields: dict[str, Any] = draw(
        st.just({}) | st.just({}) | st.fixed_dictionaries({}, optional=FORGED)
    )
    match draw(st.sampled_from(["odata", "odata", "odata", "tree", "spm", "junk"])):
        case "odata":
            start = draw(st.integers(0, sample.manifest.symbols - 1))
            if sample is CODED:
                packets = carousel(start + 20 * draw(st.integers(0, 9)), 40, **fields)
            else:
                packets = sample.odata(range(start, sample.manifest.symbols), **fields)
        case "tree":
            packets = sample.nodes(**fields)
        case "spm":
            packets = [sample.spm(**fields)]
        case _:
            packets = draw(st.lists(st.binary(min_size=1, max_size=150), max_size=4))
    for place in range(len(packets)):
        if draw(st.integers(0, 30)) == 0:
            at, bits = draw(st.integers(0, 200)), draw(st.integers(1, 255))
            packets[place] = flipped(packets[place], at, bits)
    return packets


STEPS = st.lists(
    st.tuples(
        arrivals(),
        st.sampled_from([1, 64]),
        st.sampled_from("ab"),
        st.sampled_from([0, 0, SECOND, 6 * SECOND]),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from([{}, {"oid": ONE.manifest.oid}, {"max_senders": 1}]))
def test_never_raises_and_completes_once_the_air_is_clean(
    steps: list[tuple[list[bytes], int, str, int]], config: dict[str, int]
) -> None:
    drive, now = Drive(**config), 0
    for packets, limit, source, pause in steps:
        now += pause
        was_complete = drive.is_complete
        actions = drive.give(packets, now=now, source=source, limit=limit)
        assert not (was_complete and actions)
        stored, symbols = drive.machine.progress
        assert 0 <= stored <= symbols
    # Forged symbols may each cost a pass.
    for _ in range(4):
        now += 6 * SECOND
        drive.give([ONE.spm(), *ONE.nodes(), *ONE.all_odata()], now=now)
    assert drive.state is TransferState.COMPLETE
    (complete,) = (action for action in drive.seen if isinstance(action, Complete))
    sample = SAMPLES[complete.manifest]
    assert drive.store.data[: len(sample.data)] == sample.data
    assert sample is ONE or "oid" not in config


@settings(max_examples=50)
@given(STEPS, st.integers(0, 400))
def test_with_repair_symbols_it_completes_as_well(
    steps: list[tuple[list[bytes], int, str, int]], place: int
) -> None:
    drive = Drive(oid=CODED.manifest.oid)
    for packets, limit, source, _ in steps:
        drive.give(packets, source=source, limit=limit)
        stored, symbols = drive.machine.progress
        assert 0 <= stored <= symbols
    opening, turn = [CODED.spm(), *CODED.nodes()], carousel(place, RING.turn)
    for _ in range(6):
        if not drive.is_complete:
            drive.give([*opening, *turn])
    assert drive.state is TransferState.COMPLETE
    assert drive.store.data[: len(CODED.data)] == CODED.data


@pytest.mark.slow
@given(st.integers(0, 1 << 32), st.sampled_from([2, 7, 64]), st.booleans())
def test_batches_of_any_size_come_to_the_same(seed: int, limit: int, unannounced: bool) -> None:
    rng = Random(seed)
    # The symbol left out keeps both from completing, after which nothing counts.
    cycle = [*ONE.nodes(sqn=1), *ONE.all_odata(sqn=4)[:-1]]
    again = [ONE.spm(sqn=46), *ONE.nodes(sqn=47), *ONE.odata(range(9), sqn=50)]
    foreign = [*OTHER.odata(range(5)), flipped(ONE.odata([1])[0], rng.randrange(8), 1)]
    numbered = list(enumerate([*cycle, *again, *foreign]))
    order = sorted(
        (number + rng.uniform(0, 5), one)
        for number, one in numbered
        for _ in range(rng.choice([0, 1, 1, 1, 2]))
    )
    packets = [one for _, one in order]
    first = ONE.odata([0], sqn=0) if unannounced else [ONE.spm(sqn=0)]
    outcomes = []
    for size in (1, limit):
        drive = Drive()
        drive.give(first, limit=size)
        drive.give(packets, limit=size)
        machine = drive.machine
        seen = (machine.counters, machine.lost, drive.state, machine.progress)
        held = bytearray(drive.store.data)
        for start, stop in machine.missing:
            held[start:stop] = bytes(stop - start)
        outcomes.append((*seen, held))
        drive.give([ONE.spm(), *ONE.nodes(), *ONE.all_odata()], limit=size)
        assert drive.is_complete
        assert drive.store.data == ONE.data
    assert outcomes[0] == outcomes[1]
