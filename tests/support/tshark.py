"""tshark with the generated dissector: what it makes of packets and captures."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "spec" / "pgmlite.lua"
PATIENCE = 60.0
RAW_IPV4 = 228


def need() -> None:
    """Skip the test where there is no tshark; in CI that is a failure."""
    if shutil.which("tshark"):
        return
    if os.environ.get("CI"):
        pytest.fail("tshark is not installed", pytrace=False)
    pytest.skip("tshark is not installed")


@functools.cache
def fields(capture: Path, *names: str, only: str = "") -> list[list[str]]:
    """Return the fields `names` of each packet; several values of one are joined by commas."""
    command = ["tshark", "-r", str(capture), "-X", f"lua_script:{SCRIPT}", "-T", "fields"]
    command += ["-E", "separator=|", "-E", "occurrence=a", "-E", "aggregator=,"]
    for name in names:
        command += ["-e", name]
    if only:
        command += ["-Y", only]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def write_raw(
    path: Path, payloads: Sequence[bytes] | Iterable[bytes], *, port: int, kept: int = 262_144
) -> None:
    """Write UDP payloads as a capture of raw IPv4 packets, a millisecond apart.

    Args:
        kept: Bytes of each that the capture has, at most.
    """
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, RAW_IPV4)]
    for number, payload in enumerate(payloads):
        udp = struct.pack(">4H", 40_000, port, 8 + len(payload), 0)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(payload), number % 65_536, 0, 1, 17, 0)
        one = head + bytes([10, 0, 0, 1, 239, 1, 2, 3]) + udp + payload
        stamp = (number // 1_000, number % 1_000 * 1_000)
        here = one[:kept]
        out.append(struct.pack("<4I", *stamp, len(here), len(one)) + here)
    path.write_bytes(b"".join(out))
