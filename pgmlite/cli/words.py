"""Events in words, for people."""

from __future__ import annotations

from datetime import UTC, datetime

from pgmlite.cli.json_lines import oid_text
from pgmlite.cli.progress import repairs_text
from pgmlite.core.events import (
    Adopted,
    Completed,
    Damaged,
    Event,
    Followed,
    Hooked,
    InPlace,
    NakDue,
    ReceiveFailed,
    ReceiveStarted,
    RepairStarted,
    ReplayStarted,
    SendStarted,
    Stopped,
    Superseded,
)
from pgmlite.core.events_listening import RateChanged, Resolved, SourceState, Trying
from pgmlite.core.events_signing import Signed, Verified
from pgmlite.core.figures import ReceiveFigures, SendChannel
from pgmlite.core.human import human_bytes, human_list, human_rate, human_time
from pgmlite.core.machine import SECOND
from pgmlite.net.address import Channel
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.endpoint import udp_headers
from pgmlite.wire.manifest import Manifest

WORTH_A_WORD = 1.0
"""Seconds of waiting for a sender that are told of."""

MOST_ADDRESSES = 8
"""Those that a line has, at most."""


def text_of(event: Event, began: int) -> str:
    """Return an event's line, `began` ns being the start; empty: it has none."""
    match event:
        case SendStarted() | RepairStarted() | ReceiveStarted() | ReplayStarted():
            return _started(event)
        case Adopted():
            return _adopted(event)
        case Superseded():
            return _superseded(event)
        case Damaged():
            return _damaged(event)
        case NakDue():
            return _nak(event, began)
        case Hooked(program=program, ending=ending):
            if ending is None:
                return f"running {program} on {event.path}"
            return f"{program}: done in {ending.seconds:.1f} s" if event.phase == "done" else ""
        case Completed():
            return _completed(event)
        case InPlace() | Followed():
            return _following(event)
        case ReceiveFailed():
            return _receive_failed(event)
        case Stopped():
            return _stopped(event)
    return _of_listening(event)


def _started(event: SendStarted | RepairStarted | ReceiveStarted | ReplayStarted) -> str:
    match event:
        case SendStarted():
            return _send_started(event)
        case RepairStarted(manifest=manifest):
            return (
                f"repairing {manifest.name}, {human_bytes(manifest.size)}, object "
                f"{oid_text(manifest.oid)}, at {human_rate(event.rate)}; NAKs at port "
                f"{event.nak_port}"
            )
        case ReceiveStarted():
            whence = f" from {human_list(event.sources, MOST_ADDRESSES)}" if event.sources else ""
            return (
                f"waiting for {_channel(event)}{whence} "
                f"(receive buffer {human_bytes(event.buffer)}){_origin(event.keys)}"
            )
        case ReplayStarted():
            return f"reading {event.capture}{_origin(event.keys)}"


def _following(event: InPlace | Followed) -> str:
    """Return what a receiver that follows finds, and what it has done at the end."""
    if isinstance(event, Followed):
        count = "no object" if not event.objects else f"{event.objects} object"
        plural = "s" if event.objects > 1 else ""
        return f"{event.reason}: {count}{plural} put in place, {event.fetched} packets used"
    release = f", release {event.release} of {event.stream}" if event.stream else ""
    return f"in place: {event.name}, object {oid_text(event.oid)}{release}"


def _origin(keys: tuple[bytes, ...]) -> str:
    """Return what there is to say about keys when it begins."""
    return "" if keys else "; no key: integrity is checked, origin is not"


def _adopted(event: Adopted) -> str:
    manifest, release = event.manifest, event.manifest.release
    text = (
        f"object {oid_text(manifest.oid)}: {manifest.name}, {human_bytes(manifest.size)}, "
        f"announced at {human_rate(event.rate)}"
    )
    if release and event.signed_by:
        keys = human_list([key.hex() for key in event.signed_by], MOST_ADDRESSES)
        text += f"; release {release.number} of {release.stream}, signed by {keys}"
    return text


def _superseded(event: Superseded) -> str:
    if event.by_release is None:
        gone = f"object {oid_text(event.oid)} is no longer sent"
        return f"{gone}, {oid_text(event.by)} is: starting anew"
    return f"release {event.by_release} is there, object {oid_text(event.by)}: starting anew"


