"""What came on each channel in a short time: bits, and packets lost by their numbers.

What NAKs and statistics count as lost (`losses`) is exact, and belongs to an object. This is
evidence about a path, and has to stand up to forgery: a packet whose number is made up counts for
no more than a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pgmlite.core.config_listening import RatesConfig
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.serial import Sqns
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.endpoint import udp_headers


def lost_between(sqns: Sqns, most: int) -> tuple[int, int]:
    """Return how many packets of one session came, repeated ones once, and how many are missing.

    Args:
        sqns: At least one, in any order.
        most: What is missing between two of them counts as so many at most.
    """
    ahead = (sqns - sqns[0]).view(np.int32).astype(np.int64)
    ahead.sort()
    gaps = ahead[1:] - ahead[:-1]
    came = 1 + int(np.count_nonzero(gaps))
    return came, int((gaps - 1).clip(0, most).sum())


@dataclass(slots=True)
class Seen:
    """What came on some channels in some time.

    Attributes:
        bits: On the wire, IP headers included.
        received: Packets, of which it is known what was lost beside them.
    """

    bits: int = 0
    received: int = 0
    lost: int = 0

    @property
    def packets(self) -> int:
        """Received and lost."""
        return self.received + self.lost

    @property
    def loss(self) -> float:
        """Share of the packets that were lost, 0 to 1."""
        return self.lost / max(1, self.packets)

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.bits + other.bits, self.received + other.received, self.lost + other.lost)


def _together(counts: Sequence[tuple[int, int]]) -> Seen:
    """Return what came of a channel's sessions, whose (received, lost) packets are given.

    The share that each lost counts by the packets that came of it: who invents a session makes up
    what it lost, and has to send for it what is to be believed.
    """
    received = sum(came for came, _ in counts)
    mean = sum(came * lost / (came + lost) for came, lost in counts) / max(1, received)
    return Seen(0, received, round(received * mean / (1 - mean)))


@dataclass(slots=True)
class _Session:
    bits: int = 0
    sqns: list[Sqns] = field(default_factory=list)


class Traffic:
    """Takes what comes on channels, between two looks."""

    def __init__(self, config: RatesConfig) -> None:
        self._config = config
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._sessions: dict[SessionKey, _Session] = {}
        self._bits: dict[int, int] = {}
        self.packets = 0

    def take(self, batch: PacketBatch) -> None:
        """Take packets of one channel."""
        rows, channel = batch.rows, batch.channel
        headers = HEADER_SIZE + udp_headers(batch.source.address)
        packet = 8 * (batch.payload.shape[1] + headers)
        self._bits[channel] = self._bits.get(channel, 0) + packet * len(rows)
        is_counted = self.packets < self._config.max_counted
        self.packets += len(rows)
        if not is_counted:
            return
        sqns, tsis = rows["sqn"].astype(np.uint32), rows["tsi"]
        alike = len(rows) == 1 or bool((tsis == tsis[0]).all())
        for tsi in tsis[:1] if alike else np.unique(tsis):
            key = batch.source, int(tsi), channel
            session = self._sessions.get(key)
            if session is None:
                if len(self._sessions) >= self._config.max_sessions:
                    # Strangers can invent senders without end, each with few packets.
                    del self._sessions[
                        min(self._sessions, key=lambda one: self._sessions[one].bits)
                    ]
                session = self._sessions[key] = _Session()
            mine = sqns if alike else sqns[tsis == tsi]
            session.sqns.append(mine)
            session.bits += packet * len(mine)

    def look(self) -> tuple[dict[int, Seen], dict[int, list[int]]]:
        """Return what came since the last look: on each channel, and the bits of its sessions."""
        seen = {channel: Seen(bits) for channel, bits in self._bits.items()}
        sessions: dict[int, list[int]] = {channel: [] for channel in seen}
        counts: dict[int, list[tuple[int, int]]] = {channel: [] for channel in seen}
        for (_, _, channel), session in self._sessions.items():
            counts[channel].append(
                lost_between(np.concatenate(session.sqns), self._config.most_gap)
            )
            sessions[channel].append(session.bits)
        self._begin_anew()
        return {one: seen[one] + _together(counts[one]) for one in seen}, sessions


class Onset:
    """When losses began during a try, and when the channel that is tried."""

    def __init__(self, config: RatesConfig, now: int) -> None:
        self._every, self._patience = config.try_look, config.onset
        self.traffic = Traffic(config)
        self._looks = 0
        self._next = now + self._every
        self._came: int | None = None
        self._lost: int | None = None

    @property
    def deadline(self) -> int:
        """When to look next, ns."""
        return self._next

    def tick(self, now: int, tried: int, most_loss: float) -> None:
        """Look what came of it since the last time.

        Args:
            tried: The channel that is tried.
            most_loss: Share of packets lost that is usual.
        """
        if now < self._next:
            return
        self._next = now + self._every
        self._looks += 1
        by_channel, _ = self.traffic.look()
        seen = sum(by_channel.values(), Seen())
        if self._came is None and tried in by_channel:
            self._came = self._looks
        if self._lost is None and seen.lost > 1 and seen.loss > most_loss:
            self._lost = self._looks

    @property
    def is_own(self) -> bool:
        """Whether losses, if there were any, began when the channel that is tried came."""
        if self._lost is None or self._came is None:
            return True
        return self._came <= self._lost <= self._came + self._patience
