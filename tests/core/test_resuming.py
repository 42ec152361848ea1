"""What is there before the first packet: records that are believed or not, bytes that may match."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.events import Damaged
from pgmlite.core.machine import LYING, Complete, Held, Prepare, Verify
from pgmlite.core.receive.transfer import TransferState
from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import Drive, Sample, make_object
from tests.support.nak_builders import spm_packet

ONE = make_object(5 * 512 + 148, name="one.bin")  # 6 blocks of 8 symbols, the last of 3
OTHER = make_object(4_000, name="other.bin", seed=1)
ALL = range(ONE.manifest.symbols)


class Recorded(Drive):
    """A receiver whose disk has a record of what lies there."""

    def __init__(self, disk: bytes, symbols, **config) -> None:
        super().__init__(disk=disk, **config)
        lying = np.zeros(len(ALL), LYING)
        held = np.array(sorted(symbols), np.int64)
        lying[held] = held % 8 + 1
        prepare = self.store.prepare

        def recorded(wanted: Prepare) -> Held:
            prepare(wanted)
            return Held([(0, lying)], 8)

        self.store.prepare = recorded


def announced(drive: Drive, sample: Sample = ONE) -> Drive:
    drive.give([sample.spm(), *sample.nodes()])
    return drive


def forged(symbols) -> list[bytes]:
    return [packet[:-1] + bytes([packet[-1] ^ 1]) for packet in ONE.odata(symbols)]


@given(symbols=st.sets(st.sampled_from(ALL)), before=st.booleans())
def test_only_what_the_record_does_not_have_is_fetched(symbols, before):
    # spec: RCV-8
    drive = Recorded(ONE.data, symbols)
    if before:  # the first packet comes before the manifest
        drive.give(ONE.odata([0]))
    announced(drive)
    assert drive.machine.progress[0] == len(symbols | ({0} if before else set()))
    drive.give(ONE.all_odata())
    assert drive.is_complete
    assert drive.store.data == ONE.data
    assert drive.machine.counters.fetched == len(set(ALL) - symbols)
    assert drive.machine.counters.damaged == 0


def test_a_wrong_record_costs_the_blocks_that_it_is_wrong_about():
    disk = bytearray(ONE.data)
    disk[2 * 512 + 7] ^= 1
    drive = announced(Recorded(bytes(disk), ALL))
    assert drive.machine.progress == (len(ALL) - 8, len(ALL))
    assert drive.machine.counters.damaged == 0  # nobody sent these bytes
    drive.give(ONE.all_odata())
    assert drive.is_complete
    assert drive.machine.counters.fetched == 8
    assert drive.store.data == ONE.data


def test_a_stranger_can_not_spoil_what_the_record_has():
    drive = Recorded(ONE.data, range(40))
    drive.give(forged(range(8)))
    drive.give([ONE.spm()])
    drive.give(forged(range(8, 16)))
    announced(drive)
    drive.give(ONE.odata(range(40, 43)))
    assert drive.is_complete
    assert drive.store.data == ONE.data


def test_a_stranger_can_not_spoil_what_nobody_has_looked_at():
    # spec: RCV-8
    drive = Drive(disk=ONE.data[: 4 * 512])
    drive.give(forged(range(0, 43, 3)))
    drive.give([ONE.spm()])
    drive.give(forged(range(1, 32, 3)))
    assert drive.machine.counters.fetched == 0
    drive.give(ONE.nodes())
    assert drive.machine.progress == (32, len(ALL))
    drive.give(ONE.odata(range(32, 43)))
    assert drive.is_complete
    assert drive.store.data == ONE.data


def test_where_nothing_may_match_symbols_are_stored_at_once():
    drive = Drive(disk=ONE.data[:512])
    drive.give([ONE.spm()])
    drive.give(ONE.odata(range(6, 12)))
    assert drive.machine.counters.early == 2
    assert drive.machine.counters.fetched == 4


def test_what_the_carousel_brings_next_is_looked_at_first():
    drive = Drive(disk=OTHER.data[: len(ONE.data)], resume_blocks=1)
    drive.give([ONE.spm()])
    drive.give(ONE.odata([27]))
    drive.give(ONE.nodes())
    looked = [action.block for action in drive.seen if isinstance(action, Verify)]
    assert looked == [3, 4, 5, 0, 1, 2]


def test_nobody_is_asked_for_what_may_be_there():
    drive = Drive(disk=OTHER.data[: len(ONE.data)], repairers=frozenset({Endpoint("a", 9)}))
    drive.give([spm_packet(ONE), *ONE.odata(range(5))])
    drive.give(ONE.odata(range(9, 20)))
    assert drive.machine.knows_repairer
    assert drive.machine.deadline is None
    drive.give(ONE.nodes())
    assert drive.machine.deadline is not None


def test_blocks_that_turn_out_to_be_spoilt_are_fetched_again():
    drive = announced(Drive())
    drive.give(ONE.all_odata())
    assert drive.state is TransferState.COMPLETE
    assert drive.machine.doubt(ONE.manifest.oid, []) == []
    assert drive.state is TransferState.COMPLETE
    assert drive.perform(drive.machine.doubt(ONE.manifest.oid, [1, 5])) == [
        Damaged(0, ONE.manifest.oid, block, is_dropped=True) for block in (1, 5)
    ]
    assert drive.state is TransferState.RECEIVING
    assert drive.machine.progress == (len(ALL) - 8 - 3, len(ALL))
    drive.give(ONE.all_odata())
    assert drive.state is TransferState.COMPLETE
    assert sum(isinstance(action, Complete) for action in drive.seen) == 2
    assert drive.store.data == ONE.data


@pytest.mark.parametrize("kind", ["spm", "data"])
def test_another_object_is_asked_about_anew(kind):
    drive = Drive(disk=OTHER.data)
    drive.give(ONE.odata([0]) if kind == "data" else [ONE.spm()])
    drive.give([OTHER.spm(), *OTHER.nodes()], now=10_000_000_000)
    assert drive.is_complete
    assert drive.store.data[: len(OTHER.data)] == OTHER.data
