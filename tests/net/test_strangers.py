"""One packet of a stranger, and a receiver that waits for its object: it goes on."""

import os
import shlex

import pytest

from pgmlite.wire.geometry import pieces
from pgmlite.wire.manifest import Manifest
from tests.net.test_hostile import broadcast
from tests.support.builders import make_object, packet, spm_body
from tests.support.loopback import ODATA, SPM, SYMBOL, receiving


@pytest.mark.slow
def test_an_announcement_of_nothing_replaces_no_output(tmp_path, sample, place, stranger):
    # spec: RCV-16
    copy, calls = tmp_path / "copy", tmp_path / "calls"
    hook = shlex.join(["sh", "-c", f'wc -c < "$0" >> {calls}'])
    copy.write_bytes(b"old firmware")
    nothing = make_object(0, name="nothing.bin")
    with receiving(copy, place, "--on-complete", hook) as receiver:
        receiver.event("start")
        stranger.send(nothing.spm())
        told = receiver.event("warning")
        assert copy.read_bytes() == b"old firmware"
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    assert (told["cause"], told["name"], told["size"]) == ("object", "nothing.bin", 0)
    assert "empty, and taken only by who asks for this object" in told["warning"]
    assert ended.code == 0, ended.stderr
    assert ended.event("complete")["refused"] == {"empty": 1}
    assert copy.read_bytes() == sample.data
    assert calls.read_text().split() == [str(len(sample.data))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SPM, ODATA])
def test_an_object_that_the_disk_can_not_hold_ends_nobody(tmp_path, sample, place, stranger, kind):
    # spec: RCV-17
    disk = os.statvfs(tmp_path)
    size = SYMBOL * pieces(2 * disk.f_bavail * disk.f_frsize, SYMBOL)
    huge = Manifest(SYMBOL, 4_096, size, bytes(32), "huge.bin")
    body = spm_body(huge.raw) if kind == SPM else bytes(SYMBOL)
    with receiving(tmp_path / "copy", place) as receiver:
        receiver.event("start")
        stranger.send(packet(kind, body, oid=huge.oid, size=size, symbol_size=SYMBOL))
        if kind == SPM:
            told = receiver.event("warning")
            assert (told["cause"], told["name"], told["size"]) == ("object", "huge.bin", size)
            assert "the disk has no room for it" in told["warning"]
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert ended.last["refused"] == {"disk": 1}
    assert (tmp_path / "copy").read_bytes() == sample.data
