"""``info``: look inside a capture or a manifest."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from pgmlite.capture.datagrams import split
from pgmlite.capture.file import Capture, is_capture
from pgmlite.capture.notes import capture_figures, hints, notes, reasons, why_none
from pgmlite.cli import options
from pgmlite.cli.json_lines import facts as facts_of
from pgmlite.cli.json_lines import oid_text
from pgmlite.cli.manifests import content_dict, manifest_dict, manifest_text, signed_dict
from pgmlite.cli.options import PATH, option
from pgmlite.core.human import human_bytes, human_rate
from pgmlite.core.machine import SECOND
from pgmlite.core.serial import SequenceTracker
from pgmlite.errors import DiskError, ObjectError, RefusedPacket
from pgmlite.storage.signed import is_signed_name
from pgmlite.storage.spooled import is_spooled
from pgmlite.wire import batch as wire
from pgmlite.wire.control import SpmPosition, parse_spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.geometry import pieces
from pgmlite.wire.layout import MAX_MANIFEST, Flag, Order, PacketType
from pgmlite.wire.manifest import MANIFEST_MAGIC, Manifest, parse_manifest
from pgmlite.wire.request import NAK_FIXED_SIZE, Rings, likely_rings, parse_nak

OF_CAPTURE = frozenset({"file", "no_checksum", "as_json"})
"""Parameters that go with captures."""

OF_FILE = frozenset({"file", "as_json", "port", "hops", "spool", *options.OF_MANIFEST})
"""Those that go with a file to send."""

MAX_SESSIONS = 1_000
"""Sessions shown of one capture; a capture may hold junk without end."""


@dataclass(slots=True)
class Session:
    """What one sender sent to one group, as a capture shows it."""

    source: str
    group: str
    tsi: int
    first: float
    last: float = 0.0
    bytes: int = 0
    packets: Counter[str] = field(default_factory=Counter)
    objects: dict[int, Manifest | None] = field(default_factory=dict)
    repair_symbols: int = 0
    """Packets with one."""

    rate: int | None = None
    """As announced; None: no SPM came."""

    position: SpmPosition | None = None
    """The latest that was announced; None: it has no carousel, or no SPM came."""

    tracker: SequenceTracker | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        seconds = self.last - self.first
        tracker = self.tracker
        # spec: RCV-9: such numbers are made up.
        is_believed = tracker is None or tracker.is_plausible
        return {
            "source": self.source,
            "group": self.group,
            "tsi": oid_text(self.tsi),
            "seconds": round(seconds, 6),
            "bytes": self.bytes,
            "packets": dict(self.packets),
            "lost": (tracker.lost if tracker else 0) if is_believed else None,
            "duplicates": tracker.duplicates if tracker else 0,
            "repair_symbols": self.repair_symbols,
            "carousel": _position_dict(self.position) if self.position else None,
            "rate": self.rate,
            "measured_rate": int(self.bytes * 8 / seconds) if seconds else None,
            "objects": [
                manifest_dict(manifest) if manifest else {"oid": oid_text(oid)}
                for oid, manifest in self.objects.items()
            ],
        }


@dataclass(slots=True)
class Asking:
    """NAKs that asked one session at one endpoint."""

    tsi: int
    to: str
    naks: int = 0
    symbols: int = 0
    """Symbols asked for, as often as they were."""

    counted: int = 0
    """Those of them that were asked for by count."""

    receivers: set[Endpoint] = field(default_factory=set)
    """Addresses and ports that asked."""

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "tsi": oid_text(self.tsi),
            "to": self.to,
            "naks": self.naks,
            "receivers": len(self.receivers),
            "symbols": self.symbols,
            "counted": self.counted,
        }


EXAMPLES = """\b
Examples:
  pgmlite info capture.pcap
  pgmlite info firmware.bin.pglm
  pgmlite info firmware.bin --hops 8      (which object `send` makes of it)
  pgmlite info site/
