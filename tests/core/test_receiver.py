"""The receiver, driven by hand: what it takes, refuses, stores, verifies, and when it is done."""

from collections import Counter
from typing import ClassVar

import pytest

from pgmlite.core.events import Adopted, Damaged, Superseded
from pgmlite.core.machine import (
    SECOND,
    Complete,
    Held,
    Prepare,
    Store,
    Verify,
)
from pgmlite.core.receive.blocks import FILL_SYMBOLS
from pgmlite.core.receive.transfer import TransferState
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Manifest, manifest_oid
from tests.support.builders import Drive, Sample, make_object, packet, spm_body

# 6 blocks of 8 symbols, the last of 3 symbols of which the last has 20 bytes; a tree of 6 nodes.
ONE = make_object(5 * 512 + 148, name="one.bin")
OTHER = make_object(4_000, name="other.bin", seed=1)
LAST = ONE.manifest.symbols - 1


def kinds(actions: list) -> list[type]:
    return [type(action) for action in actions]


def placed(store: Store) -> list[list[tuple[int, int]]]:
    """Return what a `Store` writes together: (offset, bytes)."""
    return [[(offset, len(run)) for offset, run in runs] for runs in store.pieces()]


def announced(sample: Sample = ONE, **config: int) -> Drive:
    """Return a receiver that has the manifest and the tree."""
    drive = Drive(**config)
    drive.give([sample.spm(), *sample.nodes()])
    assert drive.state is TransferState.RECEIVING
    return drive


