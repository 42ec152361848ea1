"""DNS beside reception: names are looked up in a thread of their own (spec/protocol.md 10.1).

What is asked and what follows from it, `lookups` has.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from pgmlite.core.machine import DnsAnswer, Resolve
from pgmlite.errors import UsageError
from pgmlite.net.records import PREFIX, BadRecords
from pgmlite.wire.endpoint import ip_version

if TYPE_CHECKING:
    import asyncio

    import dns.asyncresolver
    import dns.name
    import dns.resolver


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

        from pgmlite.net import lookups

        name = action.name
        try:
            question = lookups.Questions(self._resolver())
            if not action.is_service:
                return await lookups.host(question, name, self._versions[0])
            answer = await lookups.service(question, name, self._versions)
            if answer.ladder:
                # Which kind of IP it is may not change any more: groups are joined (spec: DNS-4).
                self._versions = (ip_version(answer.ladder[0].group.address),)
            return answer
        except BadRecords as error:
            failure, why = error.cause, str(error)
        except dns.exception.DNSException as error:
            failure = "unreachable"
            why = f"this machine has no DNS server ({type(error).__name__}): see /etc/resolv.conf"
        owner = f"{PREFIX}.{name}" if action.is_service else name
        return DnsAnswer(name=name, failure=failure, text=f"{owner}: {why}")


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
