"""Which objects a receiver takes that follows: one after another (spec: FOL-1 to FOL-4).

What is in place is never fetched. With keys a release says what is newer. Without, all that can be
known is what was here before: an object that was never published here is new, and one that was is
taken again only when the one in place is announced no more, though others are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pgmlite.core.config_following import FollowConfig
from pgmlite.core.receive.offers import (
    IN_PLACE,
    Answer,
    Offer,
    Ongoing,
    Refuse,
    Take,
    Wait,
    keeps_place,
)

MOST_UNFIT = 64
"""Objects that can't be put in place and are remembered; the oldest makes room."""


class Site(Protocol):
    """What a follower knows of its output."""

    @property
    def published(self) -> Sequence[int]:
        """The oids of what was put in place here, the latest last."""

    def in_place(self, now: int) -> int | None:
        """Return the oid of what is in place at `now` ns; None: nothing that it knows."""


class Following:
    """One object after another; it outlives the machines that ask it.

    Attributes:
        has_room: Whether there is room for an object of so many bytes, as of `OneObject`.
    """

    def __init__(
        self,
        site: Site,
        config: FollowConfig,
        switch_after: int,
        *,
        is_chosen: bool = False,
    ) -> None:
        """
        Args:
            switch_after: Silence of the object that is being received, in ns, after which another
                one is taken.
            is_chosen: As of `OneObject`.
        """
        self.has_room: Callable[[int], bool] | None = None
        self._site = site
        self._config = config
        self._switch_after = switch_after
        self._is_chosen = is_chosen
        self._unfit: dict[int, None] = {}
        self._heard: int | None = None
        """When anything was announced last."""

        self._alone = 0
        """Since when others were announced, and the one in place was not."""

    def shun(self, oid: int) -> None:
        """Take an object no more: it came, and can't be put in place."""
        # spec: FLD-10
        self._unfit[oid] = None
        while len(self._unfit) > MOST_UNFIT:
            del self._unfit[next(iter(self._unfit))]

    def offer(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Answer as FOL-1 to FOL-4 say."""
        is_in_place = offer.oid == self._site.in_place(now)
        # A session that only repeats announces nothing.
        if offer.is_announced and offer.has_carousel:
            self._note(now, is_in_place=is_in_place)
        if is_in_place:
            # spec: FOL-2
            return Refuse(IN_PLACE)
        if offer.oid in self._unfit:
            return Refuse("unfit")
        # spec: RCV-16
        if not offer.size and not self._is_chosen:
            return Refuse("empty")
        if any(one.is_complete for one in transfers.values()) or not offer.has_carousel:
            return Refuse()
        # spec: FOL-1: whose it is, and what, is only known from its manifest.
        if not offer.is_announced:
            return Wait()
        return self._announced(now, offer, transfers)

    def _announced(self, now: int, offer: Offer, transfers: Mapping[int, Ongoing]) -> Answer:
        """Answer for an object that is announced, and is not in place."""
        if not offer.stream and self._was_here(now, offer.oid):
            return Wait("published")
        if any(keeps_place(now, one, offer, self._switch_after) for one in transfers.values()):
            return Wait()
        # spec: RCV-17
        if self.has_room and not self.has_room(offer.size):
            return Refuse("disk")
        return Take(tuple(transfers))

    def _note(self, now: int, *, is_in_place: bool) -> None:
        """Take note that something is announced."""
        # Who hears nothing at all knows nothing of the one in place: a cable that is out for a
        # minute must not bring an old object back.
        is_first = self._heard is None or now - self._heard >= self._config.gap
        if is_in_place or is_first:
            self._alone = now
        self._heard = now

    def _was_here(self, now: int, oid: int) -> bool:
        """Whether an object is one of before, and the one in place is not gone."""
        # spec: FOL-3: the latest one is what shall be here, also if somebody took it away.
        published = self._site.published
        if oid not in published or oid == published[-1]:
            return False
        return now - self._alone < self._config.patience
