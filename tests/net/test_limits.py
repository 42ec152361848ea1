"""How large an object a machine receives."""

import pytest

from pgmlite.core.config import ReceiverConfig
from pgmlite.errors import UsageError
from pgmlite.net.limits import check_size, symbols_here, symbols_in
from tests.net.test_hostile import broadcast
from tests.support.builders import make_object
from tests.support.loopback import receiving

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "symbols"),
    [(0, 1), (GIB // 2, GIB // 16), (4 * GIB, GIB // 2), (64 * GIB, GIB)],
)
def test_symbols_by_memory(memory: int, symbols: int) -> None:
    # spec: RCV-25
    assert symbols_in(memory) == symbols
    assert 0 < symbols_here() <= ReceiverConfig().max_symbols


def test_sizes() -> None:
    assert check_size("max_size", None) == ReceiverConfig().max_object_size
    assert check_size("max_size", 5) == 5
    with pytest.raises(UsageError, match="max_size 0: must be at least 1 byte"):
        check_size("max_size", 0)


@pytest.mark.slow
def test_what_is_larger_ends_nobody(tmp_path, sample, place, stranger):
    # spec: RCV-2, RCV-25
    larger = make_object(len(sample.data) + 1, symbol_size=1_024, name="larger.bin")
    with receiving(tmp_path / "copy", place, "--max-size", str(len(sample.data))) as receiver:
        receiver.event("start")
        stranger.send(larger.spm())
        told = receiver.event("warning")
        assert (told["cause"], told["name"]) == ("object", "larger.bin")
        assert "too large" in told["warning"]
        broadcast(stranger, sample, receiver)
        ended = receiver.end()
    assert ended.code == 0, ended.stderr
    assert ended.last["refused"] == {"too_large": 1}
    assert (tmp_path / "copy").read_bytes() == sample.data
