"""What was heard, and what follows from it: data arrives, or where it is lost."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence

from pgmlite.core.figures import CheckResult
from pgmlite.core.human import MOST_NAMED, human_bytes, human_list, human_rate
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive.diagnosis import SMALLER_MTUS
from pgmlite.net.doctor.hearing import Ear, Hearing, Stream
from pgmlite.net.doctor.place import Place
from pgmlite.net.doctor.results import FAIL, fail, ok, warn
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.endpoint import Endpoint, udp_headers

GONE_AFTER = 2_500 * MS
"""Silence at the end, ns, after which a sender has ended: it sends an SPM a second, at least."""

BEHIND_WIRE = frozenset({"firewall", "rp_filter", "source"})
"""Causes of which packets get lost between the interface and the receiver."""


def has_data(hearing: Hearing) -> bool:
    """Whether data of an object that would be taken came to the receiver."""
    counters = hearing.main.machine.counters
    return bool(counters.odata or counters.rdata)


def _last_heard(hearing: Hearing) -> int | None:
    """Return when a sender of the object was heard last, ns; None: never."""
    heard = hearing.main.machine.heard
    return hearing.main.heard if heard is None else heard


def is_gone(hearing: Hearing) -> bool:
    """Whether nothing came of late, although something had."""
    heard = _last_heard(hearing)
    return heard is not None and hearing.ended - heard >= GONE_AFTER


def arrives(hearing: Hearing) -> bool:
    """Whether a receiver would get its object."""
    return has_data(hearing) and not is_gone(hearing) and not hearing.main.machine.large.are_blocked


def on_wire(place: Place, interface: str, hearing: Hearing) -> list[Ear]:
    """Return what comes to the interface for the group and port."""
    here = Stream(interface, str(place.group), place.port)
    return [ear for stream, ear in hearing.streams.items() if stream == here and ear.packets]


def sources_of(ears: Iterable[Ear]) -> list[str]:
    """Return the addresses that packets came from, the busiest first."""
    counts: dict[str, int] = {}
    for ear in ears:
        for address, count in ear.sources.items():
            counts[address] = counts.get(address, 0) + count
    return sorted(counts, key=lambda address: (-counts[address], address))


def check_data(
    place: Place, interface: str, hearing: Hearing, failed: Collection[str]
) -> list[CheckResult]:
    """Look at what came to the receiver, and if nothing did, for where it is.

    Args:
        failed: Causes that were found already: that nothing comes is what follows from them.
    """
    main = hearing.main
    if hearing.refusal:
        text = str(hearing.refusal)
        return [fail("socket", text, "end the program that has the port, or use another one")]
    if main.machine.large.are_blocked:
        return [_blocked(place, main)]
    if has_data(hearing):
        return _received(place, hearing)
    if place.oid is not None and main.machine.evidence.others:
        text = f"object {place.oid:016x} does not come to {place.where}"
        return [
            fail("object", text, "wait for its sender, or name one that is heard with --object")
        ]
    if main.packets:
        text = f"small packets come from {_some(sources_of([main]))}, and no data"
        return [fail("data", text, "is that a repairer alone, or a sender that stands still?")]
    if refused := main.refused.most_common(MOST_NAMED):
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused)
        text = f"packets come to {place.where}, none of which is valid: {reasons}"
        return [fail("data", text, "another program uses this group and port: take others")]
    return _where_else(place, interface, hearing, failed)


def _received(place: Place, hearing: Hearing) -> list[CheckResult]:
    """Return what there is to say of data that came."""
    main = hearing.main
    machine = main.machine
    object_ = "an object whose manifest did not come yet"
    if manifest := machine.manifest:
        object_ = f"{manifest.name}, {human_bytes(manifest.size)}, object {manifest.oid:016x},"
    where = _some(sources_of([main]))
    if is_gone(hearing):
        seconds = (hearing.ended - (_last_heard(hearing) or 0)) / SECOND
        text = f"{object_} came from {where}, and nothing for the last {seconds:.1f} s"
        return [fail("silence", text, "the sender has ended, or the way is broken")]
    counters = machine.counters
    size = _packet_size(place, main) * (counters.odata + counters.rdata)
    rate = size * 8 * SECOND / max(1, hearing.ended - (main.first or 0))
    announced = f" of {human_rate(main.rate)}" if main.rate else ""
    text = f"{object_} comes from {where} at {human_rate(int(rate) or 1)}{announced}"
    return [ok("data", text)]


def _packet_size(place: Place, main: Ear) -> int:
    """Return the bytes of the object's largest packets, IP headers included."""
    current = main.machine.current
    payload = min(current.symbol_size, current.size) if current else 0
    return payload + HEADER_SIZE + udp_headers(str(place.group))


