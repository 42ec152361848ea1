"""What a receiver hears that its transfer has no use for: why nothing arrives, it may tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgmlite.core import serial
from pgmlite.core.human import human_bytes, human_name
from pgmlite.core.machine import MS
from pgmlite.core.receive.offers import Refuse, Wait
from pgmlite.core.receive.sessions import SessionKey, session_of
from pgmlite.errors import ObjectError
from pgmlite.wire.batch import PacketBatch, Rows
from pgmlite.wire.control import Spm, SpmPosition
from pgmlite.wire.manifest import Manifest, Release, parse_manifest

MOST_OTHERS = 16
"""Other objects remembered; the one silent for longest makes room."""

PARSE_EVERY = 100 * MS
"""An object's first manifest is parsed no more often: strangers can invent them without end."""

MOST_FOLLOWED = 8
"""Sessions whose SPMs are followed, at most."""

BLOCKED_SPMS = 3
"""SPMs that must have told of more, before packets of the object's size count as blocked."""

SPM_EVERY = 250 * MS
"""Of those of a fast sender no more count."""

BLOCKED_PACKETS = 100
"""And packets that were sent meanwhile: at 95% loss none of them comes once in 170 times."""


@dataclass(frozen=True, slots=True)
class Other:
    """An object that was announced and not taken; `answer` says why.

    Attributes:
        keys: Ids of the keys that are said to have signed it.
        release: As what it is signed; a claim, if the answer is that it is not.
    """

    oid: int
    name: str
    size: int
    answer: Wait | Refuse
    keys: tuple[bytes, ...] = ()
    release: Release | None = None

    def __str__(self) -> str:
        return f"{human_name(self.name)}, {human_bytes(self.size)}, object {self.oid:016x}"


class LargePackets:
    """Whether packets of the object's full size get through: small ones tell of them.

    Attributes:
        unseen: Packets that sessions sent since one of full size came, at least.
    """

    def __init__(self, full: int) -> None:
        """
        Args:
            full: Payload bytes of the object's largest packets.
        """
        self.unseen = 0
        self._full = full
        self._spms = 0
        self._counted_at = -SPM_EVERY
        self._followed: dict[SessionKey, tuple[int, int]] = {}
        """(sqn, place) of the latest SPM."""

    @property
    def are_blocked(self) -> bool:
        """Whether small packets tell of large ones, and none of those gets through."""
        return self._spms >= BLOCKED_SPMS and self.unseen >= BLOCKED_PACKETS

    def take(self, batch: PacketBatch) -> None:
        """Take packets of the object, which are of one kind and length."""
        if batch.payload.shape[1] >= self._full:
            self.unseen = self._spms = 0
            self._followed.clear()

    def take_spm(self, now: int, batch: PacketBatch, position: SpmPosition) -> None:
        """Take an SPM of a carousel: how much was sent since the one before?"""
        self.take(batch)
        key = session_of(batch)
        latest = int(batch.rows["sqn"][-1]), position.place
        before = self._followed.pop(key, latest)
        while len(self._followed) >= MOST_FOLLOWED:
            self._followed.pop(next(iter(self._followed)))
        self._followed[key] = latest
        sent = serial.distance(before[0], latest[0]) - 1
        # A carousel that stands sends SPMs alone.
        if sent > 0 and before[1] != latest[1]:
            self.unseen += sent
            if now - self._counted_at >= SPM_EVERY:
                self._counted_at = now
                self._spms += 1


class Evidence:
    """What there is to tell of one receiver.

    Attributes:
        asked: The only object that is taken; None: any.
        began: When the first packet of its latest object came, ns; None: none came yet.
        others: Other objects on the air, by oid; the one silent for longest stands first.
        naks_unsent: NAKs that the driver could not send.
    """

    def __init__(self, asked: int | None) -> None:
        self.asked = asked
        self.began: int | None = None
        self.others: dict[int, Other] = {}
        self.naks_unsent = 0
        self._parse_at = 0

    def begin(self, now: int, oid: int) -> None:
        """Note that this object is being received from now on."""
        self.began = now
        self.others.pop(oid, None)

    def take_other(
        self,
        now: int,
        row: Rows,
        spm: Spm,
        answer: Wait | Refuse,
        refuses: Callable[[Manifest], str],
    ) -> None:
        """Remember the object of an SPM that was refused; its digest is known to be the oid.

        Args:
            refuses: Why it would not have been taken if nothing else were; empty: it would.
        """
        if not spm.position:
            return
        oid = int(row["oid"])
        other = self.others.pop(oid, None)
        if other is None:
            if now < self._parse_at:
                return
            self._parse_at = now + PARSE_EVERY
            try:
                manifest = parse_manifest(spm.manifest)
            except ObjectError:
                return
            if len(self.others) >= MOST_OTHERS:
                self.others.pop(next(iter(self.others)))
            if isinstance(answer, Wait) and (reason := refuses(manifest)):
                answer = Refuse(reason)
            keys = tuple(one.key_id for one in spm.signatures)
            other = Other(oid, manifest.name, manifest.size, answer, keys, manifest.release)
        self.others[oid] = other
