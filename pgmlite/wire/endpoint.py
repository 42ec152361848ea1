"""Where packets come from and go to."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """An IP address and a UDP port."""

    address: str
    port: int

    def __str__(self) -> str:
        bracketed = f"[{self.address}]" if ":" in self.address else self.address
        return f"{bracketed}:{self.port}"
