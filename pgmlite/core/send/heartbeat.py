"""When a lane sends SPMs, and what they say (spec: SND-5, REP-6)."""

from __future__ import annotations

from collections.abc import Sequence

from pgmlite.core.config import SenderConfig
from pgmlite.core.machine import MS
from pgmlite.core.send.rate import Pacer
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.control import Signature, Spm, SpmPosition, SpmRepairs
from pgmlite.wire.manifest import Manifest


class Heartbeat:
    """The SPMs of one lane."""

    def __init__(
        self,
        config: SenderConfig,
        manifest: Manifest,
        signatures: Sequence[Signature],
        pacer: Pacer,
        *,
        has_repairs: bool,
    ) -> None:
        self._config = config
        self._manifest = manifest
        self._signatures = tuple(signatures)
        self._pacer = pacer
        repairs = SpmRepairs(0, 0, 0, 0, 0, 1) if has_repairs else None
        longest = Spm(0, 0, 0, manifest.raw, SpmPosition(0), repairs, self._signatures).build()
        self._wire_bytes = HEADER_SIZE + len(longest) + config.packet_overhead
        self.due = 0

    def interval(self, now: int) -> int:
        """Return the time between SPMs at the rate of now, ns."""
        takes = self._pacer.takes(now, self._wire_bytes * self._config.spm_share)
        return min(max(takes, self._config.spm_min), self._config.spm_max)

    def body(self, now: int, position: SpmPosition | None, repairs: SpmRepairs | None) -> bytes:
        """Return the body of the SPM that leaves now."""
        interval = self.interval(now)
        self.due = now + interval
        rate = self._pacer.rate(now) or 0
        return Spm(
            timestamp=now,
            rate=rate,
            spm_interval=-(-interval // MS),
            manifest=self._manifest.raw,
            position=position,
            repairs=repairs,
            signatures=self._signatures,
        ).build()
