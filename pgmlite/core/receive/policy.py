"""Who asks when, and whom: the rules of NAK repair as functions (spec/protocol.md section 7).

The NAK machine asks them for one receiver. They are arithmetic on numbers or on arrays, so that a
simulated group asks the same ones for all its members at once. Times are in ns. How a back-off is
drawn is in `pgmlite.core.timing`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pgmlite.core.config import NakConfig
from pgmlite.core.machine import SECOND
from pgmlite.wire.batch import HEADER_SIZE, Flags
from pgmlite.wire.control import Spm
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import IPV6_UDP_HEADERS

Number = TypeVar("Number", int, npt.NDArray[np.int64])

MOST_DOUBLINGS = 4
"""Times that the back-off is doubled, at most."""


# Whom.


def endpoint_of(
    spm: Spm, source: Endpoint, told: Collection[Endpoint]
) -> tuple[Endpoint, bool] | None:
    """Return where the session of an SPM may be asked, and whether we were told of it; or None.

    Args:
        told: Endpoints that the manifest or the operator names.
    """
    # spec: NAK-9: nobody is asked on the word of an SPM alone, but its own sender, who must
    # send data too: a forged SPM must not aim a fleet's NAKs at a victim.
    if not spm.repairs:
        return None
    endpoint = Endpoint(source.address, spm.repairs.repair_port)
    is_told = endpoint in told
    return (endpoint, is_told) if is_told or spm.position else None


def is_trusted(config: NakConfig, packets: Number) -> Flags:
    """Whether a session of which so many packets came sends data of the object (spec: NAK-9)."""
    trusted: Flags = np.greater_equal(packets, config.trusted_packets)
    return trusted


def believed_grtt(config: NakConfig, grtt: int) -> int:
    """Return the GRTT that is taken for what an SPM says."""
    return min(max(grtt, config.grtt_min), config.grtt_max)


# What.


def most_asked(config: NakConfig, sources: Number) -> Number:
    """Return how many symbols of blocks of `sources` source symbols may be asked for.

    spec: NAK-6
    """
    share = np.multiply(sources, config.most_lost).astype(np.int64)
    most: Number = np.maximum(share, config.always_asked)
    return most


def comes_soon(ahead: npt.NDArray[np.int64], symbol_time: float, limit: float) -> Flags:
    """Whether a carousel brings within `limit` what is `ahead` symbols away (spec: NAK-7)."""
    soon: Flags = ahead * symbol_time <= limit
    return soon


# When.


def longest_back_off(backoff_factor: int, grtt: int, retries: int) -> int:
    """Return the longest wait before a NAK, after so many without an answer (spec: NAK-4)."""
    return backoff_factor * grtt << min(retries, MOST_DOUBLINGS)


def patience(backoff_factor: int, grtt: int) -> int:
    """Return how long an NCF suppresses what it names (spec: NAK-5)."""
    return (backoff_factor + 2) * grtt


def expected_delay(repair_delay: float, backoff_factor: int, grtt: int) -> int:
    """Return the time from the decision to ask to the repair (spec: NAK-7).

    Args:
        repair_delay: From a NAK to its repair, as measured; 0: it was not.
    """
    if repair_delay:
        return int(repair_delay) + backoff_factor * grtt // 2
    return (backoff_factor // 2 + 2) * grtt


def symbol_time(rate: float, symbol_size: int) -> float:
    """Return the time that a packet with a symbol takes at `rate` bit/s, ns; 0: no limit."""
    wire_bytes = symbol_size + HEADER_SIZE + IPV6_UDP_HEADERS
    return wire_bytes * 8 * SECOND / rate if rate else 0.0


def hears_nothing(config: NakConfig, silence: int, grtt: int, symbol_time: float) -> bool:
    """Whether nothing came of a session for so long that no NAK may go to it (spec: NAK-8)."""
    return silence > max(2 * grtt, config.silence, config.reorder_packets * int(symbol_time))


def smoothed(before: float, sample: float, weight: int) -> float:
    """Return a measure that counts `sample` for one part in `weight`; 0 before: there was none."""
    return before + (sample - before) / weight if before else float(sample)


def lost_share(lost: Number, received: Number) -> npt.NDArray[np.float64]:
    """Return the share of packets lost, 0 to less than 1 (spec: RCV-9)."""
    share: npt.NDArray[np.float64] = np.true_divide(lost, np.maximum(1, lost + received))
    return share
