"""What a receiver knows of the tree of blocks, and what it looks at when."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.receive.digests import Candidates, VerifiedTree
from pgmlite.errors import RefusedPacket
from pgmlite.wire.manifest import Manifest
from tests.support.builders import Sample, make_object

SAMPLE = make_object(13 * 512 - 100)  # 13 blocks; nodes of 2: 1, 2, 4, 7
NODES = SAMPLE.tree.shape.nodes


def octets(node: bytes) -> np.ndarray:
    return np.frombuffer(node, np.uint8)


def verified_tree(manifest: Manifest) -> VerifiedTree:
    return VerifiedTree(manifest.tree, manifest.tree_digest)


def give(tree: VerifiedTree, number: int, of: Sample = SAMPLE) -> range | None:
    return tree.add(number, octets(of.tree.node(number)))


class TestVerifiedTree:
    @given(st.lists(st.integers(0, NODES - 1)))
    def test_takes_each_node_once_and_after_its_parent(self, numbers: list[int]) -> None:
        # spec: TREE-4
        tree, taken = verified_tree(SAMPLE.manifest), set()
        for number in [*numbers, *range(NODES)]:
            is_of_use = number not in taken and (not number or tree.shape.parent(number) in taken)
            found = give(tree, number)
            assert (found is not None) == is_of_use
            taken |= {number} if is_of_use else set()
            leaves = taken & set(tree.shape.leaves)
            known = {child - NODES for leaf in leaves for child in tree.shape.children(leaf)}
            assert set(np.flatnonzero(tree.knows(np.arange(13))).tolist()) == known
            if found:
                assert set(found) <= known
                assert number in leaves
        for block in range(13):
            digest = SAMPLE.tree.digests[32 * block : 32 * block + 32]
            assert tree.block_digest(block) == digest
        assert tree.digests == SAMPLE.tree.digests

    @pytest.mark.parametrize("number", range(NODES))
    def test_refuses_what_does_not_match_its_parent(self, number: int) -> None:
        # spec: TREE-4
        tree = verified_tree(SAMPLE.manifest)
        for one in SAMPLE.tree.shape.above(number):
            assert give(tree, one) is not None
        forged = bytearray(SAMPLE.tree.node(number))
        forged[Random(number).randrange(len(forged))] ^= 1
        with pytest.raises(RefusedPacket) as caught:
            tree.add(number, octets(bytes(forged)))
        assert caught.value.reason == "tree"
        assert give(tree, number) is not None

    @pytest.mark.parametrize(
        ("number", "width"),
        [(0, 32), (0, 96), (13, 64), (13, 0), (14, 64), (20, 32), (1 << 62, 64)],
    )
    def test_refuses_what_fits_no_place(self, number: int, width: int) -> None:
        # spec: TREE-3
        with pytest.raises(RefusedPacket) as caught:
            verified_tree(SAMPLE.manifest).add(number, np.zeros(width, np.uint8))
        assert caught.value.reason == "tree"

    def test_a_forged_manifest_costs_no_memory(self) -> None:
        # spec: TREE-5
        # Pages nobody wrote to are not there; the kernel says how many are.
        def resident() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096

        before = resident()
        forged = Manifest(64, 1, 64 << 20, bytes(32), "forged")
        trees = [verified_tree(forged) for _ in range(8)]
        waiting = [Candidates(tree) for tree in trees]
        assert resident() - before < 8 << 20
        assert [one.due for one in waiting] == [0] * 8
        assert sum(tree.shape.row_size for tree in trees) > 500 << 20


class TestCandidates:
    @given(st.permutations(range(13)), st.permutations(range(7)), st.integers(0, 12))
    def test_each_is_taken_once_when_its_leaf_is_there(
        self, blocks: list[int], leaves: list[int], head: int
    ) -> None:
        # spec: RCV-11
        tree = verified_tree(SAMPLE.manifest)
        candidates = Candidates(tree)
        for number in range(NODES - 7):
            assert give(tree, number) == range(0)
        waiting: set[int] = set()
        taken = []
        steps = [("block", block) for block in blocks] + [("leaf", leaf) for leaf in leaves]
        Random(str(blocks)).shuffle(steps)
        known: set[int] = set()
        for kind, number in steps:
            if kind == "block":
                candidates.add([number])
                waiting.add(number)
            else:
                found = give(tree, NODES - 7 + number)
                assert found is not None
                candidates.learn(found)
                known |= set(found)
            due = waiting & known
            assert candidates.due == len(due)
            if number % 2 and due:
                block = candidates.take(head)
                assert block == min(due, key=lambda one: (one - head) % 13)
                taken.append(block)
                waiting.remove(block)
        while candidates.due:
            taken.append(candidates.take(head))
        assert sorted(taken) == list(range(13))

    def test_a_block_may_come_again(self) -> None:
        tree = verified_tree(SAMPLE.manifest)
        candidates = Candidates(tree)
        for number in range(NODES):
            give(tree, number)
        candidates.add([3, 4])
        candidates.add([4])
        assert (candidates.due, candidates.take(0), candidates.take(0)) == (2, 3, 4)
        candidates.add([3])
        assert (candidates.due, candidates.take(0), candidates.due) == (1, 3, 0)
