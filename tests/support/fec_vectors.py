"""What is in ``spec/vectors/fec.json``, made by the code itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgmlite.fec.code import coefficients, mix
from pgmlite.fec.decode import solve
from pgmlite.fec.encode import encode
from pgmlite.wire.digests import digest
from tests.support.vectors import pattern

BLOCKS = ((1, 4), (2, 8), (5, 12), (16, 8), (48, 8), (49, 8), (64, 8), (300, 4), (1_024, 4))
"""K and T."""

NUMBERS = (0, 1, 2, 2**32, 2**48 + 1_024 * 2**32, 2**64 - 1)


def fec_file() -> dict[str, Any]:
    """Return ``fec.json``."""
    words = mix(np.array(NUMBERS, np.uint64)).tolist()
    return {
        "about": "The code of fec.md. mix: number and output, hexadecimal. blocks: k source "
        "symbols of symbol_size bytes that count from 0 to 250 over and over. repairs: ESI, "
        "coefficients as a hexadecimal number, content. digest: of the repair symbols k to k + 63. "
        "held: first and last ESI of each stretch, and how many source symbols are missing, of "
        "which rank the held repair symbols are on these.",
        "mix": [[f"{x:016x}", f"{word:016x}"] for x, word in zip(NUMBERS, words, strict=True)],
        "blocks": [_block(k, size) for k, size in BLOCKS],
        "held": [
            {"k": k, "held": list(held), **_rank(k, held)}
            for k, held in (
                (1, ((5, 5),)),
                (2, ((2, 3),)),
                (5, ((1, 3), (9, 11))),
                (16, ((0, 3), (70, 81))),
                (49, ((40, 88),)),
                (64, ((64, 127),)),
                (64, ((64, 131),)),
                (300, ((0, 99), (200, 299), (310, 409))),
                (1_024, ((51, 1_074),)),
                (1_024, ((51, 1_079),)),
                (1_024, ((1_024, 2_060),)),
            )
        ],
    }


def _block(k: int, size: int) -> dict[str, Any]:
    source = np.frombuffer(pattern(k * size), np.uint8).reshape(k, size)
    esis = np.array(sorted({k, k + 1, k + 2, k + 63, 8 * k + 63, 0xFFFF}))
    numbers = np.packbits(coefficients(k, esis), axis=1, bitorder="little")
    return {
        "k": k,
        "symbol_size": size,
        "repairs": [
            [int(esi), f"{int.from_bytes(bits.tobytes(), 'little'):x}", content.tobytes().hex()]
            for esi, bits, content in zip(esis, numbers, encode(source, esis), strict=True)
        ],
        "digest": digest(encode(source, np.arange(k, k + 64)).tobytes()).hex(),
    }


def _rank(k: int, held: tuple[tuple[int, int], ...]) -> dict[str, int]:
    esis = np.concatenate([np.arange(first, last + 1) for first, last in held])
    solution = solve(k, esis)
    missing = len(solution.missing)
    return {"missing": missing, "rank": missing - solution.lacks}
