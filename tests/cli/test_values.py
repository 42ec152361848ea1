"""Words of the command line."""

import click
import pytest

from pgmlite.cli import VERBS, app
from pgmlite.cli.options import Duration, option_name
from pgmlite.cli.values import (
    parse_duration,
    parse_interval,
    parse_rate,
    parse_share,
    parse_size,
)
from pgmlite.core.config import SenderConfig
from pgmlite.core.human import human_bytes, human_rate, human_time
from pgmlite.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("max", None),
        ("64000", 64_000),
        ("500k", 500_000),
        ("500K", 500_000),
        ("10M", 10_000_000),
        ("2.5G", 2_500_000_000),
        ("0.1M", 100_000),
        ("1.000001M", 1_000_001),
    ],
)
def test_rates(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "M", "fast", "10 Mbit", "10m", "10MM", "1,5M", "nan", "sNaN", "inf", "-infG", "0x10"],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match="rate"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0", "-1M", "999", "401G", "1e5000", "1e9999999"])
def test_rates_out_of_limits(text: str) -> None:
    with pytest.raises(UsageError, match="rate"):
        SenderConfig(rate=parse_rate(text), packet_overhead=48)


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), ("0.05", 0.05), ("0", 0), ("100%", 1), ("1", 1), ("1e-3", 0.001)],
)
def test_shares(text: str, share: float) -> None:
    assert parse_share("--drop", text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "101%", "1.01", "-1%", "nan", "nan%", "inf", "five"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--drop .*: give a share"):
        parse_share("--drop", text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 53, "8192.0 TiB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (None, "full speed"),
        (0, "full speed"),
        (999, "999 bit/s"),
        (64_000, "64 kbit/s"),
        (10_000_000, "10 Mbit/s"),
        (2_500_000_000, "2.5 Gbit/s"),
    ],
)
def test_rates_for_people(rate: int | None, text: str) -> None:
    assert human_rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59, "59.0 s"), (90, "1.5 min"), (5_400, "1.5 h")]
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"), [(None, None), ("1", 1), ("500M", 500_000_000), ("1.5T", 1_500_000_000_000)]
)
def test_sizes(text: str | None, size: int | None) -> None:
    assert parse_size("--max-size", text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "4GB", "nan", "inf", "1e99", "half"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--max-size .*: give bytes"):
        parse_size("--max-size", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (".5", 0.5),
        ("0", 0),
        ("500ms", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("1.5h", 5_400),
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("8w", 4_838_400),
        ("2.s", 2),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration("--timeout", text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "-1", "+1", "1 m", "5M", "1h30m", "nan", "inf", "1e3", "soon", "٣s", "1" * 13, "."],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--timeout .*: give a time such as .*5m"):
        parse_duration("--timeout", text)


def test_intervals() -> None:
    assert parse_interval("--log-interval", "off") == parse_interval("--log-interval", "0") == 0
    assert parse_interval("--log-interval", "1m") == 60


def test_every_option_that_takes_a_time_takes_the_same_words() -> None:
    found = {
        (verb, option_name(one))
        for verb in VERBS
        for one in app.get_command(click.Context(app), verb).params
        if isinstance(one.type, Duration)
    }
    assert found >= {
        ("recv", "--timeout"),
        ("recv", "--hook-timeout"),
        ("recv", "--log-interval"),
        ("send", "--duration"),
        ("send", "--log-interval"),
        ("repair", "--log-interval"),
        ("doctor", "--seconds"),
        ("list", "--seconds"),
        ("replay", "--from"),
        ("replay", "--until"),
        ("sign", "--expires"),
    }
    others = [
        (verb, option_name(one))
        for verb in VERBS
        for one in app.get_command(click.Context(app), verb).params
        if "SECONDS" in str(one.metavar)
    ]
    assert others == []