def _blocked(place: Place, main: Ear) -> CheckResult:
    """Return that small packets get through and large ones don't."""
    size = _packet_size(place, main)
    smaller = next((mtu for mtu in SMALLER_MTUS if mtu < size), None)
    text = (
        f"packets of {size} bytes do not get through, smaller ones do: of "
        f"{main.machine.large.unseen} sent none came"
    )
    advice = f"start the sender with --mtu {smaller}" if smaller else "use smaller packets"
    return fail("mtu", text, f"{advice}, or mend the MTU on the way")


def _where_else(
    place: Place, interface: str, hearing: Hearing, failed: Collection[str]
) -> list[CheckResult]:
    """Return where something comes in, when nothing comes to the receiver."""
    if here := on_wire(place, interface, hearing):
        names = _some(sources_of(here))
        text = f"packets of {names} come to {interface}, not to the receiver"
        if "source" in failed:
            source = sources_of(here)[0]
            text = f"packets of {names} come to {interface}"
            return [warn("source", text, f"that may be the sender: --source {source}")]
        if place.sources and not _is_named(place, here):
            advice = f"name the sender: --source {sources_of(here)[0]}"
            return [fail("source", f"{text}: --source names others", advice)]
        advice = "look at what else may drop them on this machine, such as tc, XDP or a container"
        return [] if BEHIND_WIRE & {*failed} else [fail("wire", text, advice)]
    found = [(stream, ear) for stream, ear in hearing.streams.items() if ear.packets]
    results = _other_interfaces(place, hearing, found) or [
        one for stream, ear in found for one in _other_group(place, stream, ear)
    ]
    if not results and not failed:
        return [_silence(place, interface, hearing)]
    return results[:MOST_NAMED]


def _is_named(place: Place, ears: Sequence[Ear]) -> bool:
    heard = {ipaddress.ip_address(one.partition("%")[0]) for one in sources_of(ears)}
    return bool(heard & set(place.sources))


def _other_interfaces(
    place: Place, hearing: Hearing, found: Sequence[tuple[Stream, Ear]]
) -> list[CheckResult]:
    """Return that the group comes in by another interface."""
    ears = {name: ear for name, ear in hearing.elsewhere.items() if ear.packets}
    for stream, ear in found:
        if (stream.group, stream.port) == (str(place.group), place.port):
            ears.setdefault(stream.interface, ear)
    return [
        fail(
            "interface",
            f"{place.where} comes in by {name}, from {_some(sources_of([ear]))}",
            f"use that interface: -i {name}",
        )
        for name, ear in sorted(ears.items())
    ]


def _other_group(place: Place, stream: Stream, ear: Ear) -> list[CheckResult]:
    """Return that another group or port has what was looked for, perhaps."""
    group = ipaddress.ip_address(stream.group)
    if (group, stream.port) == (place.group, place.port):
        return []
    what = f"{_objects(ear)} sent to {_endpoint(stream)}, not to {place.where}"
    options = f"-g {stream.group}" + (f" -p {stream.port}" if stream.port != place.port else "")
    advice = f"if that is what you want, use its group: {options}"
    if group.version != place.group.version:
        return [fail("family", f"{what}: that is IPv{group.version}", advice)]
    return [fail("group" if group != place.group else "port", what, advice)]


def _silence(place: Place, interface: str, hearing: Hearing) -> CheckResult:
    """Return that there is nothing at all."""
    where = f"{place.where} on {interface}" if interface else place.where
    text = f"nothing came to {where} in {hearing.seconds:.0f} s"
    if not hearing.no_tap:
        text += ", and nothing of a sender to any interface"
    advice = (
        "is the sender running, on this network, with this group? Behind a router it needs "
        "--hops above 1, and the routers multicast routing; switches that snoop need a querier"
    )
    return fail("silence", text, advice)


def check_sessions(
    place: Place, interface: str, hearing: Hearing, results: Sequence[CheckResult]
) -> list[CheckResult]:
    """Name what else is heard: other objects on the group, and other groups."""
    found = []
    if objects := hearing.main.machine.evidence.others.values():
        names = _some([str(one) for one in objects], "; ")
        found.append(ok("sessions", f"announced on the group as well: {names}"))
    if any(one.state == FAIL and one.cause in {"group", "port", "family"} for one in results):
        return found
    here = Stream(interface, str(place.group), place.port)
    others = [
        f"{_objects(ear)} sent to {_endpoint(stream)} by {_some(sources_of([ear]))}"
        for stream, ear in sorted(hearing.streams.items())
        if ear.packets and stream != here
    ]
    if others:
        found.append(ok("sessions", f"on other groups: {_some(others, '; ')}"))
    return found


def _objects(ear: Ear) -> str:
    return f"{_some(ear.objects, '; ')} is" if ear.objects else "packets are"


def _endpoint(stream: Stream) -> str:
    return f"{Endpoint(stream.group, stream.port)} on {stream.interface}"


def _some(names: Sequence[str], between: str = ", ") -> str:
    return human_list(names, MOST_NAMED, between)
