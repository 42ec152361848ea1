"""Announcements of signed objects, true and forged, and who believes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from pgmlite.core.config_trust import TrustConfig
from pgmlite.core.events import Adopted
from pgmlite.core.machine import Prepare
from pgmlite.core.trust import Floor, Trust
from pgmlite.storage.keys import PublicKey
from pgmlite.wire.control import Signature
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import manifest_oid
from tests.support.builders import Drive, packet
from tests.support.signed import (
    STREAM,
    SignedSample,
    key_id,
    make_signed,
    private_key,
    signed_spm,
)

MADE = 1_800_000_000
YEAR = 365 * 86_400
SIZE = 3_000


def public(number: int = 0) -> PublicKey:
    """Return the public half of a key of the tests."""
    key = private_key(number)
    return PublicKey(key_id(key), f"key{number}", key.public_key())


class CountingKey:
    """A key of the tests that counts how often it is used.

    Attributes:
        checks: Signatures that were checked.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        """
        Args:
            refuses: Whatever it is asked.
        """
        self._key = public()
        self._refuses = refuses
        self.key_id = self._key.key_id
        self.checks = 0

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether a signature is right."""
        self.checks += 1
        return not self._refuses and self._key.verifies(signature, message)


@dataclass
class Installed:
    """Floors in memory, for one stream."""

    floors: list[Floor] = field(default_factory=list)

    def of(self, stream: str) -> list[Floor]:
        return self.floors if stream == STREAM else []


def trust(
    *numbers: int,
    clock: int = MADE + 60,
    floors: Iterable[Floor] = (),
    stream: str = "",
    config: TrustConfig | None = None,
) -> Trust:
    """Return who believes keys of the tests, by default the first."""
    keys = [public(number) for number in numbers or (0,)]
    return Trust(
        keys,
        unix_time=lambda: clock,
        floors=Installed(list(floors)),
        stream=stream,
        config=config,
    )


@lru_cache
def release(number: int = 5, *, expires: int = 0, **options: object) -> SignedSample:
    """Return a signed object; each number has bytes of its own."""
    options = {"seed": number} | options
    return make_signed(SIZE, release=number, created=MADE, expires=expires, **options)  # type: ignore[arg-type]


def spm_of(sample: SignedSample, signatures: Iterable[Signature], **fields: int) -> bytes:
    """Return an SPM with other signatures."""
    body = signed_spm(sample.manifest.raw, signatures).build()
    return packet(PacketType.SPM, body, **(sample.fields | fields))


def spm_about(raw: bytes, signatures: Iterable[Signature], sample: SignedSample) -> bytes:
    """Return an SPM with another manifest, and the oid that this one gives."""
    fields = sample.fields | {"oid": manifest_oid(raw)}
    return packet(PacketType.SPM, signed_spm(raw, signatures).build(), **fields)


def refused(drive: Drive, packets: list[bytes], **how: object) -> dict[str, int]:
    """Give packets one by one; return the reasons, and that nothing else came of them."""
    before = Counter(drive.refused)
    told = drive.give(packets, limit=1, **how)  # type: ignore[arg-type]
    assert not any(isinstance(one, Adopted | Prepare) for one in told)
    return dict(Counter(drive.refused) - before)
