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
    repair_symbols_received: int = 0
    """Of `odata` and `rdata`, those that carry repair symbols."""

    fetched: int = 0
    """Symbols that came in packets and were kept."""

    early: int = 0
    """Symbols that came before what lies in their place was looked at, or repair symbols before
    the manifest, or any of an object with tiles: not kept."""

    unneeded: int = 0
    """Symbols of blocks that have enough of others."""

    duplicates: int = 0
    congested: int = 0
    """Packets that a router marked instead of dropping them (ECN)."""

    nodes_unused: int = 0
    """Nodes of the tree of blocks that came before their parent or the manifest, or again."""

    decoded: int = 0
    """Blocks that are right by decoding."""

    recovered: int = 0
    """Source symbols that are there by decoding."""

    damaged: int = 0
    """Times that a block did not match its digest."""

    forged: int = 0
    """Symbols that were found to be other ones than were sent."""

    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class NakCounters:
    """Names as in ``--json``."""

    naks_sent: int = 0
    naks_suppressed: int = 0
    ncfs_received: int = 0
