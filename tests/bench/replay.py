"""How fast a capture is replayed: one cycle of a carousel, 100 MB by default.

    python -m tests.bench.replay [MEGABYTES] [BITS_PER_SECOND]

prints megabytes of capture a second, by format, with the object verified and in place.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from pathlib import Path

from pgmlite.cli import run
from pgmlite.core.machine import SECOND
from tests.support.builders import make_object
from tests.support.pcaps import LINKS, carousel, ip_packet


def write(
    path: Path, megabytes: int, rate: int, link: str, *, checksum: str, ng: bool, repair: bool
) -> None:
    """Write a capture of about so many megabytes."""
    sample = make_object(megabytes * 950_000, symbol_size=1_404, block_symbols=1_024)
    number, before = LINKS[link]
    with path.open("wb") as file:
        if ng:
            file.write(struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28))
            file.write(struct.pack("<IIHHIHHB3xI", 1, 28, number, 0, 0, 9, 1, 9, 28))
        else:
            file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, number))
        for at, one in carousel(sample, rate=rate, repair=repair):
            kind, packet = ip_packet(one, checksum=checksum)
            frame = before(kind) + packet
            size = len(frame)
            if ng:
                pad = -size % 4
                whole = 32 + size + pad
                head = struct.pack("<7I", 6, whole, 0, at >> 32, at & 0xFFFFFFFF, size, size)
                file.write(head + frame + bytes(pad) + struct.pack("<I", whole))
            else:
                file.write(struct.pack("<4I", at // SECOND, at % SECOND, size, size) + frame)


def main() -> None:
    """Print a line for each format."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rate = int(float(sys.argv[2])) if len(sys.argv) > 2 else 50_000_000
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "c.pcap", Path(folder) / "out"
        for link, checksum, ng, repair in (
            ("ethernet", "good", False, False),
            ("ethernet", "good", True, False),
            ("ethernet", "good", False, True),
            ("sll2", "partial", False, False),
        ):
            write(path, megabytes, rate, link, checksum=checksum, ng=ng, repair=repair)
            size = path.stat().st_size
            for _ in range(2):
                began = time.perf_counter()
                code = run(["replay", str(path), "-o", str(out)])
                seconds = time.perf_counter() - began
                out.unlink()
                kind = ("pcapng" if ng else "pcap") + (", with repairs" if repair else "")
                print(
                    f"{kind}, {link}, {rate / 1e6:g} Mbit/s: {size / 1e6:.0f} MB in "
                    f"{seconds:.2f} s, {size / 1e6 / seconds:.0f} MB/s, exit code {code}"
                )


if __name__ == "__main__":
    main()
