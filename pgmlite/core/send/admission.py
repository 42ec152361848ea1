"""Which NAKs are looked at: cheap checks first, then budgets (spec: REP-2, REP-9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import RepairConfig
from pgmlite.core.machine import SECOND
from pgmlite.core.send.alone import Account
from pgmlite.core.timing import TokenBucket, cost_of
from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import NAK_HEAD_DTYPE, Nak, parse_nak

NONCE = np.dtype({"names": ["nonce"], "formats": [NAK_HEAD_DTYPE["nonce"]], "offsets": [0]})
NONCES = 3
"""How many are good: each for so many lifetimes."""


@dataclass(slots=True)
class Source:
    """What one address may still ask for.

    Attributes:
        naks: Its budget of NAKs.
        symbols: Its budget of symbols.
        asked_at: When its latest NAK came, ns.
        accounts: What it had of each lane.
    """

    naks: TokenBucket
    symbols: TokenBucket
    asked_at: int
    accounts: dict[object, Account] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A NAK that is answered.

    Attributes:
        heard: The highest sqn that its sender saw.
    """

    nak: Nak
    heard: int
    source: Source


class Admission:
    """Checks the NAKs to one session, whatever lane they speak of."""

    def __init__(self, config: RepairConfig, manifest: Manifest, *, rng: Random) -> None:
        """
        Args:
            rng: Draws the nonces.
        """
        self._config = config
        self._manifest = manifest
        geometry = manifest.geometry
        self._shape = geometry.symbols, geometry.counted
        """What requests are checked against."""

        self._rng = rng
        self._nak_cost = cost_of(config.naks_per_second)
        self._source_nak_cost = cost_of(config.source_naks_per_second)
        # A quarter of a second's NAKs may come at once.
        self._naks = TokenBucket(SECOND // 4, -SECOND)
        self._sources: dict[str, Source] = {}
        self._nonces = [rng.getrandbits(64)] * NONCES
        self._nonce_at = 0
        self.refused: Counter[str] = Counter()

    def nonce(self, now: int) -> int:
        """Return the nonce of now, for an SPM; a new one every few seconds."""
        if now - self._nonce_at >= self._config.nonce_life:
            self._nonce_at = now
            self._nonces = [self._rng.getrandbits(64), *self._nonces[:-1]]
        return self._nonces[0]

    @property
    def sources(self) -> int:
        """Addresses that sent NAKs lately."""
        return len(self._sources)

    def forget(self, now: int) -> None:
        """Forget who asked long ago: they have what they want, or left."""
        while self._sources:
            oldest = next(iter(self._sources))
            if self._sources[oldest].asked_at >= now - self._config.source_life:
                return
            del self._sources[oldest]

    def admitted(self, now: int, batch: PacketBatch, tsi: int) -> Iterator[Asked]:
        """Yield the NAKs of one batch, all of one source, to answer one after the other.

        Args:
            tsi: Our session: NAKs to another are refused.
        """
        places = self._worth_a_look(batch, tsi)
        if not len(places):
            return
        source = self._source(now, batch.source.address)
        # A source's own budget first: one that floods must not use up everybody's.
        own = source.naks.take(now, len(places), self._source_nak_cost)
        count = self._naks.take(now, own, self._nak_cost)
        if count < len(places):
            self.refused["budget"] += len(places) - count
        for place in places[:count].tolist():
            if source.naks.is_overdrawn(now) or self._naks.is_overdrawn(now):
                self.refused["budget"] += 1
                continue
            try:
                nak = parse_nak(batch.payload[place].tobytes(), *self._shape)
            except RefusedPacket as refusal:
                self.refused[refusal.reason] += 1
                continue
            # spec: REP-9
            more = nak.wanted // self._config.symbols_a_nak
            source.naks.spend(now, more * self._source_nak_cost)
            self._naks.spend(now, more * self._nak_cost)
            yield Asked(nak, int(batch.rows["sqn"][place]), source)

    def _worth_a_look(self, batch: PacketBatch, tsi: int) -> npt.NDArray[np.intp]:
        """Return the places of the NAKs that are for us and of somebody who hears us."""
        # spec: REP-2: cheap checks first, and for all at once: a flood must not cost the carousel
        # its time. Who does not hear the session does not know the nonce.
        rows, manifest = batch.rows, self._manifest
        wrong_session = rows["tsi"] != np.uint64(tsi)
        wrong_object = (rows["oid"] != np.uint64(manifest.oid)) | (
            rows["size"] != np.uint64(manifest.size)
        )
        heard = np.zeros(len(batch), np.bool_)
        if batch.payload.shape[1] >= NONCE.itemsize:
            heads = np.ascontiguousarray(batch.payload[:, : NONCE.itemsize]).view(NONCE)
            heard = np.isin(heads["nonce"][:, 0], np.array(self._nonces, np.uint64))
        left = np.ones(len(batch), np.bool_)
        for reason, bad in (
            ("session", wrong_session),
            ("object", wrong_object),
            ("nonce", ~heard),
        ):
            if count := int(np.count_nonzero(bad & left)):
                self.refused[reason] += count
                left &= ~bad
        return np.flatnonzero(left)

    def _source(self, now: int, address: str) -> Source:
        """Return the account of a source, the latest from now on."""
        source = self._sources.pop(address, None)
        if source is None:
            while len(self._sources) >= self._config.max_sources:
                self._sources.pop(next(iter(self._sources)))
            # Both hold what comes in a second.
            full = now - SECOND
            source = Source(TokenBucket(SECOND, full), TokenBucket(SECOND, full), now)
        source.asked_at = now
        self._sources[address] = source
        return source
