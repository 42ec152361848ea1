"""An examination from its arguments to its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pgmlite.core.events import Examined, ExamineStarted, Tell
from pgmlite.core.events_listening import Checked
from pgmlite.core.figures import CheckResult
from pgmlite.core.machine import SECOND
from pgmlite.errors import NetworkError, TimedOut
from pgmlite.net.address import Channel, usable_versions
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
    candidates,
    check_family,
    check_interface,
    chosen,
    interfaces,
)
from pgmlite.net.doctor.names import check_names, look_up, place_by
from pgmlite.net.doctor.place import Asked, Place
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

    asked: Asked
    seconds: int
    proc: Path = field(default=PROC)

    def run(self, tell: Tell) -> Waits[Examined]:
        """
        Raises:
            TimedOut: No data arrives.
            Interrupted: It was asked to stop.
        """
        asked = self.asked
        results: list[CheckResult] = []

        def say(found: Iterable[CheckResult]) -> None:
            for result in found:
                results.append(result)
                tell(Checked(time.monotonic_ns(), result))

        started = time.monotonic_ns()
        group = "" if asked.group is None else str(asked.group)
        name, seconds = asked.service, self.seconds / SECOND
        tell(ExamineStarted(started, name, group, asked.port, asked.interface, seconds))
        say(check_clock(time.time()))
        place = yield from self._find(say)
        comes = place is not None and (yield from self._examine(place, say, results))
        counts = Counter(result.state for result in results)
        error = None
        if not comes:
            causes = dict.fromkeys(one.cause for one in results if one.state == FAIL)
            error = TimedOut(f"no data arrives: {', '.join(causes)}")
        examined = Examined(time.monotonic_ns(), error, counts[OK], counts[WARN], counts[FAIL])
        tell(examined)
        if error:
            raise error
        return examined

    def _find(self, say: Callable[[Iterable[CheckResult]], None]) -> Waits[Place | None]:
        """Return the place to look at; None: DNS does not say which."""
        asked = self.asked
        if not asked.service and not asked.hosts:
            return place_by(asked, {})
        versions: tuple[int, ...] = (6, 4)
        if asked.group is not None:
            versions = (asked.group.version,)
        else:
            with suppress(NetworkError):  # the interface is looked at afterwards
                _, versions = usable_versions(asked.interface or None)
        answers = yield from look_up(asked, versions)
        say(check_names(answers))
        return place_by(asked, answers)

    def _examine(
        self,
        place: Place,
        say: Callable[[Iterable[CheckResult]], None],
        results: list[CheckResult],
    ) -> Waits[bool]:
        """Look and listen; return whether data arrives.

        Args:
            results: What `say` has said.
        """
        known = interfaces()
        one = chosen(place, known)
        say(check_interface(place, known))
        say(check_family(place, known))
        checked = check_group(place, is_loopback=bool(one and one.is_loopback))
        say(checked)
        # A receiver would stop here, and joining a group without its sources does harm.
        can_join = not any(result.state == FAIL for result in checked)
        can_join &= all(source.version == place.group.version for source in place.sources)
        channel, others = None, []
        if can_join:
            has_family = one and place.family in one.families
            channel = place.on(one.name, one.index) if one and has_family else None
            others = [
                place.on(other.name, other.index)
                for other in candidates(place, known)
                if other != one
            ]
        hearing = Hearing(place, channel, others, self.proc)
        yield from hearing.listen(self.seconds)
        say(self._conclude(place, channel, one.name if one else "", hearing, results))
        return arrives(hearing)

    def _conclude(
        self,
        place: Place,
        channel: Channel | None,
        name: str,
        hearing: Hearing,
        before: list[CheckResult],
    ) -> Iterable[CheckResult]:
        """Yield what follows from what was heard.

        Args:
            name: The interface; empty: there is none, or no one.
        """
        good = has_data(hearing)
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
