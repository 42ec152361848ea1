"""Nodes of a tree that are as long as symbols: they are read where data is."""

from __future__ import annotations

from collections import Counter

from pgmlite.core.receive.digests import VerifiedTree
from pgmlite.wire.buffers import ReceiveBuffer
from tests.support.builders import endpoint, fill, make_object


def test_nodes_as_long_as_symbols_stay_in_their_order() -> None:
    """Where full nodes lie among the data, the short ones that end a level stay behind theirs."""
    sample = make_object(64 * 500)
    buffer, refused = ReceiveBuffer(64), Counter[str]()
    for one in sample.nodes():
        room = buffer.room()
        assert room is not None
        fill(room, one)
        buffer.add(len(one), len(one), endpoint("a"))
    tree = VerifiedTree(sample.manifest.tree, sample.manifest.tree_digest)
    for batch in buffer.batches(refused):
        for number, node in zip(batch.offsets.tolist(), batch.payload, strict=True):
            assert tree.add(number, node) is not None, number
    assert not refused
