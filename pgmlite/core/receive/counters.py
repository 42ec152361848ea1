"""What a receiver counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class ReceiverCounters:
    """What a receiver has seen since its start, over all objects; names as in ``--json``."""

    packets: int = 0
    bytes: int = 0
    odata: int = 0
    rdata: int = 0
    fetched: int = 0
    """Symbols that came in packets and were stored."""

    early: int = 0
    """Symbols that came before what lies in their place was looked at, and were not stored."""

    duplicates: int = 0
    congested: int = 0
    """Packets that a router marked instead of dropping them (ECN)."""

    nodes_unused: int = 0
    """Nodes of the tree of blocks that came before their parent or the manifest, or again."""

    damaged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