def _of_listening(event: Event) -> str:
    """Return what there is to say of senders that are looked for, and of rates."""
    match event:
        case Trying(channel=channel, rate=rate):
            return f"trying channel {channel}, {human_rate(rate)}"
        case RateChanged():
            return _rate_changed(event)
        case Resolved():
            return _resolved(event)
        case SourceState(address=address, state=state):
            return f"{address} is {'called in' if state == 'standby' else state}"
    return _of_signing(event)


def _of_signing(event: Event) -> str:
    """Return what there is to say of objects that are signed or checked."""
    match event:
        case Signed(path=path, manifest=manifest):
            by = f"signed by {human_list([key.hex() for key in event.signed_by], MOST_ADDRESSES)}"
            if not event.signed_by:
                by = "not signed yet"
            lines = [f"{path}: {object_text(manifest)}, {by}"]
            if event.message:
                lines.append(f"to be signed: {event.message}")
            return "\n".join(lines)
        case Verified():
            return _verified(event)
    return ""


def _verified(event: Verified) -> str:
    lines = [f"{event.path}: {object_text(event.manifest)}"]
    for one in event.signatures:
        whose = f" ({one.file})" if one.file else ""
        unknown = "is by a key that was not given"
        says = {"valid": "is right", "wrong": "is WRONG", "unknown": unknown}
        lines.append(f"  signature by {one.key.hex()}{whose} {says[one.state]}")
    if event.error is None:
        who = ""
        if not any(one.state == "valid" for one in event.signatures):
            who = "; no key given: who signed it was not checked"
        lines.append(f"right: complete, and of {event.content}{who}")
    return "\n".join(lines)


def object_text(manifest: Manifest) -> str:
    """Return what a manifest is of, and what it is a release of."""
    text = f"object {oid_text(manifest.oid)}, {manifest.name}, {human_bytes(manifest.size)}"
    if release := manifest.release:
        ends = f"expires {moment(release.expires)}" if release.expires else "never expires"
        text += (
            f", release {release.number} of {release.stream}, of {moment(release.created)}, {ends}"
        )
    return text


def moment(seconds: int) -> str:
    """Return seconds since 1970 as people read them; what no calendar has as a number."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"


def _rate_changed(event: RateChanged) -> str:
    """Return which channel is heard now, and why."""
    where = f"channel {event.channel}, {human_rate(event.rate)}"
    measured = f": the path carries {human_rate(event.capacity)}" if event.capacity else ""
    match event.reason:
        case "start":
            return f"hearing {where}"
        case "up":
            return f"up to {where}{measured}"
        case "down":
            return f"down to {where}{measured}"
        case "silent":
            return f"back to {where}: nothing came"
        case "disturbed":
            return f"staying on {where}: somebody else tried at the same time"
    return f"staying on {where}{measured}"


def _resolved(event: Resolved) -> str:
    """Return what DNS said of a name."""
    said = f"{event.name}: {human_list(event.sources, MOST_ADDRESSES) or 'no source'}"
    if event.standby:
        said += f"; standing by: {human_list(event.standby, MOST_ADDRESSES)}"
    return said


def _damaged(event: Damaged) -> str:
    """Return what became of a block whose symbols did not match its digest."""
    said = f"block {event.block} does not match its digest"
    if event.forged:
        said += f": {event.forged} wrong symbols found and thrown away"
    if event.set_aside:
        return f"{said}: {event.set_aside} symbols of other sources thrown away"
    if event.is_dropped:
        return f"{said}: fetching it again"
    if event.waits_for:
        return f"{said}: waiting for {event.waits_for} symbols beyond it, to find the wrong ones"
    return said


def _channel(event: ReceiveStarted) -> Channel:
    return Channel(event.group, event.port, event.interface, 0)


def _send_started(event: SendStarted) -> str:
    manifest = event.manifest
    head = (
        f"sending {manifest.name}, {human_bytes(manifest.size)}, as object {oid_text(manifest.oid)}"
    )
    if event.replaces is not None:
        head += f" in place of {oid_text(event.replaces)}"
    head += " to"
    if len(event.channels) == 1:
        (one,) = event.channels
        where = f"{_where(one, event)} from {event.source} at {human_rate(one.rate)}"
        return f"{head} {where}; {_fec(manifest)}{_cycle(manifest, one)}"
    lines = [f"{head} {len(event.channels)} channels from {event.source}; {_fec(manifest)}"]
    for number, one in enumerate(event.channels):
        where = f"{_where(one, event)} at {human_rate(one.rate)}"
        lines.append(f"  channel {number}: {where}, order {one.order}{_cycle(manifest, one)}")
    return "\n".join(lines)


def _where(one: SendChannel, event: SendStarted) -> Channel:
    """Return where a channel goes."""
    return Channel(one.group, one.port, event.interface, 0)


def _cycle(manifest: Manifest, one: SendChannel) -> str:
    """Return how long a cycle takes on a channel; empty: that can't be said."""
    if not (one.rate and manifest.size):
        return ""
    packet = manifest.symbol_size + HEADER_SIZE + udp_headers(one.group)
    return f"; a cycle takes {human_time(manifest.symbols * packet * 8 / one.rate)}"


