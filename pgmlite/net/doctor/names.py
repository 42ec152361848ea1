"""Names: what DNS says of a service or of the hosts that send (spec/protocol.md section 10.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from pgmlite.core.config_listening import SourcesConfig
from pgmlite.core.figures import CheckResult
from pgmlite.core.human import MOST_NAMED, human_list
from pgmlite.core.machine import SECOND, DnsAnswer, Resolve
from pgmlite.net.discovery import Discovery
from pgmlite.net.doctor.place import Asked, Place
from pgmlite.net.doctor.results import fail, ok
from pgmlite.net.groups import Address
from pgmlite.net.waiting import POLL, Wait, Waits

PUBLISH = "publish the records: pgmlite send --print-dns prints them"
SERVERS = "look at /etc/resolv.conf, and at the servers that it names"
ADVICE = {
    "nxdomain": PUBLISH,
    "no_srv": PUBLISH,
    "no_txt": PUBLISH,
    "no_address": "give the hosts addresses of a kind that this machine has, or give it one",
    "servfail": SERVERS,
    "timeout": SERVERS,
    "unreachable": SERVERS,
    "malformed": "correct the records: pgmlite send --print-dns prints good ones",
    "group": "correct the records: pgmlite send --print-dns prints good ones",
    "not_offered": "whoever has the name has withdrawn it: ask there",
}
"""What to do, by `pgmlite.core.machine.FAILURES`."""


def look_up(asked: Asked, versions: Sequence[int]) -> Waits[dict[str, DnsAnswer]]:
    """Return what DNS says of the names that were given.

    Args:
        versions: Of IP that can be used, the better one first.
    """
    discovery = Discovery(versions)
    answers: dict[str, DnsAnswer] = {}
    try:
        if asked.service:
            discovery.add(Resolve(asked.service, is_service=True))
        for host in asked.hosts:
            discovery.add(Resolve(host, is_service=False))
        while fds := discovery.fds:
            yield Wait(POLL, fds)
            answers |= {answer.name: answer for answer in discovery.take()}
    finally:
        discovery.close()
    return answers


def check_names(answers: dict[str, DnsAnswer]) -> list[CheckResult]:
    """Look at what DNS says."""
    return [_check(answer) for _, answer in sorted(answers.items())]


def _check(answer: DnsAnswer) -> CheckResult:
    if answer.failure:
        advice = ADVICE.get(answer.failure, SERVERS)
        return fail("dns", answer.text, advice)
    best, *others = [human_list(tier, MOST_NAMED) for tier in answer.tiers] or [""]
    text = f"{answer.name} is sent by {best}"
    if others:
        text += f", or else {'; '.join(others)}"
    if answer.ladder:
        rung = answer.ladder[0]
        what = "the lowest of its channels" if len(answer.ladder) > 1 else "its group"
        text += f"; {what} is {rung.group}"
    return ok("dns", f"{text}; asked again in {answer.ttl // SECOND} s")


def place_by(asked: Asked, answers: dict[str, DnsAnswer]) -> Place | None:
    """Return what is to be examined; None: DNS does not say.

    Of several channels it is the lowest.
    """
    if any(answer.failure for answer in answers.values()):
        return None
    group, port = asked.group, asked.port
    service = answers.get(asked.service)
    if service and service.ladder:
        endpoint = service.ladder[0].group
        group, port = ipaddress.ip_address(endpoint.address), endpoint.port
    if group is None:
        return None
    found = [address for answer in answers.values() for address in _best(answer)]
    most = SourcesConfig().most_sources(group.version)
    sources = tuple(dict.fromkeys([*asked.sources, *found]))[:most]
    return Place(group, port, asked.interface, sources, asked.oid)


def _best(answer: DnsAnswer) -> list[Address]:
    """Return the sources that are heard first."""
    return [ipaddress.ip_address(one) for tier in answer.tiers[:1] for one in tier]
