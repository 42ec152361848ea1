"""DNS beside reception: names are looked up in a thread of their own (spec/protocol.md 10.1).

Whatever comes by DNS is a stranger's: what is passed on are addresses, numbers, and words of ours.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pgmlite.core.machine import NOT_OFFERED, SECOND, DnsAnswer, Resolve
from pgmlite.errors import UsageError
from pgmlite.net.records import PREFIX, BadRecords, read_txt

if TYPE_CHECKING:
    import asyncio

    import dns.asyncresolver
    import dns.name
    import dns.resolver

LIFETIME = 5.0
"""Seconds in which a question has to be answered."""

PATIENCE = 1.0
"""Seconds after which the next server is asked."""

PAYLOAD = 1_232
"""Bytes of the largest UDP answer that is asked for: it fits everywhere. TCP brings longer ones."""

MOST_RECORDS = 512
"""SRV records of a name that are looked at."""

MOST_TARGETS = 64
"""Hosts of a name that are looked up: more than can be joined are of no use."""

MOST_ADDRESSES = 64
"""Of one host."""

AT_ONCE = 16
"""Questions under way."""

TYPES = {6: "AAAA", 4: "A"}


def check_name(argument: str, text: str) -> str:
    """Return a name as it is looked up: absolute, in ASCII, without the dot at its end.

    Args:
        argument: Whose value it is, for the error.

    Raises:
        UsageError: No name is like that, or dnspython is not there.
    """
    try:
        # Not a part of every installation.
        import dns.exception
        import dns.name
    except ImportError:
        raise UsageError(
            f"{argument} {text}: names need dnspython: pip install 'pgmlite[dns]'", cause=argument
        ) from None
    with suppress(ValueError):
        ipaddress.ip_address(text.partition("%")[0])
        raise UsageError(f"{argument} {text}: is an address, no name", cause=argument)
    try:
        absolute = dns.name.from_text(text, dns.name.root)
        _ = dns.name.from_text(PREFIX, None).concatenate(absolute)
    except (dns.exception.DNSException, UnicodeError):
        raise UsageError(f"{argument} {text}: DNS can't have such a name", cause=argument) from None
    if absolute == dns.name.root:
        raise UsageError(f"{argument} {text}: give a name such as fw.example.org", cause=argument)
    return absolute.to_text(omit_final_dot=True)


def system_resolver() -> dns.asyncresolver.Resolver:
    """Return a resolver that asks the servers of this machine, as they are now.

    Raises:
        DNSException: It has none.
    """
    import dns.asyncresolver

    return dns.asyncresolver.Resolver()


class _Records(NamedTuple):
    """Records of one type: none if the name has none."""

    rows: Sequence[Any]
    ttl: int
    is_authentic: bool
    answer: dns.resolver.Answer | None = None


class Discovery:
    """Looks names up, several at a time.

    The thread begins with the first name.
    """

    def __init__(
        self,
        versions: Sequence[int],
        resolver: Callable[[], dns.asyncresolver.Resolver] = system_resolver,
    ) -> None:
        """
        Args:
            versions: Of IP that can be used, 6 and 4, the better one first.
            resolver: Makes one for each name; is called in the thread.
        """
        self._versions = tuple(versions)
        self._resolver = resolver
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._under_way: list[Future[DnsAnswer]] = []

    @property
    def fds(self) -> tuple[int, ...]:
        """What to wait for while names are looked up: it can be read when one is."""
        return (self._fd,) if self._under_way else ()

    def add(self, action: Resolve) -> None:
        """Have a name looked up."""
        # Imported where it is used: whoever needs no names starts sooner without it.
        import asyncio

        if self._loop is None:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run, args=(self._loop,), name="dns", daemon=True
            )
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(self._look_up(action), self._loop)
        self._under_way.append(future)
        future.add_done_callback(self._wake)

    def _wake(self, _: Future[DnsAnswer]) -> None:
        os.eventfd_write(self._fd, 1)

    def take(self) -> list[DnsAnswer]:
        """Return what is known by now."""
        if not self._under_way:
            return []
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        done = [future for future in self._under_way if future.done()]
        for future in done:
            self._under_way.remove(future)
        return [future.result() for future in done]

    def close(self) -> None:
        """End at once, whatever is under way."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None
        self._under_way.clear()
        os.close(self._fd)

    # In the thread.

    async def _look_up(self, action: Resolve) -> DnsAnswer:
        import dns.exception

        owner = f"{PREFIX}.{action.name}" if action.is_service else action.name
        try:
            question = _Questions(self._resolver())
            if action.is_service:
                return await self._service(question, action.name, owner)
            return await self._host(question, action.name)
        except BadRecords as error:
            failure, why = error.cause, str(error)
        except dns.exception.DNSException as error:
            failure, why = "unreachable", _no_servers(error)
        return DnsAnswer(name=action.name, failure=failure, text=f"{owner}: {why}")

    async def _service(self, question: _Questions, name: str, owner: str) -> DnsAnswer:
        """
        Raises:
            BadRecords: DNS does not say who sends, and where.
        """
        import asyncio

        services, texts = await asyncio.gather(
            *(question.ask(owner, kind) for kind in ("SRV", "TXT")), return_exceptions=True
        )
        if isinstance(services, BaseException):
            raise services
        if not services.answer:
            raise BadRecords("DNS has the name, but no SRV record of it", cause="no_srv")
        port, targets = _targets(services)
        if not targets:
            return DnsAnswer(
                name=name,
                ttl=services.ttl,
                failure=NOT_OFFERED,
                text=f"{owner}: DNS says that it is not offered",
            )
        if isinstance(texts, BaseException):
            raise texts
        ladders = {
            version: read_txt([one.strings for one in texts.rows], version, port)
            for version in self._versions
        }
        usable = [version for version in self._versions if ladders[version]]
        if not usable:
            kinds = " or ".join(f"IPv{version}" for version in self._versions)
            raise BadRecords(f"its TXT record has no channel for {kinds}", cause="group")
        for version in usable:
            found = await self._addresses(question, targets, version)
            if any(found.tiers):
                # Which kind of IP it is may not change any more: groups are joined.
                self._versions = (version,)
                return DnsAnswer(
                    name=name,
                    tiers=found.tiers,
                    ladder=ladders[version],
                    ttl=min(services.ttl, texts.ttl, found.ttl),
                    is_whole=found.is_whole,
                    is_authentic=services.is_authentic
                    and texts.is_authentic
                    and found.is_authentic,
                )
            if found.failed:
                raise found.failed
        kinds = " or ".join(f"IPv{version}" for version in usable)
        hosts = sum(map(len, targets))
        raise BadRecords(f"none of its {hosts} hosts has an {kinds} address", cause="no_address")

    async def _host(self, question: _Questions, name: str) -> DnsAnswer:
        """
        Raises:
            BadRecords: DNS has no address of the name.
        """
        records = await question.ask(name, TYPES[self._versions[0]])
        addresses = _usable(records)
        if not addresses:
            raise BadRecords(f"DNS has no IPv{self._versions[0]} address of it", cause="no_address")
        return DnsAnswer(
            name=name, tiers=(addresses,), ttl=records.ttl, is_authentic=records.is_authentic
        )

    async def _addresses(
        self, question: _Questions, targets: Sequence[Sequence[str]], version: int
    ) -> _Found:
        """Return the addresses of the hosts of each priority."""
        import asyncio

        hosts = [host for tier in targets for host in tier]
        answers = await asyncio.gather(
            *(question.ask(host, TYPES[version]) for host in hosts), return_exceptions=True
        )
        found = dict(zip(hosts, answers, strict=True))
        tiers, failed, ttl, is_authentic = [], None, [MAX_TTL], True
        for tier in targets:
            addresses: dict[str, None] = {}
            is_known = True
            for host in tier:
                records = found[host]
                if isinstance(records, BadRecords):
                    is_none = records.cause == "nxdomain"
                    is_known &= is_none
                    failed = failed if is_none else failed or records
                elif isinstance(records, BaseException):
                    raise records
                elif records.answer:
                    addresses |= dict.fromkeys(_usable(records))
                    ttl.append(records.ttl)
                    is_authentic &= records.is_authentic
            # One that has no address of this kind is none; one that is not known keeps its place.
            if addresses or not is_known:
                tiers.append(tuple(addresses))
        return _Found(tuple(tiers), min(ttl), failed is None, is_authentic, failed)


