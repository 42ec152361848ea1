"""Packets that the system dropped: what it counts is another thing."""

from __future__ import annotations

COUNTER = 1 << 32
SMOOTHING = 16
"""Reads over which their mean is taken."""


class DropCount:
    """Estimates how many packets one receive buffer had no room for.

    SO_RXQ_OVFL counts what would have been read at once, and GRO joins up to 64 packets for that.
    Each such counts as many as the reads of the moment have on average.
    """

    def __init__(self) -> None:
        self._packets = 0.0
        self._seen = 0
        self._mean = 0.0
        """Packets in a read; 0: there was none yet."""

    @property
    def packets(self) -> int:
        """Packets dropped so far."""
        return round(self._packets)

    def take(self, drops: int | None, packets: int) -> None:
        """Take a read of `packets` packets.

        Args:
            drops: What the system has counted since the socket was opened; None: it does not say.
        """
        self._mean += (packets - self._mean) / (SMOOTHING if self._mean else 1)
        if drops is not None:
            self._packets += (drops - self._seen) % COUNTER * self._mean
            self._seen = drops

    def restart(self) -> None:
        """Go on with a new socket."""
        self._seen = 0
