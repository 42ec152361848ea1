"""Floods of forged announcements: the true one is taken, and checks are bounded."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from pgmlite.core.config_trust import TrustConfig
from pgmlite.core.events import Adopted
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.trust import Trust
from pgmlite.wire.control import Signature
from tests.support.builders import Drive
from tests.support.signed import SignedSample
from tests.support.trusting import (
    MADE,
    CountingKey,
    refused,
    release,
    spm_about,
    spm_of,
    trust,
)


class Inventor:
    """Makes announcements that say to be of a known key, each another one."""

    def __init__(self, sample: SignedSample) -> None:
        self._sample = sample
        self._rng = Random(1)

    def another_manifest(self) -> bytes:
        sample = self._sample
        raw = replace(sample.manifest, name=f"n{self._rng.getrandbits(64):x}").raw
        return spm_about(raw, sample.signatures, sample)

    def another_signature(self) -> bytes:
        (own,) = self._sample.signatures
        value = self._rng.randbytes(len(own.value))
        return spm_of(self._sample, [Signature(own.key_id, value)])


FLOOD = 1_000
"""Forged announcements a second."""


class TestFlood:
    """The machine under its own clock: forged announcements, and a true one each second."""

    @pytest.mark.parametrize("of", ["another_manifest", "another_signature"])
    @pytest.mark.parametrize("where", ["own", "same", "many"])
    @pytest.mark.parametrize("times", [1, 2])
    def test_the_true_one_is_taken_at_the_second_time(
        self, of: str, where: str, times: int
    ) -> None:
        # spec: TRU-4
        sample = release()
        drive = Drive(trust=trust())
        inventor = Inventor(sample)
        start, adopted_at = FLOOD // 2, None  # by then nothing of the budgets is left
        forged = b""
        for number in range(3 * FLOOD):
            now = number * SECOND // FLOOD
            if number % times == 0:
                forged = getattr(inventor, of)()
            source = {"own": "z", "same": "a", "many": f"f{number}"}[where]
            drive.give([forged], now=now, source=source)
            if number >= start and (number - start) % FLOOD == 0:
                drive.give([sample.spm()], now=now, source="a")
            if drive.machine.manifest:
                adopted_at = number
                break
        assert drive.machine.manifest == sample.manifest
        assert adopted_at is not None
        assert adopted_at <= start + FLOOD
        assert sum(isinstance(one, Adopted) for one in drive.seen) == 1

    @pytest.mark.slow
    def test_checks_are_bounded_and_so_is_memory(self) -> None:
        # spec: TRU-4
        key = CountingKey(refuses=True)
        config = TrustConfig(max_remembered=64, max_sources=16)
        machine = Trust([key], unix_time=lambda: MADE, config=config)
        drive = Drive(trust=machine)
        inventor = Inventor(release())
        seconds = 1
        for number in range(seconds * 4 * FLOOD):
            now = number * SECOND // (4 * FLOOD)
            drive.give([inventor.another_signature()], now=now, source=f"f{number}")
        burst = config.new_checks_at_once / SECOND
        assert key.checks <= (seconds + burst) * config.new_checks_per_second
        one_source = Trust([key], unix_time=lambda: MADE, config=config)
        drive, key.checks = Drive(trust=one_source), 0
        for number in range(seconds * 4 * FLOOD):
            now = number * SECOND // (4 * FLOOD)
            drive.give([inventor.another_signature()], now=now)
        assert key.checks <= (seconds + burst) * config.source_checks_per_second
        assert drive.refused["budget"] == seconds * 4 * FLOOD - drive.refused["signature"]

    def test_what_comes_again_is_bounded_as_well(self) -> None:
        # spec: TRU-4
        key, config = CountingKey(refuses=True), TrustConfig()
        drive = Drive(trust=Trust([key], unix_time=lambda: MADE, config=config))
        inventor = Inventor(release())
        seconds = 1
        for number in range(seconds * 4 * FLOOD):
            now = number * SECOND // (4 * FLOOD)
            drive.give([inventor.another_signature()] * 2, now=now)
        burst = config.checks_at_once / SECOND
        new = (seconds + 1) * config.new_checks_per_second
        assert key.checks <= (seconds + burst) * config.checks_per_second + new

    def test_a_repeated_forgery_costs_one_check(self) -> None:
        drive = Drive(trust=trust())
        forged = Inventor(release()).another_signature()
        assert refused(drive, [forged] * 1_000, now=MS) == {"signature": 1_000}
