"""Which objects a receiver with keys takes (spec: TRU-1 to TRU-9).

Anybody can send to the group. An announcement is looked at in a fixed order, cheap questions first,
and each question stops an attack of its own. What nobody whose key was given has signed is not even
parsed; what was signed may still be old, or meant for others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pgmlite.core.causes import Fact
from pgmlite.core.config_trust import TrustConfig
from pgmlite.core.events import Warned
from pgmlite.core.timing import TokenBucket, cost_of
from pgmlite.errors import ObjectError, RefusedPacket
from pgmlite.wire.control import Signature, Spm, message_of
from pgmlite.wire.digests import digest
from pgmlite.wire.manifest import Manifest, Release, parse_manifest

K = TypeVar("K")
V = TypeVar("V")

MOST_WARNED = 64
"""Releases that were warned of, as far as that is remembered."""


class Key(Protocol):
    """The public half of a key."""

    @property
    def key_id(self) -> bytes:
        """What signatures say of their key."""

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether a signature is one of `message` by this key."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The highest release of a stream that was installed: nothing below it is taken."""

    release: int
    oid: int


class Floors(Protocol):
    """What was installed, as it is remembered."""

    def of(self, stream: str) -> Collection[Floor]:
        """Return the floors of a stream, one for each key that is trusted now and has one."""


@dataclass(frozen=True, slots=True)
class Authentic:
    """A manifest that somebody whose key was given has signed.

    Attributes:
        signers: Ids of those keys whose signatures are valid.
    """

    manifest: Manifest
    release: Release
    signers: tuple[bytes, ...]


