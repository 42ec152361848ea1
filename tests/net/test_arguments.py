"""What a caller says: orders, starts, endpoints, object identifiers, symbol sizes."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgmlite.errors import UsageError
from pgmlite.net.address import Channel
from pgmlite.net.arguments import (
    MAX_MTU,
    check_channels,
    check_fec,
    choose_symbol_size,
    name_repairers,
    parse_endpoint,
    parse_oid,
    parse_order,
    parse_repairer,
)
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.layout import IPV6_UDP_HEADERS, Order
from pgmlite.wire.manifest import is_symbol_size


@pytest.mark.parametrize(
    ("order", "start", "chosen", "share"),
    [
        ("rounds", None, Order.ROUNDS, None),
        ("blocks", None, Order.BLOCKS, None),
        ("rounds", "random", Order.RANDOM, None),
        ("rounds", "0/1", Order.ROUNDS, (0, 1)),
        ("blocks", "1/2", Order.BLOCKS, (1, 2)),
        ("rounds", "254/255", Order.ROUNDS, (254, 255)),
    ],
)
def test_orders_and_starts(
    order: str, start: str | None, chosen: Order, share: tuple[int, int] | None
) -> None:
    # spec: FEC-4
    assert parse_order(order, start) == (chosen, share)


@pytest.mark.parametrize(
    ("order", "start", "named"),
    [
        ("random", None, "order random: must be rounds or blocks"),
        ("", None, "order : must be"),
        ("blocks", "random", "start random: goes with rounds"),
        *(
            ("rounds", start, f"start {start}: give a share")
            for start in (
                "2/2",
                "0/0",
                "-1/2",
                "1",
                "50%",
                "0/256",
                "0/2/3",
                "",
                "0/x",
                "9" * 5_000,
            )
        ),
    ],
)
def test_what_is_none(order: str, start: str | None, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_order(order, start)
    assert str(caught.value).startswith(named)
    assert caught.value.cause == named.partition(" ")[0]


@pytest.mark.parametrize("fec", [0, 0.01, 0.5, 7])
def test_shares_of_repair_symbols(fec: float) -> None:
    assert check_fec(fec) == fec


@pytest.mark.parametrize("fec", [-0.5, 0.009, 7.01, float("nan"), float("inf")])
def test_shares_that_no_block_can_have(fec: float) -> None:
    with pytest.raises(UsageError, match="fec"):
        check_fec(fec)


IPV6 = Channel("ff15::1", 28_775, "eth0", 2)
IPV4 = Channel("239.1.2.3", 28_775, "eth0", 2)


@pytest.mark.parametrize(
    ("text", "channel", "endpoint"),
    [
        ("[fd01::2]:28776", IPV6, ("fd01::2", 28_776)),
        ("[FD01:0::2]:1", None, ("fd01::2", 1)),
        ("[fe80::2%eth0]:9", IPV6, ("fe80::2", 9)),
        ("[fe80::2]:9", IPV6, ("fe80::2", 9)),
        ("10.0.0.2:65535", IPV4, ("10.0.0.2", 65_535)),
        ("[::ffff:10.0.0.2]:9", IPV4, ("10.0.0.2", 9)),
        (":9", IPV6, ("", 9)),
    ],
)
def test_endpoints(text: str, channel: Channel | None, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint("listen", text, channel) == endpoint


@pytest.mark.parametrize("text", ["fd01::2:9", "[fd01::2:9", "fd01::2]:9", "[fd01::2]", "x:9"])
@pytest.mark.parametrize("channel", [None, IPV6])
def test_what_is_no_endpoint(text: str, channel: Channel | None) -> None:
    with pytest.raises(UsageError, match=r"^listen .*: give an address and a port"):
        parse_endpoint("listen", text, channel)


@pytest.mark.parametrize("port", ["0", "65536", "", "+9", " 9", "2_8", "9x"])
def test_what_is_no_port(port: str) -> None:
    with pytest.raises(UsageError, match="give an address and a port"):
        parse_endpoint("listen", f"[fd01::2]:{port}", IPV6)


@pytest.mark.parametrize(
    ("text", "channel", "reason"),
    [
        ("10.0.0.2:9", IPV6, "other kind"),
        ("[::ffff:10.0.0.2]:9", IPV6, "other kind"),
        ("[fd01::2]:9", IPV4, "other kind"),
        ("[fd01::2%eth1]:9", IPV6, "leave %eth1 out"),
        ("[fd01::2%eth0]:9", None, "leave %eth0 out"),
        ("[ff15::1]:9", IPV6, "one machine"),
        ("[::]:9", IPV6, "one machine"),
        ("0.0.0.0:9", IPV4, "one machine"),
        ("255.255.255.255:9", IPV4, "one machine"),
    ],
)
def test_endpoints_that_nobody_has(text: str, channel: Channel, reason: str) -> None:
    with pytest.raises(UsageError, match=f"^repairer .*{reason}"):
        parse_repairer(text, channel)


class TestChannels:
    def test_numbers_go_by_rate(self) -> None:
        given = [("ff15::2", 20_000_000), ("ff15::1", 5_000_000), ("ff15::3", 80_000_000)]
        wanted = (given[1], given[0], given[2])
        assert check_channels(given, Order.ROUNDS) == wanted
        assert check_channels([], Order.BLOCKS) == ()
        assert check_channels(given[:1], Order.BLOCKS) == (given[0],)

    @pytest.mark.parametrize(
        ("channels", "order", "words"),
        [
            ([("a", 20_000), ("b", 20_000)], Order.ROUNDS, "channel b: as fast as a"),
            (
                [("a", n * 20_000) for n in range(1, 8)],
                Order.ROUNDS,
                "channel: 7 of them; .* at most 6",
            ),
            ([("a", 9_999), ("b", 20_000)], Order.ROUNDS, "channel a: a rate of 9999 bit/s"),
            ([("a", 10**12)], Order.ROUNDS, "channel a: a rate of 1000000000000"),
            ([("a", 20_000), ("b", 30_000)], Order.BLOCKS, "order blocks: goes with one channel"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_nobody_can_send(
        self, channels: list[tuple[str, int]], order: Order, words: str
    ) -> None:
        with pytest.raises(UsageError, match=words):
            check_channels(channels, order)


def test_repairers_that_a_manifest_names() -> None:
    # spec: MAN-6
    texts = [f"[fd01::{n:x}]:9" for n in range(1, 17)]
    assert len(name_repairers([*texts, texts[0]], IPV6)) == 16
    with pytest.raises(UsageError, match="17 repairers: receivers keep 16"):
        name_repairers([*texts, "[fd01::99]:9"], IPV6)
    with pytest.raises(UsageError, match="fe80::1: a link-local address"):
        name_repairers(["[fe80::1]:9"], IPV6)


def test_object_identifiers() -> None:
    assert parse_oid("00000000000000ff") == 255
    assert parse_oid("FEDCBA9876543210") == 0xFEDC_BA98_7654_3210


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ff",
        "0" * 17,
        "000000000000000g",
        "0x000000000000ff",
        "-0000000000000ff",
        " 0000000000000ff",
        "0000_0000_0000_f",
    ],
)
def test_what_is_no_object_identifier(text: str) -> None:
    with pytest.raises(UsageError, match="16 hexadecimal digits"):
        parse_oid(text)


HEADERS = IPV6_UDP_HEADERS + HEADER_SIZE


class TestChooseSymbolSize:
    @pytest.mark.parametrize(
        ("symbol_size", "mtu", "hops", "interface_mtu", "result"),
        [
            (None, None, 1, 1_500, 1_404),
            (None, None, 1, 9_000, 1_404),
            (None, None, 1, 65_536, 1_404),
            (None, None, 2, 1_500, 1_184),
            (None, None, 1, 1_400, 1_304),
            (None, 9_000, 1, 9_000, 8_904),
            (None, 1_499, 1, 1_500, 1_400),
            (None, 576, 1, 1_500, 480),
            (None, 65_536, 1, 65_536, 65_440),
            (64, None, 1, 1_500, 64),
            (1_404, None, 8, 1_500, 1_404),
        ],
    )
    def test_fits(
        self,
        symbol_size: int | None,
        mtu: int | None,
        hops: int,
        interface_mtu: int,
        result: int,
    ) -> None:
        # spec: OBJ-2
        size = choose_symbol_size(symbol_size, mtu, hops=hops, interface_mtu=interface_mtu)
        assert size == result

    @pytest.mark.parametrize(
        ("symbol_size", "mtu", "message"),
        [
            (None, 575, "MTU 575"),
            (None, 1_501, "MTU 1501"),
            (None, -1, "MTU"),
            (0, None, "multiple of 4"),
            (60, None, "at least 64"),
            (66, None, "multiple of 4"),
            (-64, None, "at least 64"),
            (1_408, None, "needs an MTU of 1504"),
            (1 << 40, None, "needs an MTU"),
        ],
    )
    def test_refuses(self, symbol_size: int | None, mtu: int | None, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            choose_symbol_size(symbol_size, mtu, hops=1, interface_mtu=1_500)

    @given(
        st.none() | st.integers(0, 70_000),
        st.none() | st.integers(0, 70_000),
        st.integers(1, 255),
        st.integers(68, 70_000),
    )
    @example(None, None, 1, 150)
    def test_result_is_a_symbol_size_that_fits_the_interface(
        self, symbol_size: int | None, mtu: int | None, hops: int, interface_mtu: int
    ) -> None:
        with suppress(UsageError):
            size = choose_symbol_size(symbol_size, mtu, hops=hops, interface_mtu=interface_mtu)
            assert is_symbol_size(size)
            assert size + HEADERS <= min(interface_mtu, MAX_MTU)
