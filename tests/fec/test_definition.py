"""The code is what its page says, bit for bit."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pgmlite.fec import code
from pgmlite.fec.code import MAX_ESI, MAX_SOURCE, coefficients
from pgmlite.fec.encode import encode
from pgmlite.wire.digests import digest
from pgmlite.wire.geometry import most_repairs
from tests.support import fec_by_the_page as page
from tests.support.vectors import pattern

SPEC = Path(__file__).parent.parent.parent / "spec"
VECTORS = json.loads((SPEC / "vectors" / "fec.json").read_text())


def test_constants_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", (SPEC / "fec.md").read_text(), re.MULTILINE)
    assert len(rows) == 7
    assert {name: getattr(code, name) for name, _ in rows} == {n: int(v) for n, v in rows}


def test_words_are_those_of_the_vectors() -> None:
    numbers = [int(x, 16) for x, _ in VECTORS["mix"]]
    expected = [int(word, 16) for _, word in VECTORS["mix"]]
    assert list(map(page.mix, numbers)) == expected
    assert code.mix(np.array(numbers, np.uint64)).tolist() == expected


@pytest.mark.parametrize("block", VECTORS["blocks"], ids=lambda block: str(block["k"]))
def test_vectors_follow_from_the_page_alone(block: dict) -> None:
    k, size = block["k"], block["symbol_size"]
    content = pattern(k * size)
    source = [content[at : at + size] for at in range(0, len(content), size)]
    for esi, bits, symbol in block["repairs"]:
        assert page.coefficients(k, esi) == int(bits, 16)
        assert page.encode(source, esi).hex() == symbol
    if k <= 300:
        symbols = b"".join(page.encode(source, esi) for esi in range(k, k + 64))
        assert digest(symbols).hex() == block["digest"]


@pytest.mark.parametrize("of", VECTORS["held"], ids=lambda of: str(of["k"]))
def test_ranks_of_the_vectors_follow_from_the_page_alone(of: dict) -> None:
    held = {esi for first, last in of["held"] for esi in range(first, last + 1)}
    k = of["k"]
    missing = [j for j in range(k) if j not in held]
    keep = sum(1 << j for j in missing)
    rows = [page.coefficients(k, esi) & keep for esi in held if esi >= k]
    assert (len(missing), page.rank(rows)) == (of["missing"], of["rank"])


@pytest.mark.parametrize("k", [1, 2, 47, 48, 49, 50, 200, 1_023, 1_024])
def test_coefficients_are_those_of_the_page(k: int) -> None:
    esis = np.array([0, k - 1, k, k + 1, 2 * k + 7, 8 * k + 64, MAX_ESI])
    packed = np.packbits(coefficients(k, esis), axis=1, bitorder="little")
    found = [int.from_bytes(row.tobytes(), "little") for row in packed]
    assert found == [page.coefficients(k, int(esi)) for esi in esis]


@pytest.mark.parametrize("k", [*range(1, 20), 48, 49, 64])
def test_no_repair_symbol_of_a_ring_is_of_nothing(k: int) -> None:
    assert coefficients(k, k + np.arange(most_repairs(k))).any(axis=1).all()


def test_all_repair_symbols_of_one_symbol_are_that_symbol() -> None:
    source = np.array([[1, 2, 3, 4]], np.uint8)
    assert (encode(source, np.arange(65)) == source).all()


@pytest.mark.parametrize(
    ("k", "esi"), [(0, 0), (MAX_SOURCE + 1, 0), (1, -1), (1, MAX_ESI + 1), (MAX_SOURCE, 1 << 40)]
)
def test_what_is_not_there_is_an_error(k: int, esi: int) -> None:
    with pytest.raises(ValueError, match=r"1024|65535"):
        coefficients(k, np.array([esi]))
    with pytest.raises(ValueError, match=r"1024|65535"):
        encode(np.zeros((k, 4), np.uint8), np.array([esi]))
