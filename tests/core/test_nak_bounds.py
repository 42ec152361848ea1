"""What strangers can make a receiver hold, miss, or say."""

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.carousels import Carousels
from pgmlite.core.receive.ncfs import HeardNcfs
from pgmlite.core.receive.repairers import Repairers
from pgmlite.core.receive.wants import WantState
from pgmlite.core.ring import Ring
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.request import Runs
from tests.support import builders
from tests.support.asking import Asking, Listening
from tests.support.builders import make_object, make_spm
from tests.support.nak_builders import (
    GRTT,
    HEAD,
    LONGEST,
    OTHER,
    SPM_FIELDS,
    memory_kept,
    ncf_packet,
    rdata_packets,
    spm_packet,
)

SAMPLE = make_object(64 * 2_000, block_symbols=20)


class TestBounds:
    """What strangers can make a receiver hold or miss."""

    def flooded(self, strangers: int, **config: Any) -> Listening:
        """Return a receiver that heard SPMs of many strangers, and a carousel with losses."""
        receiver = Listening(SAMPLE, **config)
        receiver.hear(range(20))
        for number in range(strangers):
            place = number * 700
            packet = spm_packet(SAMPLE, {"tsi": 1_000 + number}, place=place)
            receiver.give([packet], source=(f"stranger {number % 97}", number))
        return receiver

    def test_strangers_make_nobody_ask(self) -> None:
        receiver = self.flooded(400)
        for number in range(600):
            ncf = ncf_packet(SAMPLE, [number], tsi=number)
            receiver.give([ncf], source=(f"stranger {number}", 1))
        assert receiver.naks == []

    def test_cycles(self) -> None:
        machine = Asking(40_000, max_cycles=50)
        machine.hear([n for n in range(4_500) if n % 20 != 7], step=1)
        machine.settle()
        states = Counter(machine.state(block) for block in range(2_000))
        assert states[WantState.BACK_OFF] == 50
        assert states[WantState.DUE] == (4_500 - HEAD) // 20 - 50
        assert machine.asked(200 * MS)

    def test_blocks_that_are_due(self) -> None:
        machine = Asking(40_000, max_due=30, max_cycles=1)
        machine.hear([n for n in range(4_500) if n % 20 != 7], step=1)
        machine.settle()
        assert sum(machine.state(block) is WantState.DUE for block in range(2_000)) == 29

    def test_ncfs_that_are_over_are_forgotten(self) -> None:
        # Every cycle that starts looks through all that are kept.
        config = NakConfig(max_ncfs=100, max_ncf_runs=500)
        heard = HeardNcfs(config)
        for now in range(1_000):
            heard.add(now, now + 20, OTHER, Runs(np.array([now]), np.array([now + 1])))
            assert len(heard) <= 21
        for now in range(1_000, 2_000):
            starts = 2 * np.arange(now % 9 + 1)
            heard.add(now, 1 << 60, OTHER, Runs(starts, starts + 1))
            assert len(heard) <= 100
            assert heard.size <= 500
        assert heard.size > 400

    def test_repairers_and_carousels(self) -> None:
        config = NakConfig()
        repairers, carousels = Repairers(config), Carousels(config)
        ring = Ring(SAMPLE.manifest.geometry, Order.BLOCKS)
        spm = make_spm(b"", **SPM_FIELDS)
        for number in range(400):
            key = (Endpoint("X", number), number, 0)
            repairers.take(number, Endpoint("X", number), key, spm, preferred=False)
            carousels.tell(number, key, ring, 7 * number, 1)
        assert (len(repairers), len(carousels)) == (config.max_repairers, config.max_positions)

    def test_strangers_do_not_keep_the_sender_out(self) -> None:
        receiver = self.flooded(40)
        for first in range(20, 500, 70):
            receiver.spm()
            receiver.hear(range(first, first + 70), lost=[first + 30])
        receiver.wait(LONGEST)
        assert {nak.endpoint for _, nak in receiver.naks} == {("S", 9)}

    def test_strangers_do_not_keep_out_whom_we_were_told_of(self) -> None:
        receiver = self.flooded(40, repairers=frozenset({("R", 9)}))
        receiver.spm(repair_port=0)
        receiver.spm(source=("R", 1), header={"tsi": 2}, repair_share=100)
        receiver.hear(range(20, 90), lost=[50])
        assert {nak.endpoint for nak in receiver.wait(LONGEST)} == {("R", 9)}

    def test_strangers_do_not_hide_a_carousel_that_is_heard(self) -> None:
        machine, asked = Asking(), []
        for symbol in range(300):
            for number in range(10 * symbol, 10 * symbol + 10):
                stranger = (("X", 1), number, 0)
                machine.machine.take_position(machine.now, stranger, machine.ring, 5, received=1)
            for _, symbols in machine.follow([symbol], lost=range(24, 300, 20)):
                asked += symbols
                machine.repair(symbols)
        assert asked[:11] == list(range(24, 244, 20))

    @pytest.mark.slow
    def test_ncfs_do_not_fill_the_memory(self) -> None:
        sample = make_object(64 * 66_000, block_symbols=1_000)
        receiver = Listening(sample)
        receiver.hear(range(20))
        ncfs = [ncf_packet(sample, range(n, n + 65_536), tsi=n) for n in range(256)]
        assert memory_kept(lambda: receiver.give(ncfs)) <= 16 << 20


