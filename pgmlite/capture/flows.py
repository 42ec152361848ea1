"""From captured frames to UDP datagrams: neighbours with the same headers stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pgmlite.capture.clock import Times
from pgmlite.capture.datagrams import Datagrams
from pgmlite.capture.frames import HEAD, LINK_TYPES, Place, checksums_hold, find_udp
from pgmlite.capture.tunnels import Skipped
from pgmlite.wire.batch import Octets

MAX_GEOMETRIES = 16
"""Kinds of headers in one stretch that are compared at once; others go packet by packet."""


@dataclass(slots=True)
class Tally:
    """What became of the frames.

    Attributes:
        skipped: Those that are no use, by reason.
        checked: Datagrams whose checksums were looked at.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    checked: int = 0


def flows(
    frames: Octets, times: Times, link: int, length: int, tally: Tally, *, checksums: bool
) -> Iterator[Datagrams]:
    """Yield the datagrams in (n, width) frames of one link type and length.

    Args:
        length: Bytes that the frames had before the capture cut them.
        checksums: Those whose UDP checksum does not hold are no use.
    """
    if link not in LINK_TYPES:
        tally.skipped[f"link_type_{link}"] += len(frames)
        return
    breaks: dict[tuple[int, tuple[int, ...]], npt.NDArray[np.bool_]] = {}
    at, count = 0, len(frames)
    while at < count:
        try:
            place = find_udp(frames[at, :HEAD].tobytes(), link, frames.shape[1], length)
        except Skipped as reason:
            tally.skipped[str(reason)] += 1
            at += 1
            continue
        stop = _run(frames, at, place, breaks)
        datagrams = frames[at:stop, place.udp : place.udp + 8 + place.width]
        found = Datagrams(
            times[at:stop],
            place.source,
            place.destination,
            datagrams[:, 8:],
            is_congested=place.is_congested,
        )
        at = stop
        if checksums:
            good = checksums_hold(datagrams, place)
            tally.checked += len(good)
            if not good.all():
                tally.skipped["checksum"] += int(np.count_nonzero(~good))
                if not good.any():
                    continue
                found = found.select(good)
        yield found


def _run(
    frames: Octets,
    at: int,
    place: Place,
    breaks: dict[tuple[int, tuple[int, ...]], npt.NDArray[np.bool_]],
) -> int:
    """Return where the frames from `at` on stop to have the same headers."""
    if at + 1 == len(frames):
        return at + 1
    geometry = (place.udp, place.varying)
    changed = breaks.get(geometry)
    if changed is None:
        if len(breaks) >= MAX_GEOMETRIES:
            return at + 1
        compared = np.ones(place.udp + 8, np.bool_)
        compared[list(place.varying)] = False
        headers = frames[:, : place.udp + 8][:, compared]
        changed = breaks[geometry] = (headers[1:] != headers[:-1]).any(axis=1)
    step = int(changed[at:].argmax())
    return at + 1 + step if changed[at + step] else len(frames)
