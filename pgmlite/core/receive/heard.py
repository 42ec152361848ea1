"""What is on the air: the objects that are announced to groups, and who sends them.

Nothing is received, asked for or believed: what is listed are claims, but for signatures by keys
that were given. Strangers choose what there is to hear, so all that is kept of it is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pgmlite.core.events_listening import SessionHeard, SignedBy
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.trust import Key
from pgmlite.errors import ObjectError, RefusedPacket
from pgmlite.wire.batch import HEADER_SIZE, PacketBatch
from pgmlite.wire.control import Signature, Spm, message_of, parse_spm
from pgmlite.wire.endpoint import Endpoint, udp_headers
from pgmlite.wire.layout import Order, PacketType
from pgmlite.wire.manifest import Manifest, manifest_oid, parse_manifest

MOST_LISTED = 64
"""Objects, each on each group that it is heard on, that are listed."""

MOST_COUNTED = 1_024
"""Others that are told apart, to be counted."""

MOST_SENDERS = 16
"""Sessions of an object, and addresses, that are told apart."""

MOST_SIGNATURES = 16
"""Of an object, that are looked at."""

What = tuple[Endpoint, int]
"""Group and object."""


@dataclass(slots=True)
class _Listed:
    """An object that was announced.

    Attributes:
        came: Bytes on the wire that came, without those of the first batch; `packets`: of all.
        latest: The latest SPM of each session.
    """

    manifest: Manifest
    first: int
    last: int
    packets: int = 0
    came: int = 0
    sources: dict[str, None] = field(default_factory=dict)
    latest: dict[SessionKey, Spm] = field(default_factory=dict)
    signatures: dict[Signature, None] = field(default_factory=dict)


class Heard:
    """Takes packets of any kind; has what they are of.

    Attributes:
        packets: Valid ones.
    """

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        """
        Args:
            keys: Those by which signatures are checked; none: they are claims.
        """
        self.packets = 0
        self._keys = {key.key_id: key for key in keys}
        self._listed: dict[What, _Listed] = {}
        self._others: dict[What, int] = {}
        """Packets of objects that are not listed: no announcement came, or there are too many."""

        self._announced: set[What] = set()
        """Those of them that were announced."""

    @property
    def more(self) -> int:
        """Objects that were announced and are not listed, as far as they are counted."""
        return len(self._announced)

    def take(self, now: int, group: Endpoint, batch: PacketBatch) -> None:
        """Take packets that came to a group."""
        self.packets += len(batch)
        oids, counts = np.unique(batch.rows["oid"], return_counts=True)
        overhead = HEADER_SIZE + udp_headers(group.address)
        size = batch.payload.shape[1] + overhead
        for oid, count in zip(oids.tolist(), counts.tolist(), strict=True):
            self._count(now, (group, oid), batch.source.address, count, count * size)
        if batch.kind is PacketType.SPM:
            for place in range(len(batch)):
                self._take_spm(now, group, batch.select(slice(place, place + 1)))

    def _count(self, now: int, what: What, source: str, count: int, octets: int) -> None:
        listed = self._listed.get(what)
        if listed is None:
            if what in self._others or len(self._others) < MOST_COUNTED:
                self._others[what] = self._others.get(what, 0) + count
            return
        listed.packets += count
        listed.came += octets
        listed.last = now
        if len(listed.sources) < MOST_SENDERS:
            listed.sources[source] = None

    def _take_spm(self, now: int, group: Endpoint, batch: PacketBatch) -> None:
        oid = int(batch.rows["oid"][0])
        what = group, oid
        try:
            spm = parse_spm(batch.payload.tobytes())
        except RefusedPacket:
            return
        # spec: RCV-3
        if manifest_oid(spm.manifest) != oid:
            return
        listed = self._listed.get(what) or self._list(now, what, spm, batch.source.address)
        if listed is None:
            return
        key = batch.source, int(batch.rows["tsi"][0]), batch.channel
        if key in listed.latest or len(listed.latest) < MOST_SENDERS:
            listed.latest[key] = spm
        for one in spm.signatures[:MOST_SIGNATURES]:
            if len(listed.signatures) < MOST_SIGNATURES:
                listed.signatures[one] = None

    def _list(self, now: int, what: What, spm: Spm, source: str) -> _Listed | None:
        """List an object that is announced, if there is room for it; None: there is none."""
        before = self._others.get(what, 0)
        if len(self._listed) >= MOST_LISTED:
            # Announcements can be made up without end, each once; who sends an object sends more.
            least = min(self._listed, key=lambda one: self._listed[one].packets)
            if before <= self._listed[least].packets:
                if what in self._others:
                    self._announced.add(what)
                return None
            self._others[least] = self._listed.pop(least).packets
            self._announced.add(least)
        try:
            manifest = parse_manifest(spm.manifest)
        except ObjectError:
            return None
        self._others.pop(what, None)
        self._announced.discard(what)
        listed = self._listed[what] = _Listed(manifest, now, now, before, sources={source: None})
        return listed

    # What there is to tell.

    def sessions(self, now: int) -> list[SessionHeard]:
        """Return what was listed, the busiest objects first."""
        found = sorted(self._listed.items(), key=lambda one: (-one[1].packets, one[0]))
        return [self._session(now, group, listed) for (group, _), listed in found]

    def _session(self, now: int, group: Endpoint, listed: _Listed) -> SessionHeard:
        manifest, spms = listed.manifest, list(listed.latest.values())
        carousels = [one for one in spms if one.position]
        rates = [one.rate for one in carousels]
        # One without a limit makes the sum one.
        rate = sum(rates) if all(rates) else 0
        elapsed = listed.last - listed.first
        heard = listed.came * 8 * SECOND // elapsed if elapsed else None
        packet = manifest.symbol_size + HEADER_SIZE + udp_headers(group.address)
        best = rate or heard
        left = round(manifest.symbols * packet * 8 / best, 3) if best and carousels else None
        return SessionHeard(
            now,
            group.address,
            group.port,
            manifest,
            created=manifest.release.created if manifest.release else None,
            expires=manifest.release.expires if manifest.release else None,
            sources=tuple(listed.sources),
            rate=rate,
            heard_rate=heard,
            packets=listed.packets,
            has_carousel=bool(carousels),
            orders=tuple(sorted({_order(one) for one in carousels})),
            signatures=tuple(self._signed_by(listed)),
            nak_ports=tuple(sorted({one.repairs.repair_port for one in spms if one.repairs})),
            repairers=tuple(map(str, manifest.repairers)),
            time_left=left,
        )

    def _signed_by(self, listed: _Listed) -> list[SignedBy]:
        """Return who has signed an object, or is said to have: each key once."""
        states: dict[bytes, str] = {}
        message = message_of(listed.manifest.raw)
        for one in listed.signatures:
            key = self._keys.get(one.key_id)
            if key is None:
                states.setdefault(one.key_id, "claimed")
            elif states.get(one.key_id) != "valid":
                # A stranger may repeat an announcement with a wrong one beside the right one.
                is_right = key.verifies(one.value, message)
                states[one.key_id] = "valid" if is_right else "wrong"
        return [SignedBy(key_id, state) for key_id, state in states.items()]


def _order(spm: Spm) -> str:
    """Return the order of a carousel as options name it; that of a later version as a number."""
    order = spm.position.order if spm.position else Order.ROUNDS
    try:
        return Order(order).name.lower()
    except ValueError:
        return str(order)
