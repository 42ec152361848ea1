"""NAKs that are about to leave, and their packets (spec: NAK-12, NAK-15)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic

import numpy as np

from pgmlite.core.machine import SendNak
from pgmlite.core.needs import Count, Exact
from pgmlite.core.receive.demand import N
from pgmlite.core.receive.repairers import KnownRepairer
from pgmlite.wire.batch import HEADER_DTYPE
from pgmlite.wire.layout import MAGIC, VERSION, PacketType
from pgmlite.wire.request import NAK_ROOM, build_nak


@dataclass(frozen=True, slots=True)
class Ask(Generic[N]):
    """Send a NAK for `need` to `repairer`."""

    repairer: KnownRepairer
    need: N


def joined(asks: Iterable[Ask[N]]) -> list[Ask[N]]:
    """Return the fewest NAKs that say `asks`, all of one repairer, without splitting one."""
    found: list[Ask[N]] = []
    for ask in sorted(asks, key=lambda ask: ask.need.bounds):
        if found:
            together = found[-1].need.joined(ask.need)
            if together.fits(NAK_ROOM):
                found[-1] = Ask(ask.repairer, together)
                continue
        found.append(ask)
    return found


def build_nak_packet(
    now: int,
    ask: Ask[Exact] | Ask[Count],
    *,
    symbol_size: int,
    oid: int,
    size: int,
    sqn: int,
    loss: float,
) -> SendNak:
    """Return the NAK that says `ask`.

    Args:
        sqn: The highest sequence number seen of the session that is asked; 0: none.
        loss: Share of packets lost, 0 to 1.
    """
    repairer = ask.repairer
    _, tsi, channel = repairer.key
    row = np.zeros(1, HEADER_DTYPE)
    row["magic"], row["version"], row["type"] = MAGIC, VERSION, PacketType.NAK
    row["channel"], row["symbol_size"], row["tsi"] = channel, symbol_size, tsi
    row["oid"], row["size"], row["sqn"] = oid, size, sqn
    request, _ = ask.need.pack(NAK_ROOM)
    echo = (repairer.timestamp + now - repairer.heard) % (1 << 64)
    body = build_nak(repairer.nonce, echo, loss, request)
    return SendNak(repairer.endpoint, row.tobytes() + body)
