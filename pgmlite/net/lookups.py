"""What DNS says of a service or a host: which records are looked up, and what follows from them.

Needs dnspython. Whatever comes by DNS is a stranger's: what is passed on are addresses, numbers,
names in their escaped form, and words of ours (spec: DNS-10).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.resolver

from pgmlite.core.machine import NOT_OFFERED, SECOND, DnsAnswer
from pgmlite.net.records import PREFIX, BadRecords, read_txt
from pgmlite.wire.manifest import Rung

LIFETIME = 5.0
"""Seconds in which a question has to be answered."""

PATIENCE = 1.0
"""Seconds after which the next server is asked."""

PAYLOAD = 1_232
"""Bytes of the largest UDP answer that is asked for: it fits everywhere. TCP brings longer ones."""

MOST_RECORDS = 512
"""SRV records of a name that are looked at (spec: DNS-2)."""

MOST_TARGETS = 64
"""Hosts of a name that are looked up: more than can be joined are of no use."""

MOST_ADDRESSES = 64
"""Of one host."""

MOST_SOURCES = 256
"""Of one name."""

AT_ONCE = 16
"""Questions under way."""

MAX_TTL = (1 << 31) * SECOND
"""RFC 2181 section 8."""

TYPES = {6: "AAAA", 4: "A"}
"""Of records with addresses, by the version of IP."""


@dataclass(frozen=True, slots=True)
class _Records:
    """Records of one type: none if the name has none."""

    rows: Sequence[Any]
    ttl: int
    is_authentic: bool
    answer: dns.resolver.Answer | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """Addresses of hosts by priority; `failed`: why some of them could not be looked up."""

    tiers: tuple[tuple[str, ...], ...]
    ttl: int
    is_authentic: bool
    failed: BadRecords | None


class Questions:
    """Questions of one look-up, to the same servers."""

    def __init__(self, resolver: dns.asyncresolver.Resolver) -> None:
        resolver.lifetime = LIFETIME
        resolver.timeout = PATIENCE
        # spec: DNS-7
        resolver.flags = dns.flags.RD | dns.flags.AD
        resolver.use_edns(0, dns.flags.DO, PAYLOAD)
        self._resolver = resolver
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def ask(self, name: str, kind: str) -> _Records:
        """Return the records of a name; aliases are followed.

        Raises:
            BadRecords: There is no such name, or no server answers.
        """
        try:
            async with self._turn:
                answer = await self._resolver.resolve(
                    dns.name.from_text(name, dns.name.root), kind, search=False
                )
        except dns.resolver.NXDOMAIN:
            raise BadRecords("DNS has no such name", cause="nxdomain") from None
        except dns.resolver.NoAnswer:
            return _NOTHING
        except dns.resolver.LifetimeTimeout as error:
            raise _why_no_answer(error, "timeout") from None
        except dns.resolver.NoNameservers as error:
            raise _why_no_answer(error, "servfail") from None
        except dns.exception.DNSException as error:
            raise BadRecords(
                f"what DNS answered makes no sense ({type(error).__name__})", cause="malformed"
            ) from None
        return _Records(
            list(answer)[:MOST_RECORDS],
            answer.chaining_result.minimum_ttl * SECOND,
            bool(answer.response.flags & dns.flags.AD),
            answer,
        )

    async def find(self, name: str, kind: str) -> _Records | BadRecords:
        """Return the records of a name, none if it is none, or why they are not known."""
        try:
            return await self.ask(name, kind)
        except BadRecords as error:
            return _NOTHING if error.cause == "nxdomain" else error


_NOTHING = _Records((), MAX_TTL, is_authentic=True)


def _why_no_answer(error: dns.exception.DNSException, failure: str) -> BadRecords:
    """Return what each server did, in words of ours."""
    said = {
        str(server).removeprefix("Do53:").partition("@")[0]: _what(what)
        for server, _, _, what, _ in error.kwargs.get("errors", ())
    }
    servers = "; ".join(f"{address}: {what}" for address, what in said.items())
    if failure == "timeout":
        return BadRecords(
            f"no DNS server answered within {LIFETIME:g} s ({servers})", cause=failure
        )
    return BadRecords(f"no DNS server has an answer ({servers})", cause=failure)


def _what(error: object) -> str:
    """Return what a server did, or what kept it from being asked."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, dns.exception.Timeout):
        return "no answer"
    if isinstance(error, BaseException):
        return type(error).__name__
    return str(error)[:40]  # the name of a response code


# What is asked, and what it comes to.


async def host(question: Questions, name: str, version: int) -> DnsAnswer:
    """Return the addresses of a host.

    Args:
        version: Of IP: 6 or 4.

    Raises:
        BadRecords: DNS has none.
    """
    records = await question.ask(name, TYPES[version])
    addresses = _usable(records)
    if not addresses:
        raise BadRecords(f"DNS has no IPv{version} address of it", cause="no_address")
    return DnsAnswer(
        name=name, tiers=(addresses,), ttl=records.ttl, is_authentic=records.is_authentic
    )


