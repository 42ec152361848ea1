"""What nftables would do with a packet: its rules as JSON, read with the doubt that they need.

A rule may ask for what is not known of a packet, or in a way that is not understood here. So a
match is true, false or unknown (None), and a chain has a set of outcomes that are possible. What
comes out may be more than what can happen, never less. The format is that of ``nft -j list
ruleset`` (libnftables-json(5)); what does not have it, is unknown.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_STEPS = 20_000
"""Rules that are looked at for one packet, jumps included."""

MOST_JUMPS = 16
"""Chains within chains; the kernel has the same limit (NFT_JUMP_STACK_SIZE)."""

MOST_NESTED = 8
"""Sets within sets and the like."""

FAMILIES = {4: ("ip", "inet", "netdev"), 6: ("ip6", "inet", "netdev")}
"""Families of tables that see a packet, by IP version."""

ACCEPT, DROP, FALL = "accept", "drop", "fall"
"""Outcomes: FALL, the chain ended without a verdict."""

Truth = bool | None
ChainName = tuple[str, str, str]
"""Family, table and chain."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as rules see it.

    Attributes:
        version: 4 or 6.
        facts: Values by (protocol or ``meta`` or ``ct``, field); what is not here, is not known.
        protocols: Its headers: a rule about another one does not match.
    """

    version: int
    facts: Mapping[tuple[str, str], str | int]
    protocols: frozenset[str]


@dataclass(frozen=True, slots=True)
class Culprit:
    """What may drop a packet: a rule of a base chain or of one that it jumps to, or its policy.

    Attributes:
        base: The base chain.
        chain: The chain that the rule is in.
        handle: Of the rule; None: it is the policy.
        is_certain: The base chain drops the packet, whatever is not known of it.
    """

    base: ChainName
    chain: ChainName
    handle: int | None
    is_certain: bool

    def __str__(self) -> str:
        what = "the policy" if self.handle is None else f"rule {self.handle}"
        return f"{what} of chain {' '.join(self.chain)}"


@dataclass(slots=True)
class Chain:
    """A chain: a base chain if it has a hook."""

    hook: str = ""
    priority: int = 0
    policy: str = ACCEPT
    device: Any = None
    rules: list[tuple[int | None, list[Any]]] = field(default_factory=list)
    """Handle and statements of each."""


class TooMuchError(Exception):
    """The rules are more than are looked at."""


class Ruleset:
    """The rules of a machine."""

    def __init__(self, listing: Any) -> None:
        """
        Args:
            listing: What ``nft -j list ruleset`` printed, as Python has it.
        """
        self.chains: dict[ChainName, Chain] = {}
        self._sets: dict[ChainName, Any] = {}
        objects = listing.get("nftables") if isinstance(listing, dict) else None
        for one in objects if isinstance(objects, list) else ():
            for kind, body in one.items() if isinstance(one, dict) else ():
                if isinstance(body, dict):
                    self._take(kind, body)

    def _take(self, kind: str, body: dict[str, Any]) -> None:
        name = body.get("chain" if kind == "rule" else "name")
        place = (str(body.get("family")), str(body.get("table")), str(name))
        if kind == "chain":
            chain = self.chains.setdefault(place, Chain())
            chain.hook = str(body.get("hook") or "")
            priority = body.get("prio")
            chain.priority = priority if isinstance(priority, int) else 0
            chain.policy = DROP if body.get("policy") == "drop" else ACCEPT
            chain.device = body.get("dev")
        elif kind == "rule":
            handle, statements = body.get("handle"), body.get("expr")
            self.chains.setdefault(place, Chain()).rules.append(
                (
                    handle if isinstance(handle, int) else None,
                    statements if isinstance(statements, list) else [],
                )
            )
        elif kind in {"set", "map"}:
            self._sets[place] = body.get("elem", [])

    def named(self, place: ChainName) -> Any:
        """Return the elements of a named set or map; None: there is none."""
        return self._sets.get(place)

    def culprits(self, packet: Packet, hooks: Sequence[str], device: str) -> list[Culprit]:
        """Return what may drop a packet on its way through hooks, in order.

        Args:
            device: The interface.

        Raises:
            TooMuchError: The rules are too many.
        """
        families = FAMILIES[packet.version]
        bases = [
            (hooks.index(chain.hook), chain.priority, place)
            for place, chain in self.chains.items()
            if chain.hook in hooks
            and place[0] in families
            and (chain.device is None or device in _listed(chain.device))
        ]
        return [one for *_, place in sorted(bases) for one in _Walk(self, packet).blame(place)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class _Walk:
    """One packet on its way through a base chain."""

    def __init__(self, ruleset: Ruleset, packet: Packet) -> None:
        self._ruleset = ruleset
        self._packet = packet
        self._steps = 0
        self._blamed: dict[tuple[ChainName, int | None], None] = {}

    def blame(self, base: ChainName) -> list[Culprit]:
        """Return what may drop the packet in a base chain."""
        outcomes = self._chain(base, ())
        if FALL in outcomes:
            outcomes = outcomes - {FALL} | {self._ruleset.chains[base].policy}
            if self._ruleset.chains[base].policy == DROP:
                self._blamed[base, None] = None
        is_certain = outcomes == {DROP}
        return [Culprit(base, chain, handle, is_certain) for chain, handle in self._blamed]

    def _chain(self, place: ChainName, above: tuple[ChainName, ...]) -> frozenset[str]:
        """Return the outcomes of a chain; FALL: those that called it go on."""
        chain = self._ruleset.chains.get(place)
        if chain is None or place in above or len(above) >= MOST_JUMPS:
            return frozenset({ACCEPT, DROP, FALL})
        outcomes: set[str] = set()
        for handle, statements in chain.rules:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise TooMuchError
            found = self._rule(place, handle, statements, (*above, place))
            outcomes |= found - {"next", "return"}
            if "return" in found:
                outcomes.add(FALL)
            if "next" not in found:
                return frozenset(outcomes)
        return frozenset({*outcomes, FALL})

    def _rule(
        self,
        place: ChainName,
        handle: int | None,
        statements: list[Any],
        above: tuple[ChainName, ...],
    ) -> set[str]:
        """Return what a rule may lead to: outcomes, ``return``, or ``next``, the rule behind it."""
        found: set[str] = set()
        for statement in statements:
            kind, body = _only(statement)
            if kind in NO_VERDICTS:
                continue
            truth = self._match(body, place) if kind == "match" else None
            if truth is True:
                continue
            if truth is False:
                return {*found, "next"}
            verdicts = VERDICTS.get(kind)
            if verdicts is None and kind != "vmap":
                found.add("next")  # it is not known whether it goes on to the right
                continue
            if verdicts is not None:
                reached = verdicts(self, place, body, above)
            else:
                reached = self._map(place, body, above)
                if "next" in reached:
                    found |= reached
                    self._note(place, handle, found)
                    continue
            found |= reached
            self._note(place, handle, found)
            return found
        return {*found, "next"}

    def _note(self, place: ChainName, handle: int | None, found: set[str]) -> None:
        """Blame a rule that may drop; those in chains that it jumps to have blamed themselves."""
        if "blame" in found:
            found.discard("blame")
            self._blamed[place, handle] = None

    # Verdicts.

    def jump(self, place: ChainName, body: Any, above: tuple[ChainName, ...]) -> set[str]:
        """Return what a jump to another chain leads to."""
        outcomes = set(self._chain(self._target(place, body), above))
        if FALL in outcomes:
            outcomes = outcomes - {FALL} | {"next"}
        return outcomes

    def goto(self, place: ChainName, body: Any, above: tuple[ChainName, ...]) -> set[str]:
        """Return what going to another chain leads to: at its end, this one ends too."""
        outcomes = set(self._chain(self._target(place, body), above))
        if FALL in outcomes:
            outcomes = outcomes - {FALL} | {"return"}
        return outcomes

    @staticmethod
    def _target(place: ChainName, body: Any) -> ChainName:
        target = body.get("target") if isinstance(body, dict) else None
        return (*place[:2], str(target))

    def _map(self, place: ChainName, body: Any, above: tuple[ChainName, ...]) -> set[str]:
        """Return what a map of verdicts leads to; ``next``: its key may not be in it."""
        body = body if isinstance(body, dict) else {}
        found: set[str] = set()
        for pair in self._elements(body.get("data"), place):
            if not (isinstance(pair, list) and len(pair) == 2):
                return {ACCEPT, DROP, "next", "blame"}
            truth = self._compare(body.get("key"), pair[0], place)
            if truth is False:
                continue
            kind, target = _only(pair[1])
            verdict = VERDICTS.get(kind)
            found |= verdict(self, place, target, above) if verdict else {ACCEPT, DROP, "blame"}
            if truth is True:
                return found
        return {*found, "next"}

    def _elements(self, data: Any, place: ChainName) -> list[Any]:
        if isinstance(data, str) and data.startswith("@"):
            data = self._ruleset.named((*place[:2], data[1:]))
        elif isinstance(data, dict):
            data = data.get("set")
        return data if isinstance(data, list) else [None]

    # Matches.

    def _match(self, body: Any, place: ChainName) -> Truth:
        if not isinstance(body, dict):
            return None
        left, right, operator = body.get("left"), body.get("right"), body.get("op")
        if operator in {"==", "in"}:
            return self._compare(left, right, place)
        if operator == "!=":
            if self._is_absent(left):
                return False
            truth = self._compare(left, right, place)
            return None if truth is None else not truth
        compare = ORDERS.get(str(operator))
        value = self._value(left)
        if self._is_absent(left):
            return False
        if compare is None or not isinstance(value, int) or not isinstance(right, int):
            return None
        return compare(value, right)

    def _compare(self, left: Any, right: Any, place: ChainName) -> Truth:
        if self._is_absent(left):
            return False
        value = self._value(left)
        return None if value is None else self._holds(value, right, place, 0)

    def _is_absent(self, left: Any) -> bool:
        """Whether a rule asks for a header that the packet does not have: it does not match."""
        kind, body = _only(left)
        if kind == "concat":
            return any(map(self._is_absent, body if isinstance(body, list) else ()))
        protocol = body.get("protocol") if isinstance(body, dict) else None
        return kind == "payload" and protocol is not None and protocol not in self._packet.protocols

    def _value(self, left: Any) -> str | int | None:
        kind, body = _only(left)
        if not isinstance(body, dict):
            return None
        if kind == "payload":
            return self._packet.facts.get((str(body.get("protocol")), str(body.get("field"))))
        return self._packet.facts.get((kind, str(body.get("key")))) if kind != "fib" else None

    def _holds(self, value: str | int, right: Any, place: ChainName, depth: int) -> Truth:
        """Whether a value is what stands on the right: itself, a range, or one of many."""
        if depth > MOST_NESTED:
            return None
        if isinstance(right, str) and right.startswith("@"):
            right = self._ruleset.named((*place[:2], right[1:]))
            right = None if right is None else _listed(right)
        if isinstance(right, list):
            return _any(self._holds(value, one, place, depth + 1) for one in right)
        if isinstance(right, dict):
            kind, body = _only(right)
            if kind == "set":
                return self._holds(value, _listed(body), place, depth + 1)
            if kind == "elem" and isinstance(body, dict):
                return self._holds(value, body.get("val"), place, depth + 1)
            return _within(value, kind, body)
        if isinstance(right, bool) or not isinstance(right, str | int):
            return None
        return _equal(value, right)


def _only(statement: Any) -> tuple[str, Any]:
    """Return the key and the value of an object that has one; an empty key: it has not."""
    if isinstance(statement, dict) and len(statement) == 1:
        ((kind, body),) = statement.items()
        return kind, body
    return "", None


def _any(truths: Iterator[Truth]) -> Truth:
    """Whether one of several is true."""
    is_unknown = False
    for truth in truths:
        if truth:
            return True
        is_unknown |= truth is None
    return None if is_unknown else False


def _equal(value: str | int, right: str | int) -> Truth:
    if isinstance(value, str) and isinstance(right, str):
        if right.endswith("*"):
            return value.startswith(right[:-1])
        one, other = _address(value), _address(right)
        right = SYNONYMS.get(right, right)
        return value == right if one is None or other is None else one == other
    # A number for a name, or a name for a number: it is not known what it stands for.
    return value == right if type(value) is type(right) else None


def _within(value: str | int, kind: str, body: Any) -> Truth:
    """Whether a value lies in a range or has a prefix."""
    if kind == "range" and isinstance(body, list) and len(body) == 2:
        if all(isinstance(one, int) for one in (value, *body)):
            return bool(body[0] <= value <= body[1])
        first, one, last = (_address(part) for part in (body[0], value, body[1]))
        if first is None or one is None or last is None:
            return None
        if not first.version == one.version == last.version:
            return False
        return int(first) <= int(one) <= int(last)
    if kind == "prefix" and isinstance(body, dict):
        address = _address(value)
        try:
            network = ipaddress.ip_network(f"{body.get('addr')}/{body.get('len')}", strict=False)
        except ValueError:
            return None
        return None if address is None else address in network
    return None


def _address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None


Verdict = Callable[[_Walk, ChainName, Any, tuple[ChainName, ...]], set[str]]

VERDICTS: dict[str, Verdict] = {
    "accept": lambda *_: {ACCEPT},
    "drop": lambda *_: {DROP, "blame"},
    "reject": lambda *_: {DROP, "blame"},
    "return": lambda *_: {"return"},
    "continue": lambda *_: {"next"},
    "jump": _Walk.jump,
    "goto": _Walk.goto,
    # Others decide.
    "queue": lambda *_: {ACCEPT, DROP, "blame"},
    "fwd": lambda *_: {DROP, "blame"},
}

NO_VERDICTS = frozenset({"counter", "log", "mangle", "notrack", "set", "map", "dup", "comment"})
"""Statements that do something beside and go on to the next one."""

SYNONYMS = {"ipv6-icmp": "icmpv6"}
"""Names that versions of nft have for the same thing."""

ORDERS: dict[str, Callable[[int, int], bool]] = {
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    ">=": lambda one, other: one >= other,
}
