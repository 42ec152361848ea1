"""What tests of strangers share: an object, where it is sent, and who else sends there."""

from __future__ import annotations

import pytest

from tests.support.builders import make_object
from tests.support.loopback import SYMBOL, endpoint, raw_sender


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
