"""What a receiver does with objects that are new to it: may they be taken?

Limits first, which cost nothing; then origin, where there are keys; then what the policy says; and
at last whether the manifest is one. Nothing is given up or begun here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.events import Warned
from pgmlite.core.receive.evidence import Evidence
from pgmlite.core.receive.offers import (
    IN_PLACE,
    Answer,
    Offer,
    Ongoing,
    Place,
    Policy,
    Refuse,
    Take,
    Wait,
)
from pgmlite.core.receive.transfer import Transfer, check_position
from pgmlite.core.trust import Authentic, Trust
from pgmlite.errors import ObjectError, RefusedPacket
from pgmlite.wire.batch import PacketBatch
from pgmlite.wire.control import Spm
from pgmlite.wire.geometry import Sizes
from pgmlite.wire.manifest import Manifest, manifest_oid, parse_manifest

ENCODING_SYMBOLS = 2
"""Encoding symbols of an object, in source symbols that it may have at most: one byte each."""

MOST_DOUBTED = 64
"""Objects remembered that were announced for nothing."""

TOLD = frozenset(
    {
        *("unsigned", "key", "signature", "stream", "name"),
        *("expired", "rollback", "equivocation"),
    }
)
"""Reasons for which an object is not taken that whoever runs a receiver may want to know."""


DOES_NOT_FIT = frozenset({"disk", "device"})
"""Reasons of which the size of an object is one."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An announced object that is taken.

    Attributes:
        in_place_of: Objects whose transfers end for it.
        signed: Who signed it; None: nobody was asked.
        is_there: It is in place already: nothing of it has to come.
    """

    manifest: Manifest
    in_place_of: tuple[int, ...] = ()
    signed: Authentic | None = None
    is_there: bool = False

    @property
    def release(self) -> int | None:
        """As what it is signed; None: nobody was asked."""
        return self.signed.release.number if self.signed else None


class Intake:
    """Answers for objects that are on the air and not being received.

    Attributes:
        signers: Ids of the keys that signed each object that is received, by oid.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        policy: Policy,
        evidence: Evidence,
        *,
        trust: Trust | None = None,
        name: str = "",
        place: Place | None = None,
    ) -> None:
        """
        Args:
            evidence: Is told of announced objects that are not taken.
            trust: Whose objects are taken; None: anybody's.
            name: A pattern, as of `fnmatch`, that names of objects match; empty: they need not.
            place: Where they go; None: any can go there.
        """
        self._place = place
        self._config = config
        self._policy = policy
        self._evidence = evidence
        self._trust = trust
        self._name = name
        self.signers: dict[int, tuple[bytes, ...]] = {}
        self._doubted: OrderedDict[int, None] = OrderedDict()
        """Objects that were given up before anything of them came."""

    def data_reason(self, transfers: Mapping[int, Ongoing]) -> str:
        """Return why no data is taken before its manifest; empty: it may be."""
        if self._trust:
            # spec: TRU-1: whose it is only the manifest says.
            return "object" if transfers else "unsigned"
        # spec: FLD-5: what can't go there only the manifest says.
        is_choosy = self._place is not None and self._place.is_choosy
        return "object" if self._name or is_choosy else ""

    def answer(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Return whether an object is taken, as far as limits and the policy say."""
        return self._beyond_limits(offer) or self._policy.offer(now, offer, transfers)

    def announced(
        self, now: int, batch: PacketBatch, spm: Spm, transfers: Mapping[int, Ongoing]
    ) -> Admitted:
        """Take one SPM of an object of which no manifest is in hand.

        Raises:
            RefusedPacket: Its object is not taken.
        """
        header = Offer.of(batch.rows[0])
        # spec: RCV-3
        if manifest_oid(spm.manifest) != header.oid:
            raise RefusedPacket("manifest", "its digest is not the oid")
        try:
            signed = self._signed(now, batch, spm, header, transfers)
            offer = Offer(
                header.oid,
                header.size,
                header.symbol_size,
                is_announced=True,
                has_carousel=spm.position is not None,
                stream=self._stream_of(signed),
            )
            # Before an unsigned manifest is parsed: that costs more than all the rest.
            answer = self.answer(now, offer, transfers)
            if not isinstance(answer, Take):
                if answer.reason != IN_PLACE:
                    self._remember(now, batch, spm, answer)
                raise RefusedPacket(answer.reason)
            manifest = signed.manifest if signed else self._parse(spm)
            self._check(manifest, header, spm)
            if not signed:
                self._check_name(manifest)
            if reason := self._unplaceable(manifest):
                self._remember(now, batch, spm, Refuse(reason))
                raise RefusedPacket(reason)
        except RefusedPacket as refusal:
            if refusal.reason in TOLD:
                self._remember(now, batch, spm, Refuse(refusal.reason))
            raise
        is_there = self._place is not None and self._place.holds(manifest)
        return Admitted(manifest, answer.in_place_of, signed, is_there)

    def _remember(self, now: int, batch: PacketBatch, spm: Spm, answer: Wait | Refuse) -> None:
        self._evidence.take_other(now, batch.rows[0], spm, answer, self._unwanted)

    def _unwanted(self, manifest: Manifest) -> str:
        """Return why an object is not taken even if no other is there; empty: it is."""
        if not self._has_name(manifest):
            return "name"
        reason = self._unplaceable(manifest)
        return "" if reason == "disk" else reason  # what is received needs room now, not then

    def _unplaceable(self, manifest: Manifest) -> str:
        """Return why an object can't go where it shall; empty: it can, or its user asked for it."""
        reason = self._place.refuses(manifest) if self._place else ""
        # spec: RCV-15: who asked for what does not fit is told by the error that it ends with.
        return "" if self._config.oid is not None and reason in DOES_NOT_FIT else reason

    def adopt(self, taken: Admitted) -> None:
        """Take note that an object is received from now on."""
        if self._trust and taken.signed:
            self._trust.adopt(taken.signed)
            self.signers[taken.manifest.oid] = taken.signed.signers

    def give_up(self, now: int, gone: Transfer) -> None:
        """Take note that an object is not received any more."""
        self.signers.pop(gone.oid, None)
        self._doubted.pop(gone.oid, None)
        # One that gave way at once, to a higher release, had no time to come.
        if self._is_unsent(now, gone):
            self._doubted[gone.oid] = None
            if len(self._doubted) > MOST_DOUBTED:
                self._doubted.popitem(last=False)

    def _is_unsent(self, now: int, one: Ongoing) -> bool:
        """Whether nothing of an object came in the time in which something should have."""
        return not one.cycles and now - one.heard >= self._config.switch_after

    def heard(self, now: int, oid: int) -> int:
        """Return since when an object that is adopted now counts as heard, ns (spec: RCV-4)."""
        return now - self._config.switch_after if oid in self._doubted else now

    def repeated(self, now: int, batch: PacketBatch, spm: Spm) -> None:
        """Take note of an SPM that repeats the manifest in hand: who else has signed it?"""
        # spec: TRU-5
        if self._trust:
            oid = int(batch.rows["oid"][0])
            known = self.signers.get(oid, ())
            more = self._trust.more_signers(now, spm, batch.source.address, known)
            self.signers[oid] = (*known, *(one for one in more if one not in known))

    def warnings(self) -> list[Warned]:
        """Return what people should know, and was not told yet."""
        if not (self._trust and self._trust.warnings):
            return []
        told, self._trust.warnings = self._trust.warnings, []
        return told

    def _stream_of(self, signed: Authentic | None) -> str:
        """Return the stream of a release that takes the place of lower ones; empty: it does not."""
        # spec: TRU-8: one that was announced, and of which nothing came, does so once.
        if not self._trust or not signed or signed.manifest.oid in self._doubted:
            return ""
        return signed.release.stream if self._trust.is_higher(signed) else ""

    def _signed(
        self,
        now: int,
        batch: PacketBatch,
        spm: Spm,
        header: Offer,
        transfers: Mapping[int, Ongoing],
    ) -> Authentic | None:
        """Return what is signed, and wanted; None: anybody's is taken.

        Raises:
            RefusedPacket: It is not.
        """
        if self._trust is None or self._beyond_limits(header):
            return None
        # spec: TRU-3
        signed = self._trust.judge(now, spm, batch.source.address)
        self._check_name(signed.manifest)
        unsent = [oid for oid, one in transfers.items() if self._is_unsent(now, one)]
        self._trust.admit(now, signed, unsent)
        return signed

    def _beyond_limits(self, offer: Offer) -> Refuse | None:
        # spec: RCV-2
        symbols = Sizes(offer.size, offer.symbol_size).symbols
        if offer.size > self._config.max_object_size or symbols > self._config.max_symbols:
            return Refuse("too_large")
        return None

    @staticmethod
    def _parse(spm: Spm) -> Manifest:
        """
        Raises:
            RefusedPacket: It is not valid.
        """
        try:
            return parse_manifest(spm.manifest)
        except ObjectError as error:
            raise RefusedPacket("manifest", str(error)) from error

    def _check(self, manifest: Manifest, header: Offer, spm: Spm) -> None:
        """
        Raises:
            RefusedPacket: It is not that of the header, its object is too large, or its carousel
                can't be there.
        """
        if (manifest.size, manifest.symbol_size) != (header.size, header.symbol_size):
            raise RefusedPacket("manifest", "it contradicts the header")
        geometry = manifest.geometry
        encoding_symbols = geometry.blocks * geometry.rings.full
        is_too_large = encoding_symbols > ENCODING_SYMBOLS * self._config.max_symbols
        if geometry.blocks > self._config.max_blocks or is_too_large:
            raise RefusedPacket("too_large")
        check_position(geometry, spm)

    def _check_name(self, manifest: Manifest) -> None:
        """
        Raises:
            RefusedPacket: It is not the one that was asked for.
        """
        if not self._has_name(manifest):
            raise RefusedPacket("name", manifest.name)

    def _has_name(self, manifest: Manifest) -> bool:
        # spec: TRU-7
        return not self._name or fnmatchcase(manifest.name, self._name)