"""


@click.command(epilog=EXAMPLES, short_help="Say what is in a capture, manifest, or file to send.")
@click.argument("file", metavar="CAPTURE|FILE.pglm|MANIFEST|FILE|DIR|-", type=PATH)
@options.no_checksum
@options.of_manifest
@options.port
@options.hops
@options.spool
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(
    file: Path,
    no_checksum: bool,
    plan: dict[str, Any],
    port: int,
    hops: int,
    spool: Path | None,
    as_json: bool,
) -> None:
    """Say what is in a capture (pcap, pcapng), a FILE.pglm or a manifest.

    A capture is what `tcpdump -w` or Wireshark wrote, compressed or not. Of any other file, and of
    a folder, it says as which object `send` sends it, with the same options as `send`.
    """
    try:
        head = b"" if is_spooled(file) else _head(file)
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}") from error
    if is_capture(head):
        options.refuse_others(OF_CAPTURE, "has no effect with a capture; leave it out")
        _look_into(file, no_checksum=no_checksum, as_json=as_json)
        return
    options.refuse_others(OF_FILE, "goes with a capture; leave it out")
    if is_signed_name(file) or head.startswith(MANIFEST_MAGIC):
        options.refuse_others(OF_CAPTURE, "is in the manifest; leave it out")
        facts = signed_dict(file) if is_signed_name(file) else manifest_dict(parse_manifest(head))
    else:
        facts = content_dict(file, plan, port, hops, spool)
    print(json.dumps(facts) if as_json else manifest_text(facts))


def _head(file: Path) -> bytes:
    """Return the begin of a file, by which it is told what it is.

    Raises:
        OSError: It can't be read.
    """
    # Opening a FIFO would wait for its writer; what it is, is said where it is to be sent.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return b"" if stat.S_ISFIFO(os.fstat(fd).st_mode) else os.read(fd, MAX_MANIFEST + 1)
    finally:
        os.close(fd)


def _look_into(file: Path, *, no_checksum: bool, as_json: bool) -> None:
    """Print what is in a capture.

    Raises:
        ObjectError: Nothing is.
    """
    refused: Counter[str] = Counter()
    capture = Capture(file, checksums=not no_checksum)
    found, asked = _look(capture, refused)
    if as_json:
        print(
            json.dumps(
                {
                    "packets": capture.packets,
                    "sessions": [session.as_dict() for session in found],
                    "repairs": [asking.as_dict() for asking in asked],
                    "refused": dict(refused),
                    **facts_of(capture_figures(capture)),
                }
            )
        )
        return
    _print_text(capture, found, asked, refused)


def _print_text(
    capture: Capture, found: list[Session], asked: list[Asking], refused: Counter[str]
) -> None:
    """Print what is in a capture, for people.

    Raises:
        ObjectError: Nothing is.
    """
    for session in found:
        print(_session_text(session.as_dict()))
    for asking in asked:
        print(
            f"repairs of session {oid_text(asking.tsi)}: {asking.naks} NAKs from "
            f"{len(asking.receivers)} receivers to {asking.to}, for {asking.symbols} symbols, "
            f"{asking.counted} of them by count"
        )
    for name, counts in (("refused", refused), ("skipped", capture.skipped)):
        if counts:
            print(f"{name}: {reasons(counts)}")
    if capture.is_cut:
        print(f"{capture.path} is cut off inside a packet")
    if not found and not asked:
        raise ObjectError(f"{capture.path}: no pgmlite packets{why_none(capture, Counter())}")
    for text in (*hints(capture), *notes(capture)):
        print(f"{capture.path}: {text}")


def _position_dict(position: SpmPosition) -> dict[str, Any]:
    known = {order.value: order.name.lower() for order in Order}
    return {
        "order": known.get(position.order, position.order),
        "sector": position.sector,
        "sectors": position.sectors,
        "first": position.first,
        "place": position.place,
    }


def _carousel_text(session: dict[str, Any]) -> str:
    carousel = session["carousel"]
    if not carousel:
        return "no carousel announced"
    share = f"{carousel['sector']}/{carousel['sectors']}"
    if carousel["order"] == Order.TERRITORY.name.lower():
        share = f" {share}"
    else:
        share = "" if carousel["sectors"] == 1 else f", sector {share}"
    return (
        f"carousel: order {carousel['order']}{share}, from {carousel['first']} on; "
        f"{carousel['place']} symbols sent at the latest SPM; "
        f"{session['repair_symbols']} repair symbols seen"
    )


def _session_text(session: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in session["packets"].items())
    lost, rate, measured = session["lost"], session["rate"], session["measured_rate"]
    lost = "losses not believed: made-up packet numbers" if lost is None else f"{lost} lost"
    announced = "no rate announced" if rate is None else f"announced {human_rate(rate)}"
    measured = "no time passed" if measured is None else human_rate(measured)
    lines = [
        f"session {session['tsi']}: {session['source']} to {session['group']}",
        f"  {kinds}, {lost}, {session['duplicates']} repeated, {human_bytes(session['bytes'])} in "
        f"{session['seconds']:.3f} s ({measured}; {announced})",
        f"  {_carousel_text(session)}",
        *(f"  {manifest_text(facts)}" for facts in session["objects"]),
    ]
    return "\n".join(lines)


def _look(capture: Capture, refused: Counter[str]) -> tuple[list[Session], list[Asking]]:
    """Return the sessions of a capture and who asked for repairs, in the order they began."""
    found: dict[tuple[str, str, int], Session] = {}
    asked: dict[tuple[int, str], Asking] = {}
    for datagrams in capture.datagrams():
        reasons: Counter[str] = Counter()
        source = datagrams.source[0]
        target = str(datagrams.destination)
        first, last = (int(datagrams.times[place]) / SECOND for place in (0, -1))
        for batch in split(datagrams, reasons):
            for one in _by_session(batch):
                tsi = int(one.rows["tsi"][0])
                if len(found) + len(asked) >= MAX_SESSIONS:
                    known = (source, target, tsi) in found or (tsi, target) in asked
                    if not known:
                        refused["sessions"] += len(one)
                        continue
                if one.kind is PacketType.NAK:
                    asking = asked.setdefault((tsi, target), Asking(tsi, target))
                    manifest = _manifest_of(found.values(), int(one.rows["oid"][0]))
                    _take_naks(asking, datagrams.source, one, manifest, refused)
                    continue
                session = found.setdefault(
                    (source, target, tsi), Session(source, target, tsi, first)
                )
                session.last = last
                _take(session, one, refused)
        # Other traffic on the network is none of our business; what bears our magic is.
        for reason, count in reasons.items():
            if reason not in {"magic", "short"}:
                refused[reason] += count
    return list(found.values()), list(asked.values())


def _by_session(batch: wire.PacketBatch) -> Iterator[wire.PacketBatch]:
    tsis = batch.rows["tsi"]
    if bool((tsis == tsis[0]).all()):
        yield batch
        return
    for tsi in np.unique(tsis):
        yield batch.select(tsis == tsi)


def _manifest_of(sessions: Iterable[Session], oid: int) -> Manifest | None:
    """Return the manifest of an object, if it was seen."""
    for session in sessions:
        if manifest := session.objects.get(oid):
            return manifest
    return None


def _rings(manifest: Manifest | None, nak: bytes) -> Rings | None:
    """Return what blocks an object has, if NAKs ask for it by count."""
    if manifest is None:
        return likely_rings(nak[NAK_FIXED_SIZE:])
    return manifest.geometry.counted


def _take_naks(
    asking: Asking,
    source: Endpoint,
    batch: wire.PacketBatch,
    manifest: Manifest | None,
    refused: Counter[str],
) -> None:
    for row, payload in zip(batch.rows, batch.payload, strict=True):
        total = pieces(int(row["size"]), int(row["symbol_size"]))
        body = payload.tobytes()
        try:
            nak = parse_nak(body, total, _rings(manifest, body))
        except RefusedPacket as refusal:
            refused[refusal.reason] += 1
            continue
        counted = int(nak.counts.counts.sum()) if nak.counts else 0
        asking.naks += 1
        asking.symbols += len(nak.symbols) + counted
        asking.counted += counted
        if len(asking.receivers) < MAX_SESSIONS:
            asking.receivers.add(source)


def _take(session: Session, batch: wire.PacketBatch, refused: Counter[str]) -> None:
    session.bytes += batch.payload.size + len(batch) * batch.rows.itemsize
    for kind, count in zip(*np.unique(batch.rows["type"], return_counts=True), strict=True):
        session.packets[PacketType(kind).name] += int(count)
    session.repair_symbols += int(np.count_nonzero(batch.rows["flags"] & Flag.REPAIR_SYMBOL))
    sqns = batch.rows["sqn"].astype(np.uint32)
    if session.tracker is None:
        session.tracker = SequenceTracker(int(sqns[0]))
    session.tracker.update(sqns)
    for oid in np.unique(batch.rows["oid"]).tolist():
        if len(session.objects) < MAX_SESSIONS:
            session.objects.setdefault(oid, None)
    if batch.kind is not PacketType.SPM:
        return
    for row, payload in zip(batch.rows, batch.payload, strict=True):
        try:
            spm = parse_spm(payload.tobytes())
            manifest = parse_manifest(spm.manifest)
        except RefusedPacket as refusal:
            refused[refusal.reason] += 1
        except ObjectError:
            refused["manifest"] += 1
        else:
            session.rate, session.position = spm.rate, spm.position
            if manifest.oid == int(row["oid"]):
                session.objects[manifest.oid] = manifest
            else:
                refused["manifest"] += 1
