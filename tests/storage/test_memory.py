"""A receiver's memory hardly depends on the size of the object."""

import pytest

from tests.bench.memory import SMALL, measure

MIB = 1 << 10
"""In KiB."""


@pytest.mark.slow
def test_an_object_of_2_gib_takes_little_more_memory_than_one_of_64_mib() -> None:
    assert measure(2 << 30, 0.0) < measure(SMALL, 0.0) + 20 * MIB