class TestTaking:
    def test_data_is_stored_before_the_manifest_comes(self) -> None:
        # spec: RCV-1
        drive = Drive()
        prepare, store = drive.give(ONE.odata([3, 4, 5]))
        assert prepare == Prepare(ONE.manifest.oid, ONE.manifest.size, 64)
        assert list(store.pieces()) == [[(192, ONE.data[192:384])]]
        assert (drive.state, drive.machine.manifest) == (TransferState.COLLECTING, None)
        assert drive.machine.progress == (3, 43)
        (adopted,) = drive.give([ONE.spm()])
        assert adopted == Adopted(0, ONE.manifest, 10_000_000)
        assert drive.state is TransferState.RECEIVING
        drive.give([*ONE.all_odata(), *ONE.nodes()])
        assert drive.is_complete
        assert drive.store.data == ONE.data

    def test_what_came_before_is_not_written_over(self) -> None:
        drive = announced()
        drive.give(ONE.odata([10]))
        (store,) = drive.give(ONE.odata([8, 9, 10, 11, 12]))
        assert placed(store) == [[(512, 128)], [(704, 128)]]
        drive.give(ONE.all_odata())
        assert drive.is_complete
        assert drive.store.data == ONE.data

    def test_what_an_earlier_run_left_is_not_written_over(self) -> None:
        drive = Drive(disk=ONE.data)
        drive.give([ONE.spm()])
        drive.give(ONE.odata([16, 17, 19]))
        assert drive.store.data == ONE.data

    def test_manifest_then_tree_then_data(self) -> None:
        drive = Drive()
        assert kinds(drive.give([ONE.spm()])) == [Prepare, Adopted]
        assert drive.machine.manifest == ONE.manifest
        assert drive.give(ONE.nodes()) == []
        assert kinds(drive.give(ONE.odata(range(8)))) == [Store, Verify]
        assert kinds(drive.give(ONE.odata(range(8, 20)))) == [Store, Verify]
        *stores, last, complete = drive.give(ONE.odata(range(20, LAST + 1)))
        assert last == Verify(ONE.manifest.oid, 5, 2_560, 148, ONE.tree.digests[160:])
        assert complete == Complete(ONE.manifest.oid, ONE.manifest, ONE.tree.digests)
        assert drive.state is TransferState.COMPLETE
        assert drive.store.data == ONE.data
        assert kinds(stores) == [Store, Verify, Verify, Verify, Store]

    @pytest.mark.parametrize("order", ["sto", "sot", "ost", "tsot", "tost", "otst"])
    def test_completes_as_soon_as_all_three_are_there(self, order: str) -> None:
        # Nodes can't be checked before the manifest is there: they have to come again.
        # spec: RCV-12
        parts = {"s": [ONE.spm()], "t": ONE.nodes(), "o": ONE.all_odata()}
        drive = Drive()
        for letter in order:
            assert not drive.is_complete
            drive.give(parts[letter])
        assert drive.is_complete
        assert drive.store.data == ONE.data

    def test_symbols_in_any_order_go_to_their_offsets(self) -> None:
        drive = announced()
        drive.give(ONE.odata([*range(LAST, -1, -2), *range(LAST - 1, -1, -2)]))
        assert drive.is_complete
        assert drive.store.data == ONE.data

    def test_runs_are_stored_in_one_piece(self) -> None:
        drive = announced()
        (store,) = drive.give(ONE.odata([9, 1, 2, 3, 9, 2, 7]))
        assert placed(store) == [[(64, 192), (448, 64), (576, 64)]]
        assert drive.machine.counters.duplicates == 2

    def test_runs_stand_together_only_where_nothing_is_stored_between_them(self) -> None:
        drive = announced()
        drive.give(ONE.odata([6]))
        (store,) = drive.give(ONE.odata([1, 3, 5, 7]))
        assert placed(store) == [[(64, 64), (192, 64), (320, 64)], [(448, 64)]]
        (store,) = drive.give(ONE.odata([10, 10 + FILL_SYMBOLS + 1, 10 + FILL_SYMBOLS + 11]))
        assert [len(runs) for runs in placed(store)] == [2, 1]

    def test_nothing_is_written_over_before_it_was_looked_at(self) -> None:
        # spec: RCV-8
        drive = Drive(disk=OTHER.data)
        drive.give([ONE.spm()])
        assert drive.give(ONE.odata([16, 18, 19])) == []
        assert (drive.machine.counters.early, drive.machine.counters.fetched) == (3, 0)
        drive.give(ONE.nodes())
        (store,) = drive.give(ONE.odata([16, 18, 19]))
        assert placed(store) == [[(1_024, 64), (1_152, 128)]]
        assert (drive.machine.counters.early, drive.machine.counters.fetched) == (3, 3)

    def test_an_empty_object_is_complete_with_its_manifest(self) -> None:
        # spec: RCV-12
        empty = make_object(0)
        drive = Drive(disk=b"left over", oid=empty.manifest.oid)
        assert kinds(drive.give([empty.spm()])) == [Prepare, Adopted, Complete]

    def test_an_empty_object_that_nobody_asked_for_is_never_taken(self) -> None:
        # spec: RCV-16
        empty = make_object(0)
        drive = Drive(disk=b"left over")
        assert drive.give([empty.spm()]) == []
        assert drive.give([empty.spm()], now=60 * SECOND) == []
        assert (drive.refused, drive.state) == ({"empty": 2}, None)
        drive.give([ONE.spm()], now=61 * SECOND)
        # Nor in place of another that fell silent.
        assert drive.give([empty.spm()], now=600 * SECOND) == []
        assert drive.machine.manifest == ONE.manifest

    def test_a_known_manifest_says_nothing_new(self) -> None:
        drive = announced()
        assert drive.give([ONE.spm(sqn=8), ONE.spm(sqn=9)]) == []

    def test_few_blocks_are_verified_at_a_time(self) -> None:
        # spec: RCV-11
        drive = Drive(resume_blocks=2)
        drive.give([ONE.spm(), *ONE.all_odata(), *ONE.nodes()[:3]])
        machine = drive.machine
        assert machine.deadline is None
        assert machine.tick(SECOND) == []
        drive.give(ONE.nodes()[3:], now=-1)  # the leaves, in one batch
        counts = [sum(type(a) is Verify for a in drive.seen)]
        while machine.deadline is not None:
            counts.append(sum(type(a) is Verify for a in drive.perform(machine.tick(0))))
        assert counts == [2, 2, 2]
        assert drive.is_complete