@st.composite
def events(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Draw what happens to a receiver: a carousel with losses, repairs, time, and strangers."""
    symbol = st.integers(0, 159)
    some = st.lists(symbol, min_size=1, max_size=30)
    seed, who = st.integers(0, 99), st.sampled_from(["S", "R", "X"])
    facts = st.fixed_dictionaries(
        {
            "backoff_factor": st.integers(0, 255),
            "gsize": st.integers(0, 255),
            "nonce": st.integers(0, 3),
            "timestamp": st.sampled_from([0, 1, SECOND, (1 << 64) - 1]),
        }
    )
    forged = st.fixed_dictionaries(
        {
            "grtt": st.integers(0, 255),
            "repair_share": st.integers(0, 255),
            "repair_port": st.integers(0, 2),
            "rate": st.sampled_from([0, 1, 10_000_000, (1 << 64) - 1]),
            "place": st.sampled_from([0, 5, 300, (1 << 64) - 1]),
        }
    )
    fields = st.fixed_dictionaries(
        {"offset": st.integers(0, (1 << 63) - 1), "sqn": st.integers(0, (1 << 32) - 1)}
    )
    ahead = st.sampled_from([0, 1, 10, 100, (1 << 31) - 1, (1 << 63) - 1])
    carousel = st.tuples(
        st.just("hear"),
        st.integers(1, 60),
        seed,
        st.sampled_from([0, MS // 10, MS, 5 * MS]),
    )
    rest = st.one_of(
        st.tuples(st.just("spm"), facts),
        st.tuples(st.just("ncf"), some, who, ahead),
        st.tuples(st.just("repair"), some, who),
        st.tuples(
            st.just("wait"), st.sampled_from([0, 1, MS, GRTT, 100 * MS, SECOND, 11 * SECOND])
        ),
        st.tuples(st.just("jump"), symbol),
        st.tuples(st.just("forge"), forged, fields),
        st.tuples(
            st.just("junk"), st.sampled_from(list(PacketType)), fields, st.binary(max_size=90)
        ),
    )
    return draw(st.lists(st.one_of(carousel, carousel, rest), max_size=40))


class TestWhateverHappens:
    OBJECT = make_object(64 * 160, block_symbols=8)

    @given(events(), st.booleans())
    def test_it_ends_asks_within_bounds_and_never_raises(
        self, happening: list[tuple[Any, ...]], is_told: bool
    ) -> None:
        told = frozenset({("R", 1)} if is_told else ())
        receiver = Listening(self.OBJECT, repairers=told)
        head = 0
        receiver.spm()
        for event, *values in happening:
            match event:
                case "hear":
                    count, seed, step = values
                    symbols = [(head + n) % 160 for n in range(count)]
                    lost = Random(seed).sample(symbols, count // 5) if seed else ()
                    receiver.hear(symbols, lost=lost, step=step)
                    head = (head + count) % 160
                case "spm":
                    receiver.spm(place=head, **values[0])
                case "ncf":
                    symbols, who, ahead = values
                    ncf = ncf_packet(self.OBJECT, symbols, offset=ahead, sqn=receiver.sqn)
                    receiver.give([ncf], source=(who, 5_000))
                case "repair":
                    symbols, who = values
                    for packet in rdata_packets(self.OBJECT, symbols):
                        receiver.give([packet], source=(who, 5_000))
                case "wait":
                    receiver.wait(values[0])
                case "jump":
                    head = values[0]
                case "forge":
                    header = {"tsi": 2} | values[1]
                    receiver.spm(source=("R", 5_000), header=header, **values[0])
                case "junk":
                    kind, fields, payload = values
                    junk = builders.packet(kind, payload, **(self.OBJECT.fields | fields))
                    receiver.give([junk], source=("X", 1))
            # An early tick does nothing and a due one moves on: `settle` fails if it does not.
            assert receiver.settle() == 0
        receiver.wait(SECOND)
        times = [at for at, _ in receiver.naks]
        allowed = {("S", 9)} | told
        assert {nak.endpoint for _, nak in receiver.naks} <= allowed
        for at in times:
            assert sum(at <= other < at + GRTT for other in times) <= 2 * 20