class Trust:
    """Judges announcements by their signatures and their releases.

    Attributes:
        key_ids: Of the keys that count.
        warnings: What people should know; whoever shows it empties the list.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        unix_time: Callable[[], int],
        floors: Floors | None = None,
        stream: str = "",
        config: TrustConfig | None = None,
    ) -> None:
        """
        Args:
            unix_time: Returns the seconds since 1970, by a clock that may not be set.
            floors: What was installed; None: that is not asked.
            stream: The only one that is taken; empty: any.
        """
        self._keys = {key.key_id: key for key in keys}
        self._unix_time = unix_time
        self._floors = floors
        self._stream = stream
        self._config = config = config or TrustConfig()
        self.key_ids = tuple(self._keys)
        self.warnings: list[Warned] = []
        self._warned: dict[tuple[str, int], None] = {}
        self._remembered: dict[bytes, str] = {}
        """Announcements by their digests: why each was refused; empty: it was not looked at."""

        self._verified: dict[bytes, Authentic] = {}
        self._checks = TokenBucket(config.checks_at_once, -config.checks_at_once)
        self._check_cost = cost_of(config.checks_per_second)
        self._new_checks = TokenBucket(config.new_checks_at_once, -config.new_checks_at_once)
        self._new_cost = cost_of(config.new_checks_per_second)
        self._source_cost = cost_of(config.source_checks_per_second)
        self._sources: dict[str, TokenBucket] = {}
        self._adopted: dict[str, Floor] = {}
        """The release of each stream that was adopted last: a floor while this process lives."""

    def judge(self, now: int, spm: Spm, source: str) -> Authentic:
        """Return what an announcement says, if it is to be believed and of our stream.

        Args:
            source: The address that it came from.

        Raises:
            RefusedPacket: It is not; the reason says which check failed.
        """
        signed = self._authenticate(now, spm, source)
        # Other products' images are signed by the same people: no mix-and-match.
        if self._stream not in ("", signed.release.stream):
            raise RefusedPacket("stream", signed.release.stream)
        return signed

    def admit(self, now: int, signed: Authentic, unsent: Collection[int] = ()) -> None:
        """Look at the release of what was judged and is wanted.

        Args:
            unsent: The oids of objects that were adopted, and of which nothing came for long.

        Raises:
            RefusedPacket: It is too old, or one of two.
        """
        self._check_age(now, signed)
        self._check_release(now, signed, unsent)

    def is_higher(self, signed: Authentic) -> bool:
        """Whether a release is none that is lower than the one of its stream adopted last."""
        adopted = self._adopted.get(signed.release.stream)
        return adopted is None or signed.release.number >= adopted.release

    def adopt(self, signed: Authentic) -> None:
        """Take note that an object is received from now on: lower releases are not, any more."""
        self._adopted[signed.release.stream] = Floor(signed.release.number, signed.manifest.oid)

    def more_signers(
        self, now: int, spm: Spm, source: str, known: Collection[bytes]
    ) -> tuple[bytes, ...]:
        """Return keys that signed the manifest in hand, by an announcement that repeats it."""
        # Who could strip a signature from the announcement that was adopted would keep the floor
        # of its key low, and have an old release taken once the other key is gone.
        if all(one.key_id in known or one.key_id not in self._keys for one in spm.signatures):
            return ()
        try:
            return self._authenticate(now, spm, source).signers
        except RefusedPacket:
            return ()  # the manifest itself is signed, that was found before

    # Who says so.

    def _authenticate(self, now: int, spm: Spm, source: str) -> Authentic:
        """
        Raises:
            RefusedPacket: Nobody whose key was given has signed it, or it can't be used.
        """
        # A stranger's invention has no signature: it costs nothing more.
        if not spm.signatures:
            raise RefusedPacket("unsigned")
        # Nor has one by a key of his own, or by a key that was taken out since it leaked.
        signatures = self._known(spm)
        if not signatures:
            raise RefusedPacket("key")
        # A repeated announcement is not checked again: neither a true one, nor a forged one.
        mark = _mark(spm.manifest, signatures)
        if signed := self._verified.get(mark):
            return signed
        if reason := self._remembered.get(mark):
            raise RefusedPacket(reason)
        # Ids of keys are no secret: whoever repeats them has us check signatures without end.
        if not self._may_check(now, mark, source, len(signatures)):
            self._remember(mark, "")
            raise RefusedPacket("budget")
        # A manifest that was changed, or made up, has no valid one.
        signers = self._signers(spm.manifest, signatures)
        if not signers:
            self._remember(mark, "signature")
            raise RefusedPacket("signature")
        # A signer's mistake must not end a fleet.
        try:
            manifest = parse_manifest(spm.manifest)
        except ObjectError as error:
            self._remember(mark, "manifest")
            raise RefusedPacket("manifest", str(error)) from error
        # What has no release could be replayed for ever, and without tiles it could be poisoned.
        if manifest.release is None:
            self._remember(mark, "unsigned")
            raise RefusedPacket("unsigned", "it is not made to be signed")
        signed = Authentic(manifest, manifest.release, signers)
        _put(self._verified, mark, signed, self._config.max_verified)
        return signed

    def _known(self, spm: Spm) -> list[Signature]:
        """Return the signatures that are said to be of our keys, one of each."""
        found: dict[bytes, Signature] = {}
        for one in spm.signatures:
            if one.key_id in self._keys:
                found.setdefault(one.key_id, one)
        return list(found.values())

    def _signers(self, manifest: bytes, signatures: Sequence[Signature]) -> tuple[bytes, ...]:
        message = message_of(manifest)
        return tuple(
            one.key_id for one in signatures if self._keys[one.key_id].verifies(one.value, message)
        )

    def _may_check(self, now: int, mark: bytes, source: str, count: int) -> bool:
        """Whether so many signatures may be checked now (spec: TRU-4)."""
        # A true announcement comes again and again, and a flood of inventions each once: what
        # comes for the second time has a budget of its own.
        if mark in self._remembered:
            return self._checks.take(now, count, self._check_cost) == count
        depth = self._config.new_checks_at_once
        own = self._sources.pop(source, None) or TokenBucket(depth, -depth)
        _put(self._sources, source, own, self._config.max_sources)
        # First that of the address: one that floods must not use up what is everybody's.
        return (
            own.take(now, count, self._source_cost) == count
            and self._new_checks.take(now, count, self._new_cost) == count
        )

    def _remember(self, mark: bytes, reason: str) -> None:
        _put(self._remembered, mark, reason, self._config.max_remembered)

    # Whether it is the right one.

    def _check_age(self, now: int, signed: Authentic) -> None:
        """
        Raises:
            RefusedPacket: It has expired.
        """
        # Who keeps the new releases from a fleet and repeats an old one holds it back only so long.
        release = signed.release
        if not release.expires:
            return
        clock = self._unix_time()
        # A machine without a battery begins in 1970: it would take nothing any more, or anything.
        if clock < release.created:
            self._warn(
                now,
                "clock",
                0,
                f"the clock is not set, it stands before release {release.number} of "
                f"{release.stream} was made: whether that has expired is not known",
            )
        elif clock >= release.expires:
            raise RefusedPacket("expired")

    def _check_release(self, now: int, signed: Authentic, unsent: Collection[int]) -> None:
        """
        Raises:
            RefusedPacket: A higher release was installed or is being received, or another object
                of the same number.
        """
        release, oid = signed.release, signed.manifest.oid
        marks = list(self._floors.of(release.stream)) if self._floors else []
        adopted = self._adopted.get(release.stream)
        # Who repeats an announcement of a higher one, which is sent elsewhere, must not hold us.
        if adopted and (adopted.oid not in unsent or release.number == adopted.release):
            marks.append(adopted)
        highest = max((one.release for one in marks), default=-1)
        # An old release is signed as well: holes that were closed since would be open again.
        if release.number < highest:
            raise RefusedPacket("rollback")
        # Two objects of one number: a signer's mistake, or somebody else has the key, and wants
        # some machines to have what others don't.
        if release.number == highest and oid not in {
            one.oid for one in marks if one.release == highest
        }:
            self._warn(
                now,
                "equivocation",
                oid,
                f"object {oid:016x} is signed as release {release.number} of {release.stream}, and "
                "so is another one that was taken before: ask who has the key",
                {"stream": release.stream, "release": release.number, "oid": f"{oid:016x}"},
            )
            raise RefusedPacket("equivocation")

    def _warn(
        self, now: int, cause: str, oid: int, text: str, facts: Mapping[str, Fact] | None = None
    ) -> None:
        """Warn of something once."""
        if (cause, oid) in self._warned:
            return
        _put(self._warned, (cause, oid), None, MOST_WARNED)
        self.warnings.append(Warned(now, text, cause, facts))


def _mark(manifest: bytes, signatures: Sequence[Signature]) -> bytes:
    """Return what names a manifest together with some of its signatures."""
    signed = b"".join(one.key_id + one.value for one in signatures)
    return digest(len(manifest).to_bytes(4, "big") + manifest + signed)


def _put(held: dict[K, V], key: K, value: V, most: int) -> None:
    """Put something in a dictionary that holds so much at most: the oldest makes room."""
    held.pop(key, None)
    while len(held) >= most:
        del held[next(iter(held))]
    held[key] = value
