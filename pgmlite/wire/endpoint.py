"""Where packets come from and go to."""

from __future__ import annotations

from typing import NamedTuple

from pgmlite.wire.layout import IPV4_UDP_HEADERS, IPV6_UDP_HEADERS


class Endpoint(NamedTuple):
    """An IP address and a UDP port."""

    address: str
    port: int

    def __str__(self) -> str:
        bracketed = f"[{self.address}]" if ip_version(self.address) == 6 else self.address
        return f"{bracketed}:{self.port}"


def ip_version(address: str) -> int:
    """Return the version of IP that an address is of: 6 or 4."""
    return 6 if ":" in address else 4


def udp_headers(address: str) -> int:
    """Return the bytes of IP and UDP headers of a packet from or to an address, without options."""
    return IPV6_UDP_HEADERS if ip_version(address) == 6 else IPV4_UDP_HEADERS
