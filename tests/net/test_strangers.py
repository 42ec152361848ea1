"""One packet of a stranger, and a receiver that waits for its object: it goes on."""

import shlex

import pytest

from tests.net.test_hostile import broadcast
from tests.support.builders import make_object
from tests.support.loopback import SYMBOL, endpoint, raw_sender, receiving


@pytest.fixture
def sample():
    return make_object(30 * SYMBOL, symbol_size=SYMBOL, block_symbols=8)


@pytest.fixture
def place():
    return endpoint()


@pytest.fixture
def stranger(place):
    with raw_sender(place) as sock:
        yield sock


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
