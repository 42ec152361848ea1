"""Images from a pipe to pipes: two machines behind lossy links."""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path
from random import Random

import pytest

from tests.support.lab import GROUPS, PGMLITE, PORT, Lab

pytestmark = pytest.mark.lab

SIZE = 6 << 20
PATIENCE = 60


@pytest.mark.parametrize("options", [(), ("--order", "blocks", "--start", "0/1", "--repair")])
def test_a_compressed_image_goes_through_pipes_to_two_machines(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    # spec: RCV-26
    image = Random(1).randbytes(SIZE // 2) + bytes(SIZE // 2)
    (tmp_path / "image.gz").write_bytes(gzip.compress(image, 1))
    flags = ("-g", GROUPS[6], "-p", str(PORT), "-i", "eth0")
    with Lab(receivers=2) as lab:
        lab.loss(0.05)
        writers = {}
        for node in lab.receivers:
            spool = tmp_path / f"spool-{node}"
            spool.mkdir()
            command = shlex.join([*PGMLITE, "recv", "-o", "-", "--spool", str(spool), *flags])
            # The last to end is what the lab ends.
            copy = f"exec dd of={tmp_path / node} bs=1M iflag=fullblock"
            line = f"{copy} < <({command} && touch {spool}.ok)"
            writers[node] = lab.spawn(node, "bash", "-c", line)
        send = shlex.join([*PGMLITE, "send", "-", "--spool", str(tmp_path), *flags, *options])
        line = f"exec {send} -r 100M < <(zcat {tmp_path / 'image.gz'})"
        sender = lab.spawn("S", "bash", "-c", line)
        for node, writer in writers.items():
            assert writer.popen.wait(PATIENCE) == 0, f"{writer}{sender}"
            assert (tmp_path / node).read_bytes() == image
            assert (tmp_path / f"spool-{node}.ok").exists()
            assert list((tmp_path / f"spool-{node}").iterdir()) == []
