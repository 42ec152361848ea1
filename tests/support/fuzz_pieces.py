"""How the input of a fuzzer is cut into packets."""

from __future__ import annotations

from collections.abc import Iterator


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut bytes into a byte of control and a packet each, length first."""
    at = 0
    while at + 3 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big") % 2_048
        yield data[at + 2], data[at + 3 : at + 3 + length]
        at += 3 + length


def joined(parts: Iterator[tuple[int, bytes]]) -> bytes:
    """Return what `pieces` cuts into `parts`."""
    return b"".join(len(one).to_bytes(2) + bytes([how]) + one for how, one in parts)
