"""Strips, blocks, and the tree of blocks, against what section 4 of the spec says in words."""

import time

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.wire.digests import BlockTree, TreeShape, block_digest, strip_digests

SYMBOL_SIZES = st.integers(16, 400).map(lambda n: 4 * n)
BLOCKS = st.integers(1, 3_000) | st.integers(1, 12)
SHAPES = st.builds(TreeShape, BLOCKS, SYMBOL_SIZES)


def hashed(data: bytes) -> bytes:
    return blake3(data).digest()


def made(blocks: int) -> list[bytes]:
    """Return digests that stand for those of blocks."""
    return [hashed(b"%d" % block) for block in range(blocks)]


@pytest.mark.parametrize("length", [1, 63, 64, 1_023, 1_024, 1_025, 2_048, 5_000])
def test_a_block_is_the_digest_of_the_digests_of_its_strips(length: int) -> None:
    # spec: TREE-1
    data = bytes(at % 251 for at in range(length))
    strips = [hashed(data[at : at + 16 * 64]) for at in range(0, length, 16 * 64)]
    assert strip_digests(data, 64) == b"".join(strips)
    assert block_digest(memoryview(data), 64) == hashed(b"".join(strips))


@given(BLOCKS, SYMBOL_SIZES)
def test_levels_hold_the_digests_of_those_below(blocks: int, symbol_size: int) -> None:
    # spec: TREE-2
    below = made(blocks)
    levels = []
    while not levels or len(below) > 1:
        most = symbol_size // 32
        nodes = [b"".join(below[at : at + most]) for at in range(0, len(below), most)]
        levels.append(nodes)
        below = [hashed(node) for node in nodes]
    tree = BlockTree(b"".join(made(blocks)), symbol_size)
    assert tree.root == below[0]
    assert tree.digests == b"".join(made(blocks))
    nodes = [node for level in reversed(levels) for node in level]
    assert tree.shape.nodes == len(nodes)
    assert [tree.node(number) for number in range(len(nodes))] == nodes
    assert tree.shape.leaves == range(len(nodes) - len(levels[0]), len(nodes))


@given(SHAPES)
def test_everything_has_one_place_below_its_parent(shape: TreeShape) -> None:
    every = range(shape.nodes + shape.blocks)
    assert [child for node in range(shape.nodes) for child in shape.children(node)] == [*every[1:]]
    for node in range(shape.nodes):
        children = shape.children(node)
        assert {shape.parent(child) for child in children} == {node}
        assert 1 <= len(children) <= shape.fanout
        assert shape.length(node) == 32 * len(children) <= shape.symbol_size
        assert (node in shape.leaves) == (children[0] >= shape.nodes)
        assert shape.parent(node) < node
        above = shape.above(node)
        assert above == sorted(above)
        assert [*above, node][0] == 0
        assert [shape.parent(one) for one in [*above[1:], node] if one] == above
    assert sum(shape.levels) == shape.nodes == len({*range(shape.nodes)})
    assert shape.levels[0] == 1


@given(SHAPES)
def test_the_order_of_sending_goes_round_with_parents_first(shape: TreeShape) -> None:
    # spec: SND-4
    order = [0]
    while after := shape.after(order[-1]):
        assert shape.parent(after) in order
        order.append(after)
    assert sorted(order) == list(range(shape.nodes))
    leaves = [node for node in order if node in shape.leaves]
    assert leaves == list(shape.leaves)


def test_of_nothing_there_are_no_nodes() -> None:
    # spec: OBJ-4
    tree = BlockTree(b"", 64)
    assert (tree.shape.nodes, tree.shape.levels, tree.shape.row_size) == (0, (), 0)
    assert tree.root == hashed(b"")


def test_a_million_blocks_take_seconds() -> None:
    began = time.process_time()
    tree = BlockTree(bytes(32 << 20), 1_404)
    assert tree.shape.levels == (1, 14, 568, 24_386)
    assert len(tree.node(24_968)) == 32 * ((1 << 20) % 43)
    assert time.process_time() - began < 5