def _fec(manifest: Manifest) -> str:
    if not manifest.repair_symbols:
        return "no repair symbols"
    return f"repair symbols {manifest.repair_symbols / manifest.block_symbols:.0%}"


def _nak(event: NakDue, began: int) -> str:
    named = [f"symbols {a}" if a == b else f"symbols {a} to {b}" for a, b in event.symbols]
    named += [f"{count} of block {block}" for block, count in event.counts]
    address, port = event.endpoint
    seconds = (event.at - began) / SECOND
    return f"at {seconds:.6f} s would send a NAK to {address} port {port}: {', '.join(named)}"


def _losses(figures: ReceiveFigures, kernel_drops: int = 0) -> str:
    """Return what was lost, and where."""
    text = f"{figures.lost} packets lost"
    if kernel_drops:
        text += f", about {kernel_drops} of them here"
    if figures.lost_unbelieved:
        text += f" ({figures.lost_unbelieved} more seem to be, by numbers not believed)"
    return text


def _completed(event: Completed) -> str:
    packed = event.manifest.archive and event.path != "-" and not event.path.endswith("/")
    return _complete(event) + ("; it is the archive of a folder: -o DIR/ unpacks it" * bool(packed))


def _complete(event: Completed) -> str:
    figures, network, size = event.figures, event.network, human_bytes(event.manifest.size)
    if network is None:  # from a capture
        return (
            f"complete: {_place(event.path)}, {size} verified after {figures.packets} packets, "
            f"{figures.cycles:.2f} cycles, {figures.lost} packets lost"
        )
    if not event.is_new:
        return f"complete: {event.path} is this object already, {size} verified; it stays as it is"
    reused = f", {human_bytes(event.reused)} of it from files here" if event.reused else ""
    waited, took = network.waited_seconds or 0, human_time(network.transfer_seconds or 0)
    after = f" after {human_time(waited)} of waiting" if waited >= WORTH_A_WORD else ""
    counts = f"{figures.cycles:.2f} cycles, {_losses(figures, network.kernel_drops)}"
    return f"complete: {_place(event.path)}, {size} verified in {took}{after}{reused}, {counts}"


def _place(path: str) -> str:
    return "standard output" if path == "-" else path


def _receive_failed(event: ReceiveFailed) -> str:
    """Return the summary; the error itself is said elsewhere."""
    if not event.symbols:
        return ""
    kept = "nothing of the object is kept"
    if event.is_kept:
        share = f"{event.stored / event.symbols:.1%}"
        kept = f"{share} of the object is in {event.part} and will be used by the next run"
    figures = event.figures
    return (
        f"incomplete: {kept}; {figures.packets} packets came, "
        f"{_losses(figures, event.network.kernel_drops)}, {sum(figures.refused.values())} refused"
    )


def _stopped(event: Stopped) -> str:
    figures = event.figures
    text = (
        f"{figures.cycles:.2f} cycles, {figures.packets} packets, "
        f"{human_bytes(figures.bytes)} in {human_time(figures.seconds)}"
    )
    if figures.unsent:
        text += f"; {figures.unsent} of them could not be sent"
    if event.repairs:
        text += f"; {repairs_text(event.repairs)}"
    return f"sent: {text}" if event.error else f"finished: {text}"