MAX_TTL = (1 << 31) * SECOND


class _Found(NamedTuple):
    """Addresses of hosts by priority; `failed`: why some of them could not be looked up."""

    tiers: tuple[tuple[str, ...], ...]
    ttl: int
    is_whole: bool
    is_authentic: bool
    failed: BadRecords | None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, and end what is under way then."""
    import asyncio

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        loop.run_forever()
        loop.run_until_complete(end())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


class _Questions:
    """Questions of one look-up, to the same servers."""

    def __init__(self, resolver: dns.asyncresolver.Resolver) -> None:
        import asyncio

        import dns.flags

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
        import dns.exception
        import dns.flags
        import dns.name
        import dns.resolver

        try:
            async with self._turn:
                answer = await self._resolver.resolve(
                    dns.name.from_text(name, dns.name.root), kind, search=False
                )
        except dns.resolver.NXDOMAIN:
            raise BadRecords("DNS has no such name", cause="nxdomain") from None
        except dns.resolver.NoAnswer:
            return _Records((), MAX_TTL, is_authentic=True)
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


def _why_no_answer(error: dns.exception.DNSException, failure: str) -> BadRecords:
    """Return what each server did, in words of ours."""
    import dns.exception

    said: dict[str, str] = {}
    is_reached = False
    for server, _, _, what, response in error.kwargs.get("errors", ()):
        address = str(server).removeprefix("Do53:").partition("@")[0]
        if response is not None or isinstance(what, dns.exception.Timeout):
            is_reached = True
        said[address] = _what(what)
    servers = "; ".join(f"{address}: {what}" for address, what in said.items())
    if not is_reached and said:
        return BadRecords(f"no DNS server can be asked ({servers})", cause="unreachable")
    if failure == "servfail":
        return BadRecords(f"no DNS server knows ({servers})", cause="servfail")
    return BadRecords(f"no DNS server answered within {LIFETIME:g} s ({servers})", cause="timeout")


def _what(error: object) -> str:
    """Return what a server did, or what kept it from being asked."""
    import dns.exception

    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, dns.exception.Timeout):
        return "no answer"
    if isinstance(error, BaseException):
        return type(error).__name__
    return str(error)[:40]  # the name of a response code


def _no_servers(error: Exception) -> str:
    """Return why there is no server to be asked."""
    return f"this machine has no DNS server ({type(error).__name__}): see /etc/resolv.conf"


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
