"""Why objects that are on the air are not taken, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from pgmlite.core.human import human_list, human_name
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.evidence import MOST_OTHERS, Other
from pgmlite.core.receive.offers import Wait
from pgmlite.wire.manifest import Manifest

REFUSED = {
    "archive": "no archive of a folder; it is not taken",
    "begun": "not taken: a part of {current} was passed on, and nothing but its rest can follow",
    "device": "larger than the device; it is not taken",
    "disk": "the disk has no room for it; it is not taken",
    "published": "it was in place here before; it is taken again when the one in place is not "
    "announced for a while",
    "empty": "empty, and taken only by who asks for this object",
    "too_large": "too large to be taken",
    "unfit": "came, and can't be unpacked; it is not taken again",
    "unsigned": "not signed; only what is signed by a key that was given is taken",
    "key": "signed by {keys}, but by no key that was given",
    "signature": "its signature is wrong: it was forged or changed",
    "stream": "signed, but as a release of {stream}: another stream was asked for",
    "name": "its name is not the one that was asked for",
    "expired": "signed, but release {release} of {stream} has expired; if the clock of this "
    "machine is right",
    "rollback": "signed, but release {release} of {stream} is an older release than was installed "
    "or is being received",
    "equivocation": "signed, but there is another object that is release {release} of {stream}",
}
"""Of reasons of refusals (section 3.8), what they say of an object."""

BRIEFLY = {
    "archive": "no folder",
    "begun": "too late: another one is being passed on",
    "device": "larger than the device",
    "disk": "too large for the disk",
    "empty": "empty",
    "too_large": "too large",
    "unfit": "an archive that can't be unpacked",
    "unsigned": "not signed",
    "key": "signed by another key",
    "signature": "with a wrong signature",
    "stream": "of another stream",
    "name": "of another name",
    "expired": "expired",
    "rollback": "older than what was installed",
    "equivocation": "of a release that is another object's",
    "object": "not the object that was asked for",
}
"""Of reasons for which nothing may be left to take, what they say of it, among others."""

MOST_KEYS = 3
"""Keys of an object that are named."""

NOTHING_AFTER = 3 * SECOND
"""ns without anything to take, after which that is said: senders announce once a second."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that changed: one word for programs, a line for people, and facts for programs."""

    cause: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def why_not_taken(other: Other, asked: int | None, current: Manifest | None) -> str:
    """Return an object that was announced, and why it is not taken.

    Args:
        asked: The only object that is; None: any.
        current: What is being received; None: nothing yet.
    """
    if text := REFUSED.get(other.answer.reason):
        release = other.release
        said = text.format(
            current=current.name if current else "another one",
            keys=human_list([key.hex() for key in other.keys], MOST_KEYS),
            stream=release.stream if release else "none",
            release=release.number if release else "none",
        )
        return f"{other}: {said}"
    if isinstance(other.answer, Wait) and current:
        return f"{other}: announced here as well; {current.name} is being received"
    return f"{other}: announced here, but object {asked or 0:016x} was asked for"


class ChoiceWatch:
    """Says, each once, that nothing which is heard is to be taken, or that more than one is."""

    def __init__(self) -> None:
        self._since: int | None = None
        """Since when something is heard and nothing is received, ns."""

        self._has_told_nothing = self._has_told_rivals = False

    def look(
        self, now: int, current: Manifest | None, others: Collection[Other]
    ) -> Iterator[Finding]:
        """Yield what is to be said by now.

        Args:
            current: What is being received; None: nothing yet.
            others: What else was announced.
        """
        if current:
            self._since = None
            yield from self._rivals(current, others)
            return
        heard = [one for one in others if one.answer.reason in BRIEFLY]
        if not heard or self._has_told_nothing:
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= NOTHING_AFTER:
            self._has_told_nothing = True
            named = [f"{human_name(one.name)} is {BRIEFLY[one.answer.reason]}" for one in heard]
            yield Finding(
                "nothing_to_take",
                f"nothing that is sent here is to be taken: {human_list(named, MOST_OTHERS)}; "
                "waiting for something else",
                {"objects": len(heard)},
            )

    def _rivals(self, current: Manifest, others: Collection[Other]) -> Iterator[Finding]:
        """Say that the object which came first is received, and others would do as well."""
        rivals = [one for one in others if isinstance(one.answer, Wait) and one.answer.is_rival]
        if not rivals or self._has_told_rivals:
            return
        self._has_told_rivals = True
        named = human_list([str(one) for one in rivals], MOST_OTHERS, "; ")
        yield Finding(
            "ambiguous",
            f"{human_name(current.name)}, object {current.oid:016x}, is received because it came "
            f"first; others are sent here as well: {named}; choose one",
            {"oid": f"{current.oid:016x}", "objects": 1 + len(rivals)},
        )
