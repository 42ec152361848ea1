"""Which objects a receiver takes (spec: RCV-1, RCV-4, RCV-16, RCV-17, RCV-27, TRU-8).

A receiver asks for every object that is new to it and within its limits; the answer is a policy.
There is one here; `following` has another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pgmlite.wire.batch import Rows
from pgmlite.wire.manifest import Manifest

IN_PLACE = "in_place"
"""Why what is in place is not taken: nobody needs to be told of that."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An object that is on the air.

    Attributes:
        oid: Its identifier; `size` and `symbol_size` are those of the packet's header.
        is_announced: An SPM brought it, with its manifest; else a data packet, without one.
        has_carousel: The session sends the object; one without only repeats what was lost.
        stream: What it is a release of, where a signature says so, and then a higher one than any
            that was adopted; empty: none does.
    """

    oid: int
    size: int
    symbol_size: int
    is_announced: bool = False
    has_carousel: bool = True
    stream: str = ""

    @classmethod
    def of(cls, row: Rows) -> Offer:
        """Return what a packet's header offers."""
        return cls(int(row["oid"]), int(row["size"]), int(row["symbol_size"]))


@dataclass(frozen=True, slots=True)
class Take:
    """Receive the object.

    Attributes:
        in_place_of: Objects whose transfers end for it.
    """

    in_place_of: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: it may be taken when it is offered again.

    Attributes:
        is_rival: It would have been taken, had it come first.
    """

    reason: str = "object"
    is_rival: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not this one, whatever comes."""

    reason: str = "object"


Answer = Take | Wait | Refuse


class Ongoing(Protocol):
    """What an answer may depend on of a transfer that has begun."""

    manifest: Manifest | None
    """None: it did not come yet."""

    @property
    def heard(self) -> int:
        """When a carousel of the object was heard last, ns."""

    @property
    def cycles(self) -> float:
        """How much of it came, in its lengths; of a signed one what is known to be right."""

    @property
    def is_complete(self) -> bool:
        """Whether every block was verified: nothing is taken any more."""


class Place(Protocol):
    """Where objects go, as far as that decides which of them are received."""

    @property
    def is_choosy(self) -> bool:
        """Whether only manifests tell which objects can go there."""

    def refuses(self, manifest: Manifest) -> str:
        """Return why an object can't go there, in a word of section 3.8; empty: it can."""

    def holds(self, manifest: Manifest) -> bool:
        """Whether all of an object is in place, so that nothing of it has to come.

        Of places whose bytes can be compared nobody has to ask: False.
        """


class Policy(Protocol):
    """Decides which objects are received."""

    def offer(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Answer for an object of which no manifest is in hand.

        Args:
            transfers: What is being received, by oid, complete ones among them.
        """


@dataclass(frozen=True, slots=True)
class OneObject:
    """One object at a time: the first that comes, and another if its senders fall silent.

    Attributes:
        oid: Take this one and no other; None: any.
        switch_after: Silence of the object, in ns, after which another announced one is taken.
        has_room: Whether there is room for an object of so many bytes; what there is no room for
            is not taken. None: that is not asked.
        is_chosen: What is taken is chosen by more than its coming first: by name, or by keys.
        is_begun: Whether bytes of what is received were passed on: no other can take its place.
            None: they never are.
    """

    oid: int | None
    switch_after: int
    has_room: Callable[[int], bool] | None = None
    is_chosen: bool = False
    is_begun: Callable[[], bool] | None = None

    def offer(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Answer as RCV-4, RCV-16, RCV-17 and TRU-8 say."""
        if self.oid not in (None, offer.oid):
            return Refuse()
        # spec: RCV-16: one packet would be enough to make an output empty.
        if not offer.size and self.oid is None and not self.is_chosen:
            return Refuse("empty")
        if offer.oid in transfers:
            return self._take(offer)  # its manifest came
        others = transfers.values()
        # A session that only repeats announces nothing.
        if any(one.is_complete for one in others) or not offer.has_carousel:
            return Refuse()
        if not offer.is_announced:
            return Wait() if others else self._take(offer)
        return self._announced(now, offer, transfers)

    def _announced(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Answer for an object that might take the place of others."""
        # spec: RCV-27: what was passed on can't be taken back, and nothing else can follow it.
        if transfers and self.is_begun and self.is_begun():
            return Refuse("begun")
        if any(keeps_place(now, one, offer, self.switch_after) for one in transfers.values()):
            return Wait(is_rival=True)
        return self._take(offer, tuple(transfers))

    def _take(self, offer: Offer, in_place_of: tuple[int, ...] = ()) -> Answer:
        """Take an object, if there is room for it."""
        # spec: RCV-17: nothing is given up for one that can't be held.
        if self.has_room and not self.has_room(offer.size):
            return Refuse("disk")
        return Take(in_place_of)


def keeps_place(now: int, one: Ongoing, offer: Offer, switch_after: int) -> bool:
    """Whether an object that is received gives no way to another one that is announced.

    Args:
        switch_after: Silence of it, in ns, after which it does.
    """
    # spec: TRU-8: a higher release; lower ones are not offered.
    if one.manifest is None or (offer.stream and offer.stream == _stream_of(one)):
        return False
    # A carousel keeps its object, and nothing else announces one.
    return now - one.heard < switch_after


def _stream_of(transfer: Ongoing) -> str:
    """Return what an object that is being received is a release of; empty: of nothing."""
    manifest = transfer.manifest
    return manifest.release.stream if manifest and manifest.release else ""