class TestVerifying:
    def test_a_damaged_block_is_fetched_again(self) -> None:
        # spec: RCV-6
        drive = announced()
        forged = ONE.odata([10])[0][:-1] + b"!"
        drive.give([forged])
        *_, damaged = drive.give(ONE.odata(range(16)))
        assert damaged == Damaged(0, ONE.manifest.oid, 1, is_dropped=True)
        assert (drive.machine.counters.damaged, drive.machine.progress) == (1, (8, 43))
        drive.give(ONE.odata(range(16, LAST + 1)))
        assert not drive.is_complete
        drive.give(ONE.odata(range(16)))
        assert drive.is_complete
        assert drive.store.data == ONE.data
        assert Counter(kinds(drive.seen))[Damaged] == 1

    def test_stored_bytes_are_never_replaced(self) -> None:
        # spec: RCV-10
        drive = announced()
        drive.give(ONE.odata(range(8)))
        forged = [one[:-1] + b"!" for one in ONE.odata(range(8))]
        assert drive.give(forged) == []
        assert drive.machine.counters.duplicates == 8
        drive.give(ONE.all_odata())
        assert drive.store.data == ONE.data

    def test_a_block_is_verified_as_soon_as_its_leaf_is_there(self) -> None:
        # spec: RCV-11
        drive = Drive()
        nodes = ONE.nodes()  # the root, two nodes below it, leaves of two blocks each
        drive.give([ONE.spm(), *ONE.all_odata(), *nodes[:3]])
        assert Verify not in kinds(drive.seen)
        looked_at = [
            [action.block for action in drive.give([leaf]) if isinstance(action, Verify)]
            for leaf in (nodes[5], nodes[3], nodes[4])
        ]
        assert looked_at == [[4, 5], [0, 1], [2, 3]]
        assert drive.is_complete

    def test_a_forged_node_before_each_true_one_costs_nothing(self) -> None:
        # spec: TREE-4
        drive = Drive()
        nodes = ONE.nodes()
        forged = [node[:-1] + bytes([node[-1] ^ 1]) for node in nodes]
        both = [one for pair in zip(forged, nodes, strict=True) for one in pair]
        drive.give([ONE.spm(), *both, *ONE.all_odata()])
        assert drive.is_complete
        assert drive.refused == {"tree": len(nodes)}

    def test_nodes_that_are_of_no_use_are_left_aside(self) -> None:
        # spec: TREE-4
        drive = Drive()
        nodes = ONE.nodes()
        drive.give(ONE.odata([0]))
        drive.give([*nodes[:1], ONE.spm(), *reversed(nodes), *nodes, *ONE.all_odata()])
        assert drive.is_complete
        assert drive.refused == {}
        # One before the manifest, all but the root before their parents, the root twice.
        assert drive.machine.counters.nodes_unused == 1 + (len(nodes) - 1) + 1

    def test_nodes_that_fit_no_place_are_refused(self) -> None:
        # spec: TREE-3
        drive = Drive()
        short = packet(PacketType.TREE, bytes(32), **ONE.fields)
        beyond = packet(PacketType.TREE, bytes(64), **(ONE.fields | {"offset": 64 << 40}))
        drive.give([ONE.spm(), short, beyond, *ONE.nodes(), short, *ONE.all_odata()])
        assert drive.is_complete
        assert drive.refused == {"tree": 3}


def forged_spm(sample: Sample, raw: bytes, **fields: int) -> bytes:
    """Return an SPM whose oid is that of the manifest's bytes `raw`, whatever they are."""
    values = sample.fields | {"oid": manifest_oid(raw)} | fields
    return packet(PacketType.SPM, spm_body(raw), **values)


