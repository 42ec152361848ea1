"""Headers: one declaration and two readers of it, reading and writing batches, refusals."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from construct import Bytes, Const, ConstructError, Int8ub, Int16ub, Int32ub, Struct
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.wire import batch as wire
from pgmlite.wire.batch import HEADER_DTYPE, HEADER_SIZE, PacketBatch
from pgmlite.wire.buffers import ReceiveBuffer, SendBuffer
from pgmlite.wire.derive import STRUCTS, fields, fill_tables, markdown_table, numpy_dtype
from pgmlite.wire.layout import HEADER, MAX_SYMBOL_SIZE, PacketType
from pgmlite.wire.manifest import MAX_OBJECT_SIZE, is_symbol_size
from tests.support.builders import Read, cut, endpoint, fill, joined, make_object, packet

HEADER_FIELDS = list(fields(HEADER))
FREE_FIELDS = {f.name: (1 << 8 * f.size) - 1 for f in HEADER_FIELDS if f.constant is None}
GOOD = {"symbol_size": 64, "size": 1_000, "oid": 7, "tsi": 9}
SYMBOL = bytes(64)
CODED = GOOD | {"flags": 1, "esi": 1_024}


def read(data: bytes, stride: int) -> tuple[list[PacketBatch], Counter[str]]:
    refused: Counter[str] = Counter()
    found = wire.read(np.frombuffer(data, np.uint8), stride, "a", refused)
    return found, refused


def accepted(found: list[PacketBatch]) -> list[tuple[bytes, Any]]:
    return [
        (row.tobytes() + payload.tobytes(), batch.source)
        for batch in found
        for row, payload in zip(batch.rows, batch.payload, strict=True)
    ]


class TestDerivedTypes:
    @given(st.fixed_dictionaries({n: st.integers(0, top) for n, top in FREE_FIELDS.items()}))
    def test_construct_and_numpy_agree_on_every_field(self, values: dict[str, int]) -> None:
        raw = HEADER.build(values)
        row = np.frombuffer(raw, HEADER_DTYPE)[0]
        parsed = HEADER.parse(raw)
        for field in HEADER_FIELDS:
            assert int(row[field.name]) == parsed[field.name], field.name
        assert int(row["key"]) == int.from_bytes(raw[:8], "big")
        copy = np.zeros(1, HEADER_DTYPE)
        for field in HEADER_FIELDS:
            copy[field.name] = values.get(field.name, field.constant)
        assert copy.tobytes() == raw

    def test_header_has_no_gaps(self) -> None:
        ends = [f.offset + f.size for f in HEADER_FIELDS]
        assert [f.offset for f in HEADER_FIELDS] == [0, *ends[:-1]]
        assert ends[-1] == HEADER_SIZE == HEADER.sizeof()

    @pytest.mark.parametrize(
        "struct",
        [
            Struct("a" / Int8ub, "b" / Int16ub),
            Struct("a" / Int16ub, "b" / Int32ub),
            Struct("a" / Bytes(3)),
            STRUCTS["manifest"],
        ],
    )
    def test_dtype_refuses_what_numpy_would_misread(self, struct: Struct) -> None:
        with pytest.raises(ValueError, match="not a naturally aligned integer"):
            numpy_dtype(struct)

    def test_table_shows_offsets_until_a_length_varies(self) -> None:
        lines = markdown_table(STRUCTS["option"]).splitlines()
        assert lines[2].startswith("| 0 | 2 | `kind` |")
        assert lines[3].startswith("| 2 | varies | `value` |")

    def test_filling_tables_twice_changes_nothing(self) -> None:
        text = "before\n<!-- table: header -->\nstale\n<!-- end -->\nafter\n"
        filled = fill_tables(text)
        assert filled.startswith("before\n")
        assert filled.endswith("<!-- end -->\nafter\n")
        assert "stale" not in filled
        assert all(f"`{field.name}`" in filled for field in HEADER_FIELDS)
        assert fill_tables(filled) == filled

    def test_unknown_table_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            fill_tables("<!-- table: nonsense --><!-- end -->")

    def test_header_parses_with_the_reference_parser_only_if_constants_hold(self) -> None:
        raw = packet(PacketType.SPM, **GOOD, magic=1)
        with pytest.raises(ConstructError):
            HEADER.parse(raw)

    def test_constants_are_known(self) -> None:
        struct = Struct("fixed" / Const(3, Int8ub), "free" / Int8ub)
        assert [field.constant for field in fields(struct)] == [3, None]


REFUSED = {
    "short": [b"\0", packet(PacketType.ODATA, **GOOD)[:-1]],
    "magic": [packet(PacketType.ODATA, SYMBOL, **GOOD, magic=0x7068)],
    "version": [packet(PacketType.ODATA, SYMBOL, **GOOD, version=version) for version in (0, 1, 3)],
    "type": [packet(kind, SYMBOL, **GOOD) for kind in (1, 6, 9, 255)],
    "reserved": [
        packet(PacketType.ODATA, SYMBOL, **GOOD, flags=2),
        packet(PacketType.RDATA, SYMBOL, **GOOD, flags=0x81),
        *(packet(kind, SYMBOL, **GOOD, flags=1) for kind in (0, 7, 8, 10)),
    ],
    "symbol_size": [
        packet(kind, SYMBOL, **(GOOD | {"symbol_size": size}))
        for kind in PacketType
        for size in (0, 60, 62, 66, MAX_SYMBOL_SIZE + 4, 65_535)
    ],
    "length": [
        *(packet(PacketType.ODATA, bytes(width), **GOOD) for width in (0, 65)),
        *(packet(PacketType.TREE, bytes(width), **GOOD) for width in (0, 1, 31, 33, 63, 65, 96)),
    ],
    "offset": [
        packet(PacketType.ODATA, SYMBOL, **GOOD, offset=32),
        packet(PacketType.ODATA, SYMBOL, **GOOD, offset=960),
        packet(PacketType.ODATA, SYMBOL[:39], **GOOD, offset=960),
        packet(PacketType.ODATA, SYMBOL[:40], **GOOD, offset=0),
        packet(PacketType.ODATA, SYMBOL[:1], **(GOOD | {"size": 0})),
        packet(PacketType.ODATA, SYMBOL, **(GOOD | {"size": 1 << 63})),
        packet(PacketType.ODATA, SYMBOL, **GOOD, offset=1 << 63),
        packet(PacketType.TREE, SYMBOL, **GOOD, offset=(1 << 64) - 64),
        packet(PacketType.SPM, SYMBOL, **(GOOD | {"size": (1 << 64) - 1})),
        packet(PacketType.ODATA, SYMBOL[:40], **CODED, offset=960),
        packet(PacketType.RDATA, SYMBOL, **CODED, offset=1_024),
        packet(PacketType.RDATA, SYMBOL, **(CODED | {"size": 0})),
        packet(PacketType.RDATA, SYMBOL, **CODED, offset=32),
        packet(PacketType.ODATA, SYMBOL, **GOOD, offset=32, esi=99),
    ],
    "esi": [
        packet(PacketType.ODATA, SYMBOL, **GOOD, esi=1),
        packet(PacketType.RDATA, SYMBOL, **GOOD, offset=64, esi=2),
        packet(PacketType.ODATA, SYMBOL[:40], **GOOD, offset=960, esi=16),
        packet(PacketType.ODATA, SYMBOL, **GOOD, esi=(1 << 32) - 1),
        *(packet(kind, SYMBOL, **GOOD, esi=1) for kind in (0, 8, 10)),
        packet(PacketType.TREE, SYMBOL, **GOOD, esi=2),
        packet(PacketType.TREE, SYMBOL, **GOOD, esi=(1 << 32) - 1),
    ],
}


class TestRead:
    @pytest.mark.parametrize(
        ("reason", "data"),
        [
            pytest.param(reason, data, id=f"{reason}{number}")
            for reason in REFUSED
            for number, data in enumerate(REFUSED[reason])
        ],
    )
    def test_refuses(self, reason: str, data: bytes) -> None:
        # spec: PKT-2, PKT-3, PKT-13
        assert read(data, len(data)) == ([], Counter({reason: 1}))

    @pytest.mark.parametrize("reason", REFUSED)
    def test_lists_only_reasons_that_occurred(self, reason: str) -> None:
        for data in REFUSED[reason]:
            _, refused = read(data, len(data))
            assert list(refused) == [reason]

    def test_a_batch_has_one_channel_and_one_kind_of_symbols(self) -> None:
        some = [
            packet(PacketType.ODATA, SYMBOL, **GOOD),
            packet(PacketType.RDATA, SYMBOL, **GOOD),
            packet(PacketType.ODATA, SYMBOL, **CODED),
            packet(PacketType.RDATA, SYMBOL, **CODED),
            packet(PacketType.ODATA, SYMBOL, **GOOD, channel=2),
        ]
        found, refused = read(b"".join(some), HEADER_SIZE + 64)
        assert [(b.channel, b.has_repair_symbols, len(b)) for b in found] == [
            (0, False, 2),
            (0, True, 2),
            (2, False, 1),
        ]
        assert not refused

    def test_an_offset_whose_end_overflows_is_refused(self) -> None:
        # spec: PKT-4
        data = packet(PacketType.ODATA, SYMBOL, **GOOD, offset=(1 << 63) - 64)
        assert read(data, len(data)) == ([], Counter({"offset": 1}))

    @pytest.mark.parametrize(
        "data",
        [
            packet(PacketType.ODATA, SYMBOL, **GOOD, offset=896),
            packet(PacketType.ODATA, SYMBOL[:40], **GOOD, offset=960),
            packet(PacketType.TREE, SYMBOL[:32], **GOOD, offset=(1 << 40) + 1),
            packet(PacketType.SPM, b"", **GOOD, offset=3),
            packet(PacketType.SPM, bytes(1_200), **GOOD),
            packet(PacketType.ODATA, SYMBOL, **GOOD, channel=255),
            packet(PacketType.ODATA, SYMBOL, **(GOOD | {"size": MAX_OBJECT_SIZE})),
            packet(PacketType.ODATA, SYMBOL, **GOOD, offset=640, esi=10),
            packet(PacketType.ODATA, SYMBOL[:40], **GOOD, offset=960, esi=15),
            packet(PacketType.ODATA, SYMBOL, **CODED, offset=896),
            packet(PacketType.RDATA, SYMBOL, **(CODED | {"esi": (1 << 32) - 1}), offset=960),
            packet(PacketType.RDATA, SYMBOL, **(CODED | {"size": 1}), offset=0),
        ],
    )
    def test_accepts_what_lies_just_inside(self, data: bytes) -> None:
        found, refused = read(data, len(data))
        assert accepted(found) == [(data, "a")]
        assert not refused

    def test_names_type_offset_and_payload(self) -> None:
        data = b"".join(
            packet(PacketType.ODATA, bytes([n]) * 64, **GOOD, offset=64 * n, sqn=n)
            for n in range(3)
        )
        (batch,), _ = read(data, HEADER_SIZE + 64)
        assert (batch.kind, len(batch)) == (PacketType.ODATA, 3)
        assert batch.offsets.tolist() == [0, 64, 128]
        assert batch.offsets.dtype.isnative
        assert batch.payload[:, 0].tolist() == [0, 1, 2]
        assert batch.select(slice(1, 2)).offsets.tolist() == [64]

    @given(st.binary(max_size=400), st.integers(1, 450))
    def test_arbitrary_bytes_are_counted_not_raised(self, data: bytes, stride: int) -> None:
        # spec: PKT-5
        found, refused = read(data, stride)
        assert sum(map(len, found)) + sum(refused.values()) == -(-len(data) // stride)

    @given(
        st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from([0, 4, 7, 4, 7, 9])},
                optional={
                    "magic": st.just(1),
                    "version": st.just(3),
                    "flags": st.just(1),
                    "esi": st.just(1),
                    "channel": st.just(1),
                    "symbol_size": st.sampled_from([0, 64, 66, 128]),
                    "size": st.sampled_from([0, 64, 1_000, 1_024, (1 << 63) - 1, 1 << 63]),
                    "offset": st.sampled_from([0, 1, 64, 960, 1_024, (1 << 63) - 64, 1 << 63]),
                },
            ),
            min_size=1,
            max_size=8,
        ),
        st.sampled_from([64, 64, 64, 40, 63, 65, 1, 0]),
        st.sampled_from([0, 0, 0, 1, 24, 63, 64]),
    )
    def test_what_is_accepted_keeps_the_rules(
        self, headers: list[dict[str, int]], width: int, missing: int
    ) -> None:
        # spec: PKT-4
        stride = HEADER_SIZE + width
        data = b"".join(
            packet(PacketType.ODATA, bytes(width), **(GOOD | header)) for header in headers
        )
        data = data[: max(1, len(data) - missing % stride)]
        found, refused = read(data, stride)
        assert sum(map(len, found)) + sum(refused.values()) == -(-len(data) // stride)
        for batch in found:
            for row, offset, payload in zip(
                batch.rows, batch.offsets.tolist(), batch.payload, strict=True
            ):
                parsed = HEADER.parse(row.tobytes())
                assert parsed.type == batch.kind
                assert is_symbol_size(parsed.symbol_size)
                assert parsed.size <= MAX_OBJECT_SIZE
                assert 0 <= offset == parsed.offset
                if batch.kind is not PacketType.SPM:
                    assert 1 <= len(payload) <= parsed.symbol_size
                    assert offset % parsed.symbol_size == 0
                if batch.kind is not PacketType.ODATA:
                    assert parsed.esi == 0
                elif batch.has_repair_symbols:
                    assert parsed.flags == 1
                    assert len(payload) == parsed.symbol_size
                    assert offset < parsed.size
                else:
                    assert len(payload) == min(parsed.symbol_size, parsed.size - offset)
                    assert parsed.esi * parsed.symbol_size <= offset


def _read_of(draw: Any, sqn: int) -> Read:
    """Draw one read: SPMs, which may have any length."""
    stride = HEADER_SIZE + draw(st.sampled_from([64, 64, 64, 1, 63, 65, 200, 1_000]))
    count = draw(st.integers(1, min(70, 65_000 // stride)))
    tail = draw(st.sampled_from([0, 0, 0, 1, HEADER_SIZE, HEADER_SIZE + 1, stride - 1])) % stride
    broken = draw(st.booleans())
    data = b"".join(
        packet(
            PacketType.SPM,
            bytes([n % 251]) * (stride - HEADER_SIZE),
            **(GOOD | {"symbol_size": 1_000, "sqn": sqn + n, "flags": broken and n == 1}),
        )
        for n in range(count + 1)
    )
    return Read(data[: count * stride + tail], stride, draw(st.sampled_from("ab")))


@st.composite
def reads(draw: Any) -> list[Read]:
    return [_read_of(draw, 100 * n) for n in range(draw(st.integers(1, 10)))]


class TestReceiveBuffer:
    @staticmethod
    def take(some: list[Read]) -> tuple[list[tuple[bytes, Any]], Counter[str]]:
        """Return what comes out of a buffer that is emptied only when it is full."""
        buffer, refused = ReceiveBuffer(64), Counter[str]()
        found = []
        for one in some:
            room = buffer.room()
            if room is None:
                found += accepted(buffer.batches(refused))
                room = buffer.room()
            assert room is not None
            fill(room, one.data)
            buffer.add(len(one.data), one.stride, one.source)
        return found + accepted(buffer.batches(refused)), refused

    @staticmethod
    def expected(some: list[Read]) -> tuple[list[tuple[bytes, Any]], Counter[str]]:
        refused = Counter[str]()
        found = []
        for one in some:
            octets = np.frombuffer(one.data, np.uint8)
            found += accepted(wire.read(octets, one.stride, one.source, refused))
        return found, refused

    @given(reads())
    def test_gives_what_plain_reading_gives(self, some: list[Read]) -> None:
        found, refused = self.take(some)
        wanted, also_refused = self.expected(some)
        assert found == wanted
        assert refused == also_refused

    def test_marks_stay_with_their_packets(self) -> None:
        data = make_object(64 * 60 + 5).all_odata()
        buffer, refused = ReceiveBuffer(64), Counter[str]()
        marks = []
        for start, stop, is_congested in (
            *((0, 10, False), (10, 20, True), (20, 21, True), (21, 40, False)),
            *((40, 61, True), (0, 1, False)),
        ):
            read = Read(b"".join(data[start:stop]), 112)  # the last is odd: it is shorter
            fill(buffer.room() or [], read.data)
            buffer.add(len(read.data), 112, endpoint("a"), is_congested=is_congested)
            marks += [is_congested] * (stop - start)
        found = buffer.batches(refused, 77)
        assert {batch.at for batch in found} == {77}
        assert sum(batch.congested for batch in found) == sum(marks)
        seen = [
            (int(row["offset"]), bool(mark))
            for batch in found
            for row, mark in zip(batch.rows, batch.marks, strict=True)
        ]
        offsets = [64 * n for n in (*range(61), 0)]
        assert seen == list(zip(offsets, marks, strict=True))
        some = found[0].select(found[0].offsets >= 64 * 35)
        assert (some.at, some.congested) == (77, 20)
        assert found[0].select(slice(5, 12)).congested == 2
        # Marks of one round say nothing of the next.
        fill(buffer.room() or [], data[0])
        buffer.add(112, 112, endpoint("a"))
        (batch,) = buffer.batches(refused)
        assert (batch.at, batch.marks, batch.congested) == (None, None, 0)

    def test_marks_of_refused_packets_go_with_them(self) -> None:
        rows = [packet(PacketType.ODATA, SYMBOL, **GOOD, offset=64 * n, esi=n) for n in range(4)]
        rows[1] = packet(PacketType.ODATA, SYMBOL, **GOOD, offset=32)
        octets = np.frombuffer(b"".join(rows), np.uint8)
        refused = Counter[str]()
        (batch,) = wire.read(octets, 112, endpoint("a"), refused, at=5, is_congested=True)
        assert (len(batch), batch.congested, batch.at) == (3, 3, 5)
        assert refused == {"offset": 1}

    def test_an_ncf_stands_first_and_cuts_nothing(self) -> None:
        data = make_object(64 * 20).all_odata()
        ncf = packet(PacketType.NCF, bytes(24), **GOOD)
        kinds = [Read(b"".join(data[:9]), 112, "a"), Read(ncf, len(ncf), "a")]
        found, _ = self.take([*kinds, Read(b"".join(data[9:]), 112, "a")])
        assert found == [(one, "a") for one in (ncf, *data)]

    def test_nodes_stand_first_those_of_one_length_together(self) -> None:
        data = make_object(64 * 20).all_odata()
        nodes = [packet(PacketType.TREE, bytes([n]) * 32, sqn=n, **GOOD) for n in range(4)]
        reads = [Read(b"".join(data[:5]), 112, "a"), Read(b"".join(nodes[:2]), 80, "a")]
        reads += [Read(b"".join(data[5:9]), 112, "a"), Read(nodes[2], 80, "a")]
        reads += [Read(nodes[3], 80, "b"), Read(b"".join(data[9:]), 112, "a")]
        found, _ = self.take(reads)
        assert found == [(one, "a") for one in nodes[:3]] + [(nodes[3], "b")] + [
            (one, "a") for one in data
        ]

    @pytest.mark.parametrize("turns", [2, wire.MOST_TURNS, 3 * wire.MOST_TURNS])
    def test_types_that_alternate_are_taken_apart(self, turns: int) -> None:
        kinds = [PacketType.ODATA, PacketType.TREE] * (turns // 2)
        some = [packet(kind, bytes([n]) * 64, sqn=n, **GOOD) for n, kind in enumerate(kinds)]
        found, refused = self.take([Read(b"".join(some), 112, "a")])
        assert {one for one, _ in found} == set(some)
        # Nodes stand first, and the others keep their order.
        assert [one for one, _ in found] == some[1::2] + some[::2]
        assert not refused

    @given(st.text("ordx", min_size=1, max_size=40))
    def test_odata_and_rdata_stay_together(self, text: str) -> None:
        types = {"o": PacketType.ODATA, "r": PacketType.RDATA, "d": PacketType.TREE, "x": 9}
        some = [
            packet(types[letter], bytes([n]) * 64, sqn=n, **GOOD) for n, letter in enumerate(text)
        ]
        batches, refused = read(b"".join(some), 112)
        data = [batch for batch in batches if batch.kind is not PacketType.TREE]
        for batch in data:
            assert batch.repairs.tolist() == [text[n] == "r" for n in batch.rows["sqn"].tolist()]
            assert batch.kind is (PacketType.RDATA if batch.repairs.all() else PacketType.ODATA)
        numbers = [n for batch in data for n in batch.rows["sqn"].tolist()]
        assert numbers == [n for n, letter in enumerate(text) if letter in "or"]
        apart = re.findall("[or]+", text)
        are_few = len(re.findall("[or]+|d+|x+", text)) < wire.MOST_TURNS
        assert len(data) == (len(apart) if are_few else 1)
        assert refused == ({"type": text.count("x")} if "x" in text else {})

    def test_repair_symbols_that_come_between_are_few_batches(self) -> None:
        """A carousel sends source symbols, and repair symbols that were asked for come between."""
        repair = {"flags": wire.Flag.REPAIR_SYMBOL, "offset": 0}
        some = [
            packet(PacketType.RDATA, SYMBOL, **GOOD, sqn=n, esi=60 + n, **repair)
            if n % 3
            else packet(PacketType.ODATA, SYMBOL, **GOOD, sqn=n)
            for n in range(60)
        ]
        batches, refused = read(b"".join(some), 112)
        assert [batch.has_repair_symbols for batch in batches] == [False, True]
        assert [batch.rows["sqn"].tolist() for batch in batches] == [
            [n for n in range(60) if not n % 3],
            [n for n in range(60) if n % 3],
        ]
        assert not refused

    @pytest.mark.parametrize("symbol_size", [64, 1_000])
    def test_keeps_the_order_of_packets_of_one_length(self, symbol_size: int) -> None:
        sample = make_object(900 * symbol_size, symbol_size=symbol_size)
        some = list(joined(sample.all_odata()))
        found, refused = self.take(some)
        assert found == [(one, "a") for one in sample.all_odata()]
        assert not refused

    def test_is_full_only_with_room_for_one_more_read(self) -> None:
        buffer, one = ReceiveBuffer(64), next(joined(make_object(64 * 64).all_odata()))
        number = 0
        while (room := buffer.room()) is not None:
            assert sum(map(len, room)) >= ReceiveBuffer.READ_BYTES
            fill(room, one.data)
            buffer.add(len(one.data), one.stride, "a")
            number += len(cut(one))
        assert number >= ReceiveBuffer.ROWS
        (batch,) = buffer.batches(Counter())
        assert len(batch) == number

    def test_another_symbol_size_leaves_the_batches_given_alone(self) -> None:
        buffer = ReceiveBuffer(64)
        small, large = make_object(640), make_object(2_000, symbol_size=200)
        for sample in (small, large):
            one = next(joined(sample.all_odata()))
            buffer.expect(sample.manifest.symbol_size)
            fill(buffer.room() or [], one.data)
            buffer.add(len(one.data), one.stride, "a")
            given_before = buffer.batches(Counter())
            buffer.expect(100)
            assert accepted(given_before) == [(p, "a") for p in sample.all_odata()]


class TestSendBuffer:
    @given(st.integers(1, 20), st.integers(1, 64), st.integers(1, 20))
    def test_pieces_are_the_packets(self, count: int, last: int, per_call: int) -> None:
        sample = make_object(64 * (count - 1) + last)
        packets = sample.all_odata()
        size = sample.manifest.size
        rows = np.frombuffer(b"".join(p[:HEADER_SIZE] for p in packets), HEADER_DTYPE)
        buffer = SendBuffer(64, 20)
        buffer.payload[:size] = sample.data
        buffer.write_headers(rows)
        calls = [
            buffer.pieces(start, min(start + per_call, count), size)
            for start in range(0, count, per_call)
        ]
        assert all(len(b"".join(p)) <= per_call * buffer.stride for p in calls)
        pieces = [piece for call in calls for piece in call]
        assert [
            bytes(header) + bytes(payload)
            for header, payload in zip(pieces[::2], pieces[1::2], strict=True)
        ] == packets
