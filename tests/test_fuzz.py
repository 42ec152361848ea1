"""Fuzzing to a plan: packets, captures and machines, broken in ways that get past first checks."""

from __future__ import annotations

import bz2
import gzip
import lzma
from random import Random
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgmlite.wire.derive import fields
from pgmlite.wire.layout import HEADER, MANIFEST, NAK_BODY, REQUEST, SPM_BODY, PacketType
from tests.support import fuzz_signed, fuzz_targets, pcaps
from tests.support.fuzz_pieces import joined
from tests.support.fuzz_targets import TARGETS, seeds
from tests.support.signed_vectors import SIGNED, valid_signed
from tests.support.vectors import SMALL, valid

VALID = [one for _, one in (*valid(), *valid_signed())]

# Where fields begin, in packets of some kind: a change there means more than one in a symbol.
PLACES = sorted(
    at + field.offset
    for struct, at in ((HEADER, 0), (SPM_BODY, 48), (MANIFEST, 72), (NAK_BODY, 48), (REQUEST, 48))
    for field in fields(struct)
    if field.offset is not None
)
EXTREME = st.sampled_from([0, 1, 2, 63, 64, 65, 127, 128, 254, 255])


@st.composite
def broken(draw: st.DrawFn, some: list[bytes] = VALID) -> bytes:
    """Draw a packet that is nearly valid, one of `some` in the beginning."""
    one = bytearray(draw(st.sampled_from(some)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.sampled_from(PLACES)) + draw(st.integers(0, 7))
        if at < len(one):
            one[at] = draw(EXTREME)
    match draw(st.integers(0, 9)):
        case 0:
            return bytes(one[: draw(st.integers(0, len(one)))])
        case 1:
            return bytes(one) + draw(st.binary(max_size=40))
    return bytes(one)


@given(broken())
def test_packets_are_judged_as_the_witness_judges_them(one: bytes) -> None:
    fuzz_targets.packet(one)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind(data: bytes) -> None:
    for name in TARGETS.keys() - fuzz_signed.TARGETS.keys():
        TARGETS[name](data)


@given(st.lists(broken(), max_size=6), st.integers(0, 199))
def test_rows_of_any_length(some: list[bytes], stride: int) -> None:
    fuzz_targets.rows(stride.to_bytes(2) + b"".join(some))


CONTROLLED = st.lists(st.tuples(st.integers(0, 255), broken()), max_size=20)
CYCLE = [one for _, one in pcaps.carousel(SMALL)]


@given(CONTROLLED, st.booleans())
def test_receiver_and_repairer(parts: list[tuple[int, bytes]], in_cycle: bool) -> None:
    if in_cycle:
        parts = [(0, one) for one in CYCLE[:9]] + parts + [(0, one) for one in CYCLE[9:]]
    data = joined(iter(parts))
    fuzz_targets.receiver(data)
    fuzz_targets.repairer(data)


OWN = [one for one in fuzz_signed.TRUE if one[3] != PacketType.SPM] + [SIGNED.spm()]
ODD = st.one_of(broken(OWN), broken(), st.binary(max_size=200))
PARTS = st.lists(st.tuples(st.integers(0, 255), ODD), max_size=40)


@settings(max_examples=30)
@given(PARTS, st.integers(0, len(OWN)), st.integers(0, 120))
def test_tiles_and_their_tree(parts: list[tuple[int, bytes]], start: int, count: int) -> None:
    # spec: TILE-4
    true = [(0, one) for one in OWN[start : start + count]]
    for place, part in enumerate(parts):
        true.insert(place * 3, part)
    fuzz_signed.tiles(joined(iter(true)))


ANNOUNCING = st.tuples(st.integers(0, 255), broken([*OWN, *VALID]))


@settings(max_examples=60)
@given(st.lists(ANNOUNCING, max_size=20))
def test_announcements_with_a_key(parts: list[tuple[int, bytes]]) -> None:
    fuzz_signed.trust(joined(iter(parts)))


@given(st.sampled_from(seeds("pglm")), st.lists(st.tuples(st.integers(0, 4_000), EXTREME)))
def test_signed_files(whole: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for at, value in changes:
        data[at % (min(300, len(data)) if at % 3 else len(data))] = value
    fuzz_signed.pglm(bytes(data))


@st.composite
def captures(draw: st.DrawFn) -> bytes:
    """Draw a capture with packets, frames and records that are broken here and there."""
    link = draw(st.sampled_from(sorted(pcaps.LINKS)))
    some = draw(st.lists(broken(), max_size=4))
    payloads = CYCLE[: draw(st.integers(0, len(CYCLE)))] + some + CYCLE[3:]
    frames = []
    for number, payload in enumerate(payloads):
        one = bytearray(pcaps.frame(payload, link))
        if draw(st.integers(0, 15)) == 0:
            one[draw(st.integers(0, min(len(one), 80) - 1))] = draw(EXTREME)
        if draw(st.integers(0, 30)) == 0:
            one = one[: draw(st.integers(0, len(one)))]
        frames.append((pcaps.EPOCH + number * draw(st.sampled_from([0, 10**6])), bytes(one)))
    form = draw(st.sampled_from([pcaps.pcap, pcaps.pcapng]))
    how = {"how": draw(st.sampled_from(["enhanced", "old", "simple"]))}
    order = draw(st.sampled_from("<>"))
    whole = bytearray(form(frames, link, order=order, **(how if form is pcaps.pcapng else {})))
    match draw(st.integers(0, 6)):
        case 0:
            at = draw(st.integers(0, len(whole)))
            whole[at:at] = draw(st.binary(max_size=60))
        case 1:
            whole += draw(st.sampled_from([pcaps.pcap, pcaps.pcapng]))(frames, link)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        whole[draw(st.integers(0, len(whole) - 1))] = draw(EXTREME)
    if draw(st.integers(0, 4)) == 0:
        return bytes(whole[: draw(st.integers(0, len(whole)))])
    return bytes(whole)


@given(captures())
def test_replay_of_any_capture(data: bytes) -> None:
    fuzz_targets.replay(data)
    fuzz_targets.capture(data)


@given(captures(), st.sampled_from([gzip, bz2, lzma]), st.integers(0, 3))
def test_replay_of_any_compressed_capture(data: bytes, module: ModuleType, seed: int) -> None:
    packed = bytearray(module.compress(data))
    rng = Random(seed)
    for _ in range(seed):
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    fuzz_targets.replay(bytes(packed))


@given(st.one_of(broken(), st.binary(max_size=300)))
def test_scapy_loses_nothing(one: bytes) -> None:
    pytest.importorskip("scapy.all")
    from pgmlite.scapy import Pgmlite

    layer = Pgmlite(one) if one else None
    assert one == (bytes(layer) if layer is not None else b"")
    if layer is not None:
        layer.show(dump=True)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


def test_mutations_without_a_plan() -> None:
    rng = Random(5)
    for name, target in TARGETS.items():
        for seed in seeds(name):
            data = bytearray(seed)
            for _ in range(3):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                target(bytes(data))