class TestRefusing:
    @pytest.mark.parametrize(
        ("reason", "forged"),
        [
            ("manifest", ONE.spm(oid=ONE.manifest.oid ^ 1)),
            ("manifest", ONE.spm(size=ONE.manifest.size + 1)),
            ("manifest", ONE.spm(symbol_size=68)),
            ("manifest", forged_spm(ONE, ONE.manifest.raw[:-1])),
            ("manifest", forged_spm(ONE, b"")),
            ("manifest", forged_spm(ONE, bytes(1_100))),
            ("spm", ONE.spm()[:-1]),
            ("spm", ONE.spm() + b"\0"),
            ("spm", ONE.spm()[:48]),
        ],
    )
    @pytest.mark.parametrize(
        "before", [[], ONE.odata([0]), [OTHER.spm()]], ids=["", "odata", "spm"]
    )
    def test_spm(self, before: list[bytes], reason: str, forged: bytes) -> None:
        drive = Drive()
        drive.give(before)
        state = drive.state
        assert drive.give([forged], now=60 * SECOND) == []
        assert drive.refused == {reason: 1}
        assert drive.state is state

    def test_another_manifest_for_the_oid_in_hand(self) -> None:
        # spec: RCV-3
        drive = announced()
        body = spm_body(OTHER.manifest.raw)
        assert drive.give([packet(PacketType.SPM, body, **ONE.fields), ONE.spm(size=64)]) == []
        assert drive.refused == {"manifest": 2}
        assert drive.machine.manifest == ONE.manifest

    def test_packets_of_other_objects(self) -> None:
        # spec: RCV-5
        drive = announced()
        foreign = [*OTHER.all_odata()[:-1], *OTHER.nodes()[:1], OTHER.spm()]
        assert drive.give([*foreign, *ONE.odata([0], size=10_000)]) == []
        assert drive.give(ONE.odata([0], symbol_size=128)) == []
        assert drive.refused["object"] == len(foreign) + 1
        assert drive.machine.progress == (0, 43)

    def test_foreign_packets_between_our_own(self) -> None:
        drive = announced()
        mixed = [p for pair in zip(ONE.all_odata(), OTHER.all_odata(), strict=False) for p in pair]
        drive.give(mixed[:-2])
        drive.give(ONE.odata([LAST]))
        assert drive.is_complete
        assert drive.store.data == ONE.data
        assert drive.refused == {"object": 42}

    @pytest.mark.parametrize(
        ("limits", "size", "block_symbols"),
        [
            ({"max_object_size": 10_000}, 10_001, 8),
            ({"max_symbols": 100}, 6_401, 8),
            ({}, (1 << 40) + 1, 4_096),
            ({}, (1 << 30) * 64 + 1, 4_096),
        ],
    )
    def test_too_large_objects(self, limits: dict[str, int], size: int, block_symbols: int) -> None:
        # spec: RCV-2
        manifest = Manifest(64, block_symbols, size, bytes(32), "huge")
        fields = {"symbol_size": 64, "size": size, "oid": manifest.oid}
        drive = Drive(**limits)
        spm = packet(PacketType.SPM, spm_body(manifest.raw), **fields)
        odata = packet(PacketType.ODATA, bytes(64), **fields)
        assert drive.give([odata, odata, spm]) == []
        assert drive.refused == {"too_large": 3}
        assert drive.state is None

    @pytest.mark.parametrize(
        ("block_symbols", "blocks", "repair_symbols"),
        [(1, (1 << 20) + 1, 0), (1_024, 1 << 19, 7_000)],
    )
    def test_too_many_blocks(self, block_symbols: int, blocks: int, repair_symbols: int) -> None:
        size = 64 * block_symbols * blocks
        manifest = Manifest(
            64, block_symbols, size, bytes(32), "huge", repair_symbols=repair_symbols
        )
        drive = Drive()
        drive.give([forged_spm(Sample(b"", manifest, b""), manifest.raw)])
        assert drive.refused == {"too_large": 1}

    def test_all_but_the_object_asked_for(self) -> None:
        drive = Drive(oid=ONE.manifest.oid)
        assert drive.give([*OTHER.odata(range(5)), OTHER.spm()], now=60 * SECOND) == []
        assert drive.refused == {"object": 6}
        drive.give([*ONE.all_odata(), ONE.spm(), *ONE.nodes(), OTHER.spm()])
        assert drive.is_complete
        assert drive.store.data == ONE.data

    @pytest.mark.parametrize("limit", [1, 64])
    def test_one_foreign_packet_does_not_cost_the_batch(self, limit: int) -> None:
        drive = Drive(oid=ONE.manifest.oid)
        drive.give([*OTHER.odata([0]), *ONE.odata(range(5))], limit=limit)
        assert drive.refused == {"object": 1}
        assert drive.machine.progress == (5, 43)


