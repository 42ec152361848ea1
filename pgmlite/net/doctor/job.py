"""An examination from its arguments to its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pgmlite.core.events import Checked, Examined, ExamineStarted, Tell
from pgmlite.core.figures import CheckResult
from pgmlite.core.machine import SECOND
from pgmlite.errors import TimedOut
from pgmlite.net.address import Channel
from pgmlite.net.doctor.arrival import (
    arrives,
    check_data,
    check_sessions,
    has_data,
    on_wire,
    sources_of,
)
from pgmlite.net.doctor.firewall import check_firewall, read_rules
from pgmlite.net.doctor.groups import check_group
from pgmlite.net.doctor.hearing import Hearing
from pgmlite.net.doctor.host import check_buffer, check_clock
from pgmlite.net.doctor.interfaces import (
    Interface,
    candidates,
    check_family,
    check_interface,
    chosen,
    interfaces,
)
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import FAIL, OK, WARN
from pgmlite.net.doctor.routes import check_reverse_path
from pgmlite.net.doctor.system import PROC
from pgmlite.net.doctor.versions import check_querier, check_version
from pgmlite.net.waiting import Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorJob:
    """What to examine, and for how long to listen.

    Attributes:
        seconds: ns.
        proc: Where the system says what it is like.
    """

    place: Place
    seconds: int
    proc: Path = field(default=PROC)

    def run(self, tell: Tell) -> Waits[Examined]:
        """
        Raises:
            TimedOut: No data arrives.
            Interrupted: It was asked to stop.
        """
        place = self.place
        known = interfaces()
        one = chosen(place, known)
        seconds = self.seconds / SECOND
        name = one.name if one else ""
        started = time.monotonic_ns()
        tell(ExamineStarted(started, str(place.group), place.port, name, seconds))
        results: list[CheckResult] = []

        def say(found: Iterable[CheckResult]) -> None:
            for result in found:
                results.append(result)
                tell(Checked(time.monotonic_ns(), result))

        say(check_clock(time.time()))
        say(check_interface(place, known))
        say(check_family(place, known))
        checked = check_group(place, is_loopback=bool(one and one.is_loopback))
        say(checked)
        # A receiver would stop here, and joining a group without its sources does harm.
        can_join = not any(result.state == FAIL for result in checked)
        can_join &= all(source.version == place.group.version for source in place.sources)
        channel = self._channel(one) if can_join and one else None
        others = self._others(known, one) if can_join else []
        hearing = Hearing(place, channel, others, self.proc)
        yield from hearing.listen(self.seconds)
        say(self._conclude(channel, name, hearing, results))
        counts = Counter(result.state for result in results)
        error = None
        if not arrives(hearing):
            causes = dict.fromkeys(r.cause for r in results if r.state == FAIL)
            error = TimedOut(f"no data arrives: {', '.join(causes)}")
        examined = Examined(time.monotonic_ns(), error, counts[OK], counts[WARN], counts[FAIL])
        tell(examined)
        if error:
            raise error
        return examined

    def _channel(self, one: Interface) -> Channel | None:
        """Return where a receiver would listen; None: it could not."""
        has_family = self.place.family in one.families
        return self.place.on(one.name, one.index) if has_family else None

    def _others(self, known: dict[str, Interface], one: Interface | None) -> list[Channel]:
        """Return the group on the interfaces that it may come in by instead."""
        return [
            self.place.on(other.name, other.index)
            for other in candidates(self.place, known)
            if other != one
        ]

    def _conclude(
        self, channel: Channel | None, name: str, hearing: Hearing, before: list[CheckResult]
    ) -> Iterable[CheckResult]:
        """Yield what follows from what was heard.

        Args:
            name: The interface; empty: there is none, or no one.
        """
        place, good = self.place, has_data(hearing)
        wire = on_wire(place, name, hearing)
        if channel:
            yield from check_version(place, name, self.proc, arrives=good)
            yield from check_firewall(
                read_rules(self.proc), place, name, arrives=good, is_on_wire=bool(wire)
            )
            named = {str(source) for source in place.sources if source.version == 4}
            yield from check_reverse_path(
                place,
                name,
                named | {*sources_of(wire)},
                hearing.dropped_by_filter,
                self.proc,
                arrives=good,
                can_see=not hearing.no_tap,
            )
            if hearing.granted:
                yield from check_buffer(hearing.granted, hearing.wanted, hearing.main.rate)
        yield from check_querier(
            place, hearing.queries, self.seconds / SECOND, arrives=good, why=hearing.no_tap
        )
        if hearing.no_tap and not good:
            yield CheckResult(WARN, "wire", hearing.no_tap, "run doctor as root")
        failed = {result.cause for result in before if result.state == FAIL}
        data = check_data(place, name, hearing, failed)
        yield from data
        yield from check_sessions(place, name, hearing, data)
