"""What NAKs and NCFs name, whatever bytes come."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from construct import ConstructError
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.errors import RefusedPacket
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.layout import MAX_CONTROL, MAX_PACKET, NAK_BODY, REQUEST, RequestForm
from pgmlite.wire.request import (
    MAX_REQUESTED,
    NAK_FIXED_SIZE,
    Counts,
    Rings,
    build_counts,
    build_nak,
    build_request,
    parse_nak,
    parse_request,
    request_size,
)
from tests.requirements import SPEC
from tests.support.count_vectors import read_counts
from tests.support.nak_builders import symbols_of
from tests.support.vectors import counts_request

COUNTS = json.loads((SPEC.parent / "vectors" / "counts.json").read_text())

FIXED = 8
LARGEST = 1 << 32
"""Symbols that 32 bits can number."""

REQUEST_LIMIT = MAX_CONTROL - HEADER_SIZE
"""Bytes of the largest request: that of an NCF."""


def ranges(*items: tuple[int, int], base: int = 0, count: int | None = None) -> bytes:
    """Return a request of ranges, sound or not."""
    head = struct.pack(">BBHI", 0, 0, len(items) if count is None else count, base)
    return head + b"".join(struct.pack(">II", *item) for item in items)


def bitmap(bits: bytes, *, base: int = 0, count: int | None = None) -> bytes:
    """Return a request with a bitmap, sound or not."""
    return struct.pack(">BBHI", 1, 0, len(bits) if count is None else count, base) + bits


SOUND = {
    "a range": ranges((0, 5), base=7),
    "ranges": ranges((0, 1), (3, 2), (900, 100), base=40),
    "a bitmap": bitmap(b"\x80\x01\xff"),
    "a bitmap further on": bitmap(b"\xa5" * 20, base=800),
}
TOTAL = 1_040


@st.composite
def wanted_symbols(draw: st.DrawFn) -> np.ndarray:
    """Draw ascending symbols: scattered, in runs, near and far."""
    start = st.integers(0, LARGEST - 3_000)
    near = draw(start)
    starts = st.one_of(start, st.integers(near, near + 2_000))
    runs = draw(st.lists(st.tuples(starts, st.integers(1, 300)), min_size=1, max_size=30))
    return symbols_of(*(range(first, first + length) for first, length in runs))


def named(symbols: list[int], limit: int, form: RequestForm) -> tuple[int, int]:
    """Return how many of `symbols` a form can name in `limit` bytes, and the bytes it takes."""
    room = limit - FIXED
    if form is RequestForm.BITMAP:
        inside = [symbol for symbol in symbols if symbol < symbols[0] + room * 8]
        return len(inside), (inside[-1] - symbols[0]) // 8 + 1
    count, runs = 0, 0
    for before, symbol in pairwise([None, *symbols]):
        runs += before is None or symbol != before + 1
        if runs > room // 8:
            return count, (runs - 1) * 8
        count += 1
    return count, runs * 8


def parsed_or_refused(parse: Callable[[bytes, int], Any], body: bytes) -> tuple[Any, str]:
    """Return what `body` says, or None and the reason of its refusal."""
    try:
        return parse(body, TOTAL), ""
    except RefusedPacket as refused:
        return None, refused.reason


def as_declared(body: bytes) -> Any:
    """Return what the declaration makes of a request, or None."""
    try:
        return REQUEST.parse(body)
    except ConstructError:
        return None


class TestDeclaration:
    @given(wanted_symbols(), st.integers(16, REQUEST_LIMIT))
    def test_what_is_built_is_as_declared(self, symbols: np.ndarray, limit: int) -> None:
        body, _ = build_request(symbols, limit)
        assert REQUEST.build(as_declared(body)) == body
        nak = build_nak(1 << 63, (1 << 64) - 1, 0.25, body)
        assert NAK_BODY.build(NAK_BODY.parse(nak)) == nak

    @given(
        st.integers(0, 3), st.sampled_from([0, 0, 0, 1]), st.integers(0, 4), st.binary(max_size=40)
    )
    @example(1, 0, 2, b"\x80\x01")
    @example(0, 0, 1, bytes(7) + b"\x01")
    def test_what_is_taken_is_as_declared(
        self, form: int, flags: int, count: int, rest: bytes
    ) -> None:
        body = struct.pack(">BBHI", form, flags, count, 5) + rest
        taken, _ = parsed_or_refused(parse_request, body)
        declared = as_declared(body)
        if declared is None:
            assert taken is None
        elif taken is not None:
            assert REQUEST.build(declared) == body
            assert int(taken[0]) >= declared.base == 5


class TestBuilding:
    @given(wanted_symbols(), st.integers(16, REQUEST_LIMIT))
    @example(symbols_of(range(0, 200, 2)), 16)
    @example(symbols_of(range(64)), 16)
    @example(symbols_of(0, 63), 16)
    @example(symbols_of(0, LARGEST - 1), 24)
    def test_names_as_many_as_fit_lowest_first(self, symbols: np.ndarray, limit: int) -> None:
        # spec: REQ-1
        body, count = build_request(symbols, limit)
        assert len(body) <= limit
        assert parse_request(body, LARGEST).tolist() == symbols[:count].tolist()
        forms = {form: named(symbols.tolist(), limit, form) for form in RequestForm}
        most = max(count for count, _ in forms.values())
        assert count == most
        size = min(size for count, size in forms.values() if count == most)
        assert len(body) == FIXED + size

    @given(wanted_symbols(), st.integers(16, 200))
    def test_what_did_not_fit_can_be_named_next(self, symbols: np.ndarray, limit: int) -> None:
        rest, named_so_far = symbols, []
        while len(rest):
            body, count = build_request(rest, limit)
            assert count > 0
            named_so_far += parse_request(body, LARGEST).tolist()
            rest = rest[count:]
        assert named_so_far == symbols.tolist()

    @given(wanted_symbols(), st.integers(16, REQUEST_LIMIT))
    def test_the_size_says_whether_all_fits(self, symbols: np.ndarray, limit: int) -> None:
        body, count = build_request(symbols, limit)
        size = request_size(symbols)
        assert (count == len(symbols)) == (size <= limit)
        if count == len(symbols):
            assert size == len(body)

    def test_one_request_never_names_more_than_a_parser_takes(self) -> None:
        body, count = build_request(np.arange(MAX_REQUESTED + 5), REQUEST_LIMIT)
        assert count == MAX_REQUESTED
        assert len(parse_request(body, LARGEST)) == MAX_REQUESTED

    def test_a_nak_holds_what_a_fleet_of_firmware_needs(self) -> None:
        scattered = np.array(sorted(Random(1).sample(range(9_000), 3_000)))
        _, count = build_request(scattered, REQUEST_LIMIT - NAK_FIXED_SIZE)
        assert count == len(scattered)


class TestHostileRequests:
    @staticmethod
    def refuse(body: bytes, total: int = TOTAL) -> None:
        with pytest.raises(RefusedPacket) as refused:
            parse_request(body, total)
        assert refused.value.reason == "request"

    @pytest.mark.parametrize("body", SOUND.values(), ids=SOUND)
    def test_sound_ones_parse(self, body: bytes) -> None:
        symbols = parse_request(body, TOTAL)
        assert (np.diff(symbols) > 0).all()

    @pytest.mark.parametrize("body", SOUND.values(), ids=SOUND)
    def test_cut_off_anywhere(self, body: bytes) -> None:
        for length in range(len(body)):
            self.refuse(body[:length])

    @pytest.mark.parametrize("body", SOUND.values(), ids=SOUND)
    @pytest.mark.parametrize("extra", [1, 8, 500])
    def test_trailing_bytes(self, body: bytes, extra: int) -> None:
        # spec: PKT-1
        self.refuse(body + bytes(extra))

    @pytest.mark.parametrize("form", [3, 4, 128, 255])
    def test_unknown_form(self, form: int) -> None:
        for body in SOUND.values():
            self.refuse(bytes([form]) + body[1:])

    @pytest.mark.parametrize("body", SOUND.values(), ids=SOUND)
    def test_reserved_flags(self, body: bytes) -> None:
        # spec: REQ-4
        for bit in range(8):
            self.refuse(body[:1] + bytes([1 << bit]) + body[2:])

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(ranges(), id="no range"),
            pytest.param(bitmap(b""), id="no bit"),
            pytest.param(bitmap(bytes(100)), id="only zeros"),
            pytest.param(ranges((0, 0)), id="zero-length range"),
            pytest.param(ranges((0, 4), (9, 0), (20, 1)), id="zero-length range among others"),
            pytest.param(ranges((9, 1), (0, 1)), id="unsorted"),
            pytest.param(ranges((5, 1), (5, 1)), id="twice the same"),
            pytest.param(ranges((0, 10), (9, 5)), id="overlapping"),
            pytest.param(ranges((0, 10), (3, 2)), id="one inside another"),
            pytest.param(ranges((TOTAL, 1)), id="range outside"),
            pytest.param(ranges((TOTAL - 1, 2)), id="range half outside"),
            pytest.param(ranges((0, 1), base=TOTAL), id="base outside"),
            pytest.param(ranges((1, 1), base=LARGEST - 1), id="start past 32 bits"),
            pytest.param(ranges((LARGEST - 1, LARGEST - 1), base=LARGEST - 1), id="all of ones"),
            pytest.param(bitmap(b"\x80", base=TOTAL), id="bitmap outside"),
            pytest.param(bitmap(b"\x80\x01", base=TOTAL - 15), id="bitmap half outside"),
            pytest.param(ranges((0, 1), count=2), id="count too large"),
            pytest.param(ranges((0, 1), (3, 1), count=1), id="count too small"),
            pytest.param(bitmap(b"\x80", count=65_535), id="count far too large"),
        ],
    )
    def test_contents(self, body: bytes) -> None:
        # spec: REQ-2
        self.refuse(body)

    def test_bits_past_the_object_may_be_zero(self) -> None:
        body = bitmap(b"\x80\x00\x00", base=TOTAL - 1)
        assert parse_request(body, TOTAL).tolist() == [TOTAL - 1]

    def test_the_last_symbol_can_be_named_and_no_other(self) -> None:
        assert parse_request(ranges((0, TOTAL)), TOTAL).tolist() == list(range(TOTAL))
        self.refuse(ranges((0, TOTAL + 1)))

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(ranges((0, MAX_REQUESTED + 1)), id="in one range"),
            pytest.param(ranges((0, LARGEST - 1)), id="in the longest range"),
            pytest.param(
                ranges((0, 40_000), (50_000, 40_000)), id="in two ranges that alone may be"
            ),
            pytest.param(
                ranges(*((n, LARGEST - 1) for n in range(100))), id="in many overlapping ranges"
            ),
            pytest.param(bitmap(b"\xff" * 8_193), id="in a bitmap"),
        ],
    )
    def test_too_many_symbols_cost_no_memory(self, body: bytes) -> None:
        # spec: REQ-3
        tracemalloc.start()
        try:
            self.refuse(body, LARGEST)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 << 20

    @pytest.mark.parametrize("step", [2, 8_000])
    def test_no_body_is_parsed_that_no_nak_can_have(self, step: int) -> None:
        # Every range takes construct some microseconds: those of one large datagram a sixth of a
        # second, at each receiver.
        count = (MAX_PACKET - HEADER_SIZE - FIXED) // 8
        self.refuse(ranges(*((n * step, 1) for n in range(count))), LARGEST)
        within = (REQUEST_LIMIT - FIXED) // 8
        assert len(parse_request(ranges(*((n * step, 1) for n in range(within))), LARGEST))

    @given(st.binary(max_size=60))
    def test_any_bytes(self, body: bytes) -> None:
        self._either(body)

    @given(
        st.sampled_from([0, 1]),
        st.integers(0, 40),
        st.integers(0, LARGEST - 1),
        st.binary(max_size=200),
    )
    def test_any_items(self, form: int, count: int, base: int, items: bytes) -> None:
        self._either(struct.pack(">BBHI", form, 0, count, base % 2_000) + items)

    @given(st.sampled_from(sorted(SOUND)), st.integers(0, 8_000), st.integers(1, 255))
    def test_sound_ones_with_a_wrong_byte(self, name: str, place: int, flip: int) -> None:
        body = bytearray(SOUND[name])
        body[place % len(body)] ^= flip
        self._either(bytes(body))

    @staticmethod
    def _either(body: bytes) -> None:
        symbols, reason = parsed_or_refused(parse_request, body)
        if symbols is None:
            assert reason == "request"
            return
        assert 0 < len(symbols) <= TOTAL
        assert (np.diff(symbols) > 0).all()
        assert symbols[0] >= 0
        assert symbols[-1] < TOTAL


RINGS = st.builds(
    Rings, blocks=st.integers(1, 400), full=st.integers(2, 65_535), last=st.integers(2, 65_535)
)


class TestCounts:
    @staticmethod
    def draw(rings: Rings, data: st.DataObject) -> Counts:
        """Draw counts of an object that has these."""
        blocks = data.draw(st.sets(st.integers(0, rings.blocks - 1), min_size=1, max_size=200))
        rows = []
        for block in sorted(blocks):
            most = rings.last if block == rings.blocks - 1 else rings.full
            at = st.tuples(st.integers(0, most - 1), st.integers(1, min(most, 9_000)))
            rows.append((block, *data.draw(at)))
        return Counts(*np.array(rows, np.int64).T)

    @given(RINGS, st.data(), st.integers(16, REQUEST_LIMIT))
    def test_what_is_built_is_parsed(self, rings: Rings, data: st.DataObject, limit: int) -> None:
        wanted = self.draw(rings, data)
        body, named = build_counts(wanted, limit)
        assert len(body) <= limit
        found = parse_request(body, 1, rings)
        assert isinstance(found, Counts)
        for name in ("blocks", "firsts", "counts"):
            assert getattr(found, name).tolist() == getattr(wanted, name)[:named].tolist()
        items = as_declared(body)["items"]
        assert [item["block"] for item in items] == found.blocks.tolist()
        # It says all of them, or as many as fit, or as many as a parser takes.
        room = (limit - FIXED) // 8
        assert 1 <= named <= room
        if named < min(len(wanted.blocks), room):
            assert wanted.counts[: named + 1].sum() > MAX_REQUESTED

    @pytest.mark.parametrize("case", COUNTS["taken"], ids=[c["name"] for c in COUNTS["taken"]])
    def test_vectors_that_are_taken(self, case: dict[str, Any]) -> None:
        # spec: REQ-5
        found = read_counts(case["at"], bytes.fromhex(case["hex"]))
        items = np.stack([found.blocks, found.firsts, found.counts], axis=1).tolist()
        assert items == case["items"]

    @pytest.mark.parametrize("case", COUNTS["refused"], ids=[c["name"] for c in COUNTS["refused"]])
    def test_vectors_that_are_refused(self, case: dict[str, Any]) -> None:
        # spec: REQ-3, REQ-4, REQ-5
        with pytest.raises(RefusedPacket) as refused:
            read_counts(case["at"], bytes.fromhex(case["hex"]))
        assert refused.value.reason == "request"

    @pytest.mark.parametrize("case", COUNTS["taken"], ids=[c["name"] for c in COUNTS["taken"]])
    def test_objects_without_repair_symbols_refuse_them(self, case: dict[str, Any]) -> None:
        # spec: REQ-5
        body = bytes.fromhex(case["hex"])
        assert parsed_or_refused(parse_request, body) == (None, "request")
        nak = build_nak(1, 2, 0.5, body)
        assert parsed_or_refused(parse_nak, nak) == (None, "request")

    def test_nothing_is_asked_for_by_name_of_an_object_with_repair_symbols(self) -> None:
        # spec: REQ-5
        for body in SOUND.values():
            assert len(parse_request(body, TOTAL))
            with pytest.raises(RefusedPacket):
                parse_request(body, TOTAL, Rings(3, 400, 300))

    def test_too_many_symbols_are_refused(self) -> None:
        # spec: REQ-3
        rings = Rings(400, 65_535, 65_535)
        most = counts_request((0, 0, 65_535), (1, 0, 1))
        assert parse_request(most, 1, rings)
        with pytest.raises(RefusedPacket):
            parse_request(counts_request((0, 0, 65_535), (1, 0, 2)), 1, rings)

    @given(st.integers(0, 5), st.integers(0, 3), st.binary(max_size=60))
    def test_any_items(self, count: int, base: int, items: bytes) -> None:
        body = struct.pack(">BBHI", 2, 0, count, base) + items
        found, reason = parsed_or_refused(partial(parse_request, rings=Rings(3, 12, 9)), body)
        if found is None:
            assert reason == "request"
            return
        assert isinstance(found, Counts)
        assert (np.diff(found.blocks) > 0).all()
        most = np.where(found.blocks == 2, 9, 12)
        assert ((found.counts >= 1) & (found.counts <= most) & (found.firsts < most)).all()
        assert found.blocks[-1] < 3


class TestNakBodies:
    WORD = st.integers(0, (1 << 64) - 1)

    @given(WORD, WORD, st.floats(0, 1), wanted_symbols())
    def test_round_trip(self, nonce: int, timestamp: int, loss: float, symbols: np.ndarray) -> None:
        request, count = build_request(symbols, REQUEST_LIMIT - NAK_FIXED_SIZE)
        body = build_nak(nonce, timestamp, loss, request)
        assert len(body) <= REQUEST_LIMIT
        nak = parse_nak(body, LARGEST)
        assert (nak.nonce, nak.timestamp) == (nonce, timestamp)
        assert nak.loss == pytest.approx(loss, abs=1e-5)
        assert nak.symbols.tolist() == symbols[:count].tolist()

    @pytest.mark.parametrize(("loss", "said"), [(-0.5, 0), (1.5, 1)])
    def test_loss_stays_a_share(self, loss: float, said: float) -> None:
        assert parse_nak(build_nak(0, 0, loss, SOUND["ranges"]), TOTAL).loss == said

    @pytest.mark.parametrize("request_body", SOUND.values(), ids=SOUND)
    def test_cut_off_anywhere_or_too_long(self, request_body: bytes) -> None:
        body = build_nak(1, 2, 0.5, request_body)
        for wrong in [*(body[:length] for length in range(len(body))), body + b"\0"]:
            with pytest.raises(RefusedPacket) as refused:
                parse_nak(wrong, TOTAL)
            assert refused.value.reason == "request"

    def test_reserved_bytes(self) -> None:
        body = bytearray(build_nak(1, 2, 0.5, SOUND["ranges"]))
        body[NAK_FIXED_SIZE - 1] = 1
        with pytest.raises(RefusedPacket):
            parse_nak(bytes(body), TOTAL)

    @given(st.binary(max_size=100), st.booleans())
    def test_any_bytes(self, tail: bytes, is_plausible: bool) -> None:
        body = (bytes(NAK_FIXED_SIZE) if is_plausible else b"") + tail
        nak, reason = parsed_or_refused(parse_nak, body)
        assert reason == "request" if nak is None else nak.symbols[-1] < TOTAL
