"""``info``: look inside a capture or a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pgmlite.cli.output import oid_text
from pgmlite.cli.values import human_bytes, human_rate
from pgmlite.core.serial import SequenceTracker
from pgmlite.errors import DiskError, ObjectError, RefusedPacket, UsageError
from pgmlite.wire import batch as wire
from pgmlite.wire.control import MANIFEST_MAGIC, Manifest, parse_manifest, parse_spm
from pgmlite.wire.layout import MAX_MANIFEST, PacketType

PCAP_MAGICS = frozenset(
    bytes.fromhex(magic) for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")
)
"""First bytes of pcap (both orders, microseconds and nanoseconds) and of pcapng."""

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
    rate: int = 0
    tracker: SequenceTracker | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        seconds = self.last - self.first
        return {
            "source": self.source,
            "group": self.group,
            "tsi": oid_text(self.tsi),
            "seconds": round(seconds, 6),
            "bytes": self.bytes,
            "packets": dict(self.packets),
            "lost": self.tracker.lost if self.tracker else 0,
            "rate": self.rate,
            "measured_rate": int(self.bytes * 8 / seconds) if seconds else 0,
            "objects": [
                _manifest_dict(manifest) if manifest else {"oid": oid_text(oid)}
                for oid, manifest in self.objects.items()
            ],
        }


def info(
    file: Annotated[Path, typer.Argument(metavar="CAPTURE|MANIFEST", help="The file to look at.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a capture (pcap, pcapng) or in a manifest.

    A capture is what `tcpdump -w` or Wireshark wrote; reading one needs the extra `captures`:
    pip install 'pgmlite[captures]'.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}") from error
    if head.startswith(MANIFEST_MAGIC):
        facts = _manifest_dict(parse_manifest(head))
        print(json.dumps(facts) if as_json else _manifest_text(facts))
        return
    if head[:4] not in PCAP_MAGICS:
        raise ObjectError(f"{file}: neither a capture (pcap, pcapng) nor a manifest")
    refused: Counter[str] = Counter()
    sessions = [session.as_dict() for session in _sessions(file, refused)]
    if as_json:
        print(json.dumps({"sessions": sessions, "refused": dict(refused)}))
        return
    for session in sessions:
        print(_session_text(session))
    if refused:
        print("refused: " + ", ".join(f"{count} {reason}" for reason, count in refused.items()))
    if not sessions:
        raise ObjectError(f"{file}: no pgmlite packets")


def _manifest_dict(manifest: Manifest) -> dict[str, Any]:
    return {
        "oid": oid_text(manifest.oid),
        "name": manifest.name,
        "size": manifest.size,
        "symbol_size": manifest.symbol_size,
        "block_symbols": manifest.block_symbols,
        "blocks": manifest.blocks,
        "index_digest": manifest.index_digest.hex(),
    }


def _manifest_text(facts: dict[str, Any]) -> str:
    if "name" not in facts:
        return f"object {facts['oid']}: no manifest in the capture"
    return (
        f"object {facts['oid']}: {facts['name']}, {human_bytes(facts['size'])}, "
        f"{facts['blocks']} blocks of {facts['block_symbols']} symbols of "
        f"{facts['symbol_size']} bytes, index {facts['index_digest']}"
    )


def _session_text(session: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in session["packets"].items())
    lines = [
        f"session {session['tsi']}: {session['source']} to {session['group']}",
        f"  {kinds}, {session['lost']} lost, {human_bytes(session['bytes'])} in "
        f"{session['seconds']:.3f} s ({human_rate(session['measured_rate'])}; "
        f"announced {human_rate(session['rate'])})",
        *(f"  {_manifest_text(facts)}" for facts in session["objects"]),
    ]
    return "\n".join(lines)


def _sessions(file: Path, refused: Counter[str]) -> list[Session]:
    """Return the sessions of a capture in the order they began."""
    found: dict[tuple[str, str, int], Session] = {}
    for seconds, source, group, payload in _datagrams(file):
        octets = np.frombuffer(payload, np.uint8)
        reasons: Counter[str] = Counter()
        for batch in wire.read(octets, len(payload), source, reasons) if payload else ():
            tsi = int(batch.rows["tsi"][0])
            key = (source, group, tsi)
            if key not in found and len(found) >= MAX_SESSIONS:
                refused["sessions"] += 1
                continue
            session = found.setdefault(key, Session(source, group, tsi, seconds))
            _take(session, seconds, batch, refused)
        # Other traffic on the network is none of our business; what bears our magic is.
        for reason, count in reasons.items():
            if reason not in {"magic", "short"}:
                refused[reason] += count
    return list(found.values())


def _take(session: Session, seconds: float, batch: wire.PacketBatch, refused: Counter[str]) -> None:
    row = batch.rows[0]
    session.last = seconds
    session.bytes += batch.payload.size + batch.rows.itemsize
    session.packets[batch.kind.name] += 1
    sqns = batch.rows["sqn"].astype(np.uint32)
    if session.tracker is None:
        session.tracker = SequenceTracker(int(sqns[0]))
    session.tracker.update(sqns)
    oid = int(row["oid"])
    session.objects.setdefault(oid, None)
    if batch.kind is not PacketType.SPM:
        return
    try:
        spm = parse_spm(batch.payload.tobytes())
        manifest = parse_manifest(spm.manifest)
    except RefusedPacket as refusal:
        refused[refusal.reason] += 1
    except ObjectError:
        refused["manifest"] += 1
    else:
        session.rate = spm.rate
        if manifest.oid == oid:
            session.objects[oid] = manifest
        else:
            refused["manifest"] += 1


def _datagrams(file: Path) -> Iterator[tuple[float, str, str, bytes]]:
    """Yield (time in s, source, group, payload) of the UDP datagrams.

    Raises:
        UsageError: scapy is not installed.
        ObjectError: The capture is damaged.
    """
    try:
        from scapy.error import Scapy_Exception
        from scapy.layers.inet import IP, UDP
        from scapy.layers.inet6 import IPv6
        from scapy.utils import PcapReader
    except ImportError:
        raise UsageError("captures need scapy: pip install 'pgmlite[captures]'") from None
    try:
        with PcapReader(str(file)) as reader:
            for packet in reader:
                datagram = packet.getlayer(UDP)
                network = packet.getlayer(IPv6) or packet.getlayer(IP)
                if datagram is None or network is None:
                    continue
                group = f"[{network.dst}]" if ":" in network.dst else network.dst
                length = max(0, (datagram.len or 0) - 8)
                payload = bytes(datagram.payload)[:length]
                yield float(packet.time), network.src, f"{group}:{datagram.dport}", payload
    except (Scapy_Exception, EOFError) as error:
        raise ObjectError(f"{file}: {error}") from error
