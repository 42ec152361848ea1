"""Why a transfer does not get on, in words: each thing once, when it begins and when it ends.

Counters say what, this says why. A driver looks about once a second and passes on what is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgmlite.core.human import SILENT_AFTER, human_bytes
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.evidence import MOST_OTHERS, Other
from pgmlite.core.receive.refusals import ChoiceWatch, Finding, why_not_taken
from pgmlite.wire.batch import HEADER_SIZE

if TYPE_CHECKING:
    # Whoever wants a threshold of this module only, a sender say, starts sooner without it.
    from pgmlite.core.receive.receiver import Receiver

STALLED_AFTER = 3 * SECOND
"""Who looks no more often was held up, and silence says nothing of the senders."""

CALM_AFTER = 60 * SECOND
"""Drops are told of again if there were none for as long."""

DISK_SHARE = 0.5
"""Share of the time in calls for the disk from which on drops are its fault."""

UNBELIEVED_LOOKS = 10
"""Looks at which the numbers of a session got worse, before they are told of: forged ones stay."""

SMALLER_MTUS = (1_280, 576)
"""What to try next, bytes; the first gets through every IPv6 path."""

FORGERS_EVERY = 60 * SECOND
"""A source of wrong symbols is named again after as long, if it goes on."""

MOST_FORGERS = 16
"""Such sources that are named in that time: addresses can be made up."""

MOST_REASONS = 3
"""Reasons of refusals that are named, and objects of which more is said than a name."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a driver has counted so far: packets dropped by the system, ns in calls for the disk."""

    kernel_drops: int = 0
    disk_time: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """The time of a look, and what was counted by then: packets and bytes taken, bytes stored."""

    at: int
    load: Load
    packets: int
    bytes: int
    stored: int