class TestSwitching:
    def test_an_unannounced_object_gives_way_to_an_announced_one(self) -> None:
        drive = Drive()
        drive.give(OTHER.odata(range(20)))
        assert drive.give(ONE.odata([0])) == []
        assert kinds(drive.give([ONE.spm()])) == [Prepare, Adopted]
        drive.give([*ONE.nodes(), *ONE.all_odata()])
        assert drive.is_complete
        assert drive.store.data[: ONE.manifest.size] == ONE.data

    def test_a_forged_size_gives_way_to_the_manifest(self) -> None:
        drive = Drive()
        drive.give(ONE.odata([0], size=1 << 36))
        assert kinds(drive.give([ONE.spm()])) == [Prepare, Adopted]
        drive.give([*ONE.nodes(), *ONE.all_odata()])
        assert drive.is_complete

    def test_another_object_waits_for_silence(self) -> None:
        # spec: RCV-4
        drive = announced()
        drive.give(ONE.odata([0]), now=10 * SECOND)
        assert drive.give([OTHER.spm()], now=15 * SECOND - 1) == []
        assert drive.refused == {"object": 1}
        superseded, prepare, adopted = drive.give([OTHER.spm()], now=15 * SECOND)
        assert superseded == Superseded(15 * SECOND, ONE.manifest.oid, OTHER.manifest.oid)
        assert prepare == Prepare(OTHER.manifest.oid, OTHER.manifest.size, 64)
        assert adopted == Adopted(15 * SECOND, OTHER.manifest, 10_000_000)
        drive.give([*OTHER.nodes(), *OTHER.all_odata()])
        assert drive.is_complete
        assert drive.store.data == OTHER.data

    @pytest.mark.parametrize("alive", [[ONE.spm(sqn=9)], ONE.odata([0])])
    def test_who_announces_and_sends_the_object_keeps_it(self, alive: list[bytes]) -> None:
        # spec: RCV-22
        drive = announced()
        drive.give(ONE.odata([1]))
        drive.give(alive, now=4 * SECOND)
        drive.give([OTHER.spm()], now=8 * SECOND)
        assert drive.machine.manifest == ONE.manifest

    @pytest.mark.parametrize(
        "copied",
        [
            ONE.nodes(),
            [ONE.nodes()[0][:49]],
            [ONE.spm(sqn=9, tsi=77)],
            ONE.odata([0], tsi=77),
            ONE.odata([0], type=PacketType.RDATA),
        ],
    )
    def test_what_anybody_can_copy_does_not(self, copied: list[bytes]) -> None:
        # spec: RCV-22
        drive = announced()
        drive.give(ONE.odata([1]))
        for quarter in range(1, 20):
            drive.give(copied, now=quarter * SECOND // 4)
        drive.give([OTHER.spm()], now=5 * SECOND)
        assert drive.machine.manifest == OTHER.manifest

    ALONE: ClassVar[dict[str, int]] = {"repair_share": 100, "repair_port": 9}

    def test_a_repairer_that_was_left_behind_does_not_keep_it(self) -> None:
        # spec: RCV-4
        drive = announced()
        drive.give(ONE.odata([0]), now=10 * SECOND)
        fields = {"tsi": 9}
        for tenth in range(1, 50):
            spm = packet(0, spm_body(ONE.manifest.raw, **self.ALONE), **(ONE.fields | fields))
            repair = ONE.odata([1], type=PacketType.RDATA, **fields)
            drive.give([spm, *repair], now=10 * SECOND + tenth * SECOND // 10)
            assert drive.give([OTHER.spm()], now=10 * SECOND + tenth * SECOND // 10) == []
        assert Superseded in kinds(drive.give([OTHER.spm()], now=15 * SECOND))
        assert drive.machine.manifest == OTHER.manifest

    def test_a_repairer_announces_nothing(self) -> None:
        # spec: RCV-4
        spm = packet(0, spm_body(ONE.manifest.raw, **self.ALONE), **ONE.fields)
        drive = Drive()
        assert drive.give([spm]) == []
        assert drive.refused == {"object": 1}
        drive.give([OTHER.spm()])
        assert drive.give([spm], now=60 * SECOND) == []
        assert drive.machine.manifest == OTHER.manifest

    def test_a_repairer_brings_the_manifest_of_what_is_sent(self) -> None:
        spm = packet(0, spm_body(ONE.manifest.raw, **self.ALONE), **ONE.fields)
        drive = Drive()
        drive.give(ONE.odata([0]))
        assert kinds(drive.give([spm])) == [Adopted]
        drive.give([*ONE.nodes(), *ONE.all_odata()])
        assert drive.is_complete

    def test_data_of_another_object_never_takes_over(self) -> None:
        drive = announced()
        assert drive.give(OTHER.all_odata(), now=60 * SECOND) == []
        assert drive.machine.manifest == ONE.manifest


class TestResuming:
    def test_what_is_right_needs_no_data(self) -> None:
        drive = Drive(disk=ONE.data)
        drive.give([ONE.spm(), *ONE.nodes()])
        assert drive.is_complete
        assert Counter(kinds(drive.seen)) == {Prepare: 1, Adopted: 1, Verify: 6, Complete: 1}
        assert drive.machine.progress == (43, 43)

    @pytest.mark.parametrize("first", [[ONE.spm()], ONE.odata([20])], ids=["spm", "odata"])
    def test_what_is_wrong_is_fetched(self, first: list[bytes]) -> None:
        disk = bytearray(ONE.data + b"of a longer file")
        disk[600] ^= 1
        drive = Drive(disk=bytes(disk))
        drive.give([*first, ONE.spm(), *ONE.nodes()])
        assert drive.machine.progress == (35, 43)
        drive.give(ONE.odata(range(8, 16)))
        assert drive.is_complete
        assert drive.store.data[: ONE.manifest.size] == ONE.data
        assert drive.machine.counters.damaged == 0

    def test_data_before_the_manifest_write_over_nothing(self) -> None:
        # spec: RCV-8
        drive = Drive(disk=ONE.data)
        drive.give(ONE.odata(range(0, 43, 5)))
        drive.give([ONE.spm(), *ONE.nodes()])
        assert drive.is_complete

    def test_a_block_with_holes_is_looked_at_once(self) -> None:
        drive = Drive()
        drive.give([ONE.spm()])
        held = Held(extents=[(64 * n, 64 * n + 32) for n in range(43)])
        drive.machine.resume(ONE.manifest.oid, held)
        actions = drive.give(ONE.nodes())
        blocks = [action.block for action in drive.seen if isinstance(action, Verify)]
        assert actions
        assert sorted(blocks) == list(range(6))

    @pytest.mark.parametrize("held", [1, 511, 512, 513, 2_559])
    def test_a_part_is_used_by_whole_blocks(self, held: int) -> None:
        # spec: RCV-8
        drive = Drive(disk=ONE.data[:held])
        drive.give([ONE.spm(), *ONE.nodes()])
        assert drive.machine.progress == (held // 512 * 8, 43)

    def test_nothing_of_another_file_is_used(self) -> None:
        drive = Drive(disk=OTHER.data)
        drive.give([ONE.spm(), *ONE.nodes()])
        assert drive.machine.progress == (0, 43)
        drive.give(ONE.all_odata())
        assert drive.is_complete
        assert drive.machine.counters.damaged == 0