async def service(question: Questions, name: str, versions: Sequence[int]) -> DnsAnswer:
    """Return the sources and channels of a service.

    Args:
        versions: Of IP that can be used, 6 and 4, the better one first.

    Raises:
        BadRecords: DNS does not say who sends, and where.
    """
    owner = f"{PREFIX}.{name}"
    services, texts = await asyncio.gather(
        question.ask(owner, "SRV"), question.ask(owner, "TXT"), return_exceptions=True
    )
    if isinstance(services, BaseException):
        raise services
    if services.answer is None:
        raise BadRecords("DNS has the name, but no SRV record of it", cause="no_srv")
    port, targets = _targets(services)
    if not targets:
        text = f"{owner}: DNS says that it is not offered"
        return DnsAnswer(name=name, ttl=services.ttl, failure=NOT_OFFERED, text=text)
    if isinstance(texts, BaseException):
        raise texts
    ladders = _ladders(texts, versions, port)
    for version, ladder in ladders.items():
        found = await _addresses(question, targets, version)
        if any(found.tiers):
            return DnsAnswer(
                name=name,
                tiers=found.tiers,
                ladder=ladder,
                ttl=min(services.ttl, texts.ttl, found.ttl),
                is_whole=found.failed is None,
                is_authentic=all(one.is_authentic for one in (services, texts, found)),
            )
        if found.failed:
            raise found.failed
    hosts = sum(map(len, targets))
    raise BadRecords(
        f"none of its {hosts} hosts has an {_kinds(ladders)} address", cause="no_address"
    )


def _kinds(versions: Iterable[int]) -> str:
    return " or ".join(f"IPv{version}" for version in versions)


def _ladders(texts: _Records, versions: Sequence[int], port: int) -> dict[int, tuple[Rung, ...]]:
    """Return the channels for each version of IP that has some.

    Raises:
        BadRecords: There are none, or they are none that can be received.
    """
    records = [one.strings for one in texts.rows]
    ladders = {version: read_txt(records, version, port) for version in versions}
    if not any(ladders.values()):
        raise BadRecords(f"its TXT record has no channel for {_kinds(versions)}", cause="group")
    return {version: ladder for version, ladder in ladders.items() if ladder}


async def _addresses(question: Questions, targets: Sequence[Sequence[str]], version: int) -> _Found:
    """Return the addresses of the hosts of each priority."""
    names = [one for hosts in targets for one in hosts]
    answers = await asyncio.gather(*(question.find(one, TYPES[version]) for one in names))
    found = dict(zip(names, answers, strict=True))
    tiers = []
    room = MOST_SOURCES
    for hosts in targets:
        tier = _tier([found[one] for one in hosts])
        if tier is not None and room:
            tiers.append(tier[:room])
            room -= len(tiers[-1])
    records = [one for one in answers if isinstance(one, _Records)]
    return _Found(
        tuple(tiers),
        min((one.ttl for one in records), default=MAX_TTL),
        all(one.is_authentic for one in records),
        next((one for one in answers if isinstance(one, BadRecords)), None),
    )


def _tier(answers: Sequence[_Records | BadRecords]) -> tuple[str, ...] | None:
    """Return the addresses of a priority's hosts; None: it is known that they have none."""
    known = [one for one in answers if isinstance(one, _Records)]
    addresses = dict.fromkeys(address for one in known for address in _usable(one))
    return tuple(addresses) if addresses or len(known) < len(answers) else None


def _targets(services: _Records) -> tuple[int, list[list[str]]]:
    """Return the port of a service, and its hosts by priority, as RFC 2782 orders them.

    Raises:
        BadRecords: There are more records than anybody needs, or the port is none.
    """
    answer = services.answer
    if answer is None or answer.rrset is None or len(answer.rrset) > MOST_RECORDS:
        raise BadRecords(f"DNS has more than {MOST_RECORDS} SRV records of it", cause="malformed")
    rows: list[Any] = answer.rrset.processing_order()
    ordered = [one for one in rows if one.target.labels != (b"",)]
    if not ordered:
        return 0, []
    port = ordered[0].port
    if not port:
        raise BadRecords("its SRV record has port 0", cause="malformed")
    hosts: dict[str, int] = {}
    for one in ordered:
        # spec: DNS-2
        if one.port == port and len(hosts) < MOST_TARGETS:
            hosts.setdefault(one.target.to_text(), one.priority)
    tiers: dict[int, list[str]] = {}
    for host, priority in hosts.items():
        tiers.setdefault(priority, []).append(host)
    return port, list(tiers.values())


def _usable(records: _Records) -> tuple[str, ...]:
    """Return the addresses that a machine can send from (spec: DNS-4)."""
    found = []
    for record in records.rows[:MOST_ADDRESSES]:
        address = ipaddress.ip_address(record.address)
        mapped = address.version == 6 and address.ipv4_mapped
        if not (
            address.is_multicast
            or address.is_unspecified
            or address.is_link_local
            or mapped
            or str(address) == "255.255.255.255"
        ):
            found.append(str(address))
    return tuple(found)