class Diagnosis:
    """Watches one receiver."""

    def __init__(
        self, machine: Receiver, where: str, *, overhead: int, granted: int, wanted: int
    ) -> None:
        """
        Args:
            where: The group, for people.
            overhead: Bytes of IP and UDP headers a packet.
            granted: Bytes of the receive buffer; `wanted`: what was asked for.
        """
        self._machine = machine
        self._where = where
        self._overhead = overhead
        self._granted, self._wanted = granted, wanted
        self._last: _Look | None = None
        self._woke_at = 0
        self._silent_since: int | None = None
        self._blocked_oid: int | None = None
        self._choice = ChoiceWatch()
        self._told: set[int] = set()
        self._has_told_more = False
        self._dropped_at: dict[str, int] = {}
        self._unbelieved = self._worse = 0
        self._forgers: dict[str, tuple[int, int]] = {}
        """When each was named, and how many wrong symbols it had sent by then."""

    def look(self, now: int, load: Load) -> list[Finding]:
        """Return what changed since the last look."""
        last, self._last = self._last, self._take(now, load)
        if last and now - last.at > STALLED_AFTER:
            self._woke_at = now
        return [
            *self._silence(now),
            *self._size(),
            *self._others(),
            *self._choice.look(now, self._machine.manifest, self._machine.evidence.others.values()),
            *(self._drops(last, self._last) if last else ()),
            *self._numbers(),
            *self._forged(now),
        ]

    def quiet(self, now: int) -> int:
        """Return for how long no sender of the object was heard, ns; 0: there was none yet."""
        heard = self._machine.heard
        return 0 if heard is None else max(0, now - max(heard, self._woke_at))

    def why_late(self, now: int) -> str:
        """Return what was missing when the time was up."""
        machine, evidence = self._machine, self._machine.evidence
        if machine.manifest:
            return f"timed out: {', '.join(self._missing(now))}"
        if not machine.counters.packets:
            why = f"no valid packet came to {self._where}"
        elif evidence.asked not in (None, *evidence.others) and machine.heard is None:
            why = f"object {evidence.asked:016x} did not come to {self._where}"
        elif evidence.others:
            why = f"nothing that came to {self._where} is to be taken"
        else:
            why = f"packets but no manifest came to {self._where}"
        others = list(evidence.others.values())
        refused = machine.counters.refused.copy()
        if others and all(other.answer.reason != "unsigned" for other in others):
            del refused["unsigned"]  # data whose manifest says more
        if counts := refused.most_common(MOST_REASONS):
            why += f"; refused: {', '.join(f'{count} {reason}' for reason, count in counts)}"
        if others:
            named = [*map(str, others[:-MOST_REASONS]), *map(self._other, others[-MOST_REASONS:])]
            why += f"; heard: {'; '.join(named)}"
        return f"timed out: {why}"

    def _missing(self, now: int) -> Iterator[str]:
        stored, symbols = self._machine.progress
        if stored < symbols:
            yield f"{symbols - stored} of {symbols} symbols are missing"
        else:
            yield "every symbol is here, but not all are verified"
        if self.quiet(now) >= SILENT_AFTER:
            yield f"nothing came from a sender for the last {self.quiet(now) / SECOND:.0f} s"
        elif self._machine.large.are_blocked:
            yield f"packets of {self._packet_size} bytes do not get through"

    # What may change.

    def _take(self, now: int, load: Load) -> _Look:
        counters, manifest = self._machine.counters, self._machine.manifest
        kept = counters.odata + counters.rdata - counters.duplicates
        stored = kept * manifest.symbol_size if manifest else 0
        return _Look(now, load, counters.packets, counters.bytes, stored)

    def _silence(self, now: int) -> Iterator[Finding]:
        heard = self._machine.heard
        if self._silent_since is None:
            if self.quiet(now) >= SILENT_AFTER:
                self._silent_since = heard
                seconds = self.quiet(now) / SECOND
                yield Finding(
                    "silence",
                    f"nothing from a sender for {seconds:.0f} s: it has ended, or the way is "
                    f"broken; waiting{self._bound()}",
                    {"seconds": round(seconds, 3)},
                )
        elif heard != self._silent_since:
            seconds = (now - self._silent_since) / SECOND
            self._silent_since = None
            yield Finding(
                "resumed", f"packets again after {seconds:.0f} s", {"seconds": round(seconds, 3)}
            )

    def _bound(self) -> str:
        """Return what it has to wait for, whatever else is on the air; empty: that is not so."""
        manifest, others = self._machine.manifest, self._machine.evidence.others.values()
        if manifest and any(other.answer.reason == "begun" for other in others):
            return f" for the rest of {manifest.name}, since a part of it was passed on"
        return ""

    @property
    def _packet_size(self) -> int:
        """Bytes of the object's largest packets, with IP headers."""
        manifest = self._machine.manifest
        payload = min(manifest.symbol_size, manifest.size) if manifest else 0
        return payload + HEADER_SIZE + self._overhead

    def _size(self) -> Iterator[Finding]:
        manifest, unseen = self._machine.manifest, self._machine.large.unseen
        oid = manifest.oid if manifest else None
        size = self._packet_size
        if self._machine.large.are_blocked and oid != self._blocked_oid:
            self._blocked_oid = oid
            smaller = next((mtu for mtu in SMALLER_MTUS if mtu < size), None)
            advice = f"an MTU of {smaller}" if smaller else "a smaller one"
            yield Finding(
                "mtu",
                f"packets of {size} bytes do not get through, smaller ones do: of "
                f"{unseen} sent none came; {advice} at the sender, or mend the MTU on "
                "the way",
                {"packet_size": size, "sent": unseen, "mtu": smaller},
            )
        elif not self._machine.large.are_blocked and self._blocked_oid is not None:
            if oid == self._blocked_oid:
                yield Finding(
                    "mtu_mended", f"packets of {size} bytes get through now", {"packet_size": size}
                )
            self._blocked_oid = None

    def _others(self) -> Iterator[Finding]:
        for other in self._machine.evidence.others.values():
            if other.oid in self._told:
                continue
            if len(self._told) < MOST_OTHERS:
                self._told.add(other.oid)
                facts = {
                    "oid": f"{other.oid:016x}",
                    "name": other.name,
                    "size": other.size,
                    "reason": other.answer.reason,
                }
                yield Finding("object", self._other(other), facts)
            elif not self._has_told_more:
                self._has_told_more = True
                yield Finding("objects", "and still more objects: those are not named any more")

    def _other(self, other: Other) -> str:
        machine = self._machine
        return why_not_taken(other, machine.evidence.asked, machine.manifest)

    def _drops(self, last: _Look, look: _Look) -> Iterator[Finding]:
        drops = look.load.kernel_drops - last.load.kernel_drops
        if drops <= 0 or look.at == last.at:
            return
        taken, bytes_ = look.packets - last.packets, look.bytes - last.bytes
        disk_time = look.load.disk_time - last.load.disk_time
        brought = bytes_ + drops * (bytes_ // taken if taken else 0)
        rate = human_bytes(brought * SECOND / (look.at - last.at))
        full = f"the receive buffer of {human_bytes(self._granted)} was full"
        cause, why = "buffer", f"{full}, {rate}/s are too much here; lower the sender's rate"
        if disk_time >= DISK_SHARE * (look.at - last.at):
            stored = max(0, look.stored - last.stored)
            disk = human_bytes(stored * SECOND / disk_time)
            cause = "disk"
            why = f"the disk takes {disk}/s, the network brings {rate}/s; lower the sender's rate"
            if not stored:
                why = "this machine was busy with its disk"
        elif self._granted < self._wanted:
            why = f"{full}; as root: sysctl -w net.core.rmem_max={self._wanted}, then start again"
        before = self._dropped_at.get(cause)
        self._dropped_at[cause] = look.at
        if before is None or look.at - before >= CALM_AFTER:
            yield Finding(
                cause, f"{drops} packets came and were dropped: {why}", {"kernel_drops": drops}
            )

    def _numbers(self) -> Iterator[Finding]:
        # spec: RCV-9
        before, self._unbelieved = self._unbelieved, self._machine.lost_unbelieved
        if self._unbelieved <= before or self._machine.large.are_blocked:
            return
        self._worse += 1
        if self._worse == UNBELIEVED_LOOKS:
            yield Finding(
                "numbers",
                f"by the numbers of a session {self._unbelieved} packets are missing, and hardly "
                "any came: so many are not believed, and not counted as lost",
                {"lost_unbelieved": self._unbelieved},
            )

    def _forged(self, now: int) -> Iterator[Finding]:
        # spec: RCV-23
        current, told = self._machine.current, self._forgers
        for source, count in (current.forgers if current else {}).items():
            at, before = told.get(source, (None, 0))
            if count <= before or (at is not None and now - at < FORGERS_EVERY):
                continue
            if at is None and len(told) >= MOST_FORGERS:
                oldest = min(told, key=lambda one: told[one][0])
                if now - told[oldest][0] < FORGERS_EVERY:
                    continue
                del told[oldest]
            told[source] = now, count
            yield Finding(
                "forged",
                f"{count - before} symbols from {source} are not what they should be: left out; "
                "somebody forges them, or breaks them on the way",
                {"source": source, "symbols": count - before},
            )
