"""The numbers of section 9 of the specification are those of the code.

The tunables of the machines are written from their declarations (`python -m tests.generate`); what
stands beside them is held against the code here.
"""

from __future__ import annotations

import re

import pytest

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS, MAX_RATE, MIN_RATE, limits_of
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive import evidence
from pgmlite.core.serial import SequenceTracker
from pgmlite.core.timing import LEAST_BACKOFF, MOST_BACKOFF
from pgmlite.errors import UsageError
from pgmlite.fec import code
from pgmlite.net import address, loop, rate, receiving, sending, udp, waiting
from pgmlite.net.arguments import DEFAULT_PORT, ETHERNET_MTU, IPV6_MINIMUM_MTU, MIN_MTU
from pgmlite.storage.writeback import FLUSH_BYTES, FLUSH_EVERY
from pgmlite.wire import layout
from pgmlite.wire.request import MAX_REQUESTED
from tests.requirements import SPEC
from tests.support.config_tables import CONFIGS, config_table, quantity

REQUIRED = {"sender": {"rate": None, "packet_overhead": 48}}
TUNABLES = [(name, tunable) for name, of in CONFIGS.items() for tunable in limits_of(of)]

VALUES: dict[str, list[float]] = {
    "rate, limits": [MIN_RATE, MAX_RATE],
    "source symbols in a block": [
        DEFAULT_BLOCK_SYMBOLS,
        1,
        layout.MAX_BLOCK_SYMBOLS,
        code.MAX_SOURCE,
    ],
    "symbol size, limits": [layout.MIN_SYMBOL_SIZE, layout.MAX_SYMBOL_SIZE, 4],
    "largest UDP payload": [layout.MAX_PACKET],
    "manifest, and the name in it, at most": [layout.MAX_MANIFEST, 255],
    "window for late packets": [SequenceTracker.WINDOW],
    "lost packets that are believed": [SequenceTracker.MOST_LOST],
    "what came is written to stable storage after": [FLUSH_EVERY, FLUSH_BYTES >> 20],
    "other objects remembered, to tell of them": [
        evidence.MOST_OTHERS,
        evidence.PARSE_EVERY / MS,
    ],
    "silence before the group is joined anew": [loop.REJOIN_AFTER / SECOND],
    "pause in which packets gather": [receiving.SHORTEST_NAP / MS, receiving.LONGEST_NAP / MS],
    "check of the file and of the source address; report of progress": [loop.REPORT_EVERY / SECOND],
    "pause between tries without a link": [waiting.POLL / MS],
    "a refusal that goes on is told every": [sending.TELL_EVERY / SECOND],
    "rate that counts as kept, and how often it is looked at": [
        rate.REACHED * 100,
        rate.WINDOW / SECOND,
    ],
    "wait for addresses that are checked, at the start and at most": [
        address.CHECK_PATIENCE / SECOND
    ],
    "MTU on one link, at most; beyond it": [ETHERNET_MTU, IPV6_MINIMUM_MTU],
    "MTU that an operator sets, at least": [MIN_MTU],
    "port for NAKs, default": [1, DEFAULT_PORT + 1],
    "SPM, NAK or NCF, at most": [layout.MAX_CONTROL],
    "symbols that one request names, at most": [MAX_REQUESTED],
    "back-off, longest: k, limits": [LEAST_BACKOFF, MOST_BACKOFF, 16],
    "socket buffer asked for": [
        1,
        udp.RECEIVE_BUFFER_SHARE,
        udp.MAX_RECEIVE_BUFFER >> 20,
        udp.SEND_BUFFER >> 20,
    ],
    "NAKs may make a burst late by": [sending.LISTEN_TIME / MS],
    "pause between reads of NAKs while behind the rate": [sending.LISTEN_LATE / MS],
}


def rows() -> dict[str, str]:
    """Return the values of section 9 by what they are of."""
    _, _, rest = SPEC.read_text().partition("## 9 Timers, limits and defaults")
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", VALUES)
def test_limit(name: str) -> None:
    # A space stands between thousands.
    text = re.sub(r"(?<=\d) (?=\d{3}\b)", "", rows()[name].replace("\N{NO-BREAK SPACE}", " "))
    numbers = [float(one) for one in re.findall(r"\d+(?:\.\d+)?", text)]
    assert numbers == VALUES[name]


class TestTunables:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_their_tables_are_in_the_specification(self, name: str) -> None:
        mark = f"<!-- config: {name} -->\n{config_table(name)}\n<!-- end -->"
        assert mark in SPEC.read_text(), "run python -m tests.generate"

    @pytest.mark.parametrize(("name", "tunable"), TUNABLES)
    def test_each_is_checked_when_a_configuration_is_made(self, name: str, tunable: str) -> None:
        """Every limit is allowed, and what is just beyond it is not."""
        of, limits = CONFIGS[name], limits_of(CONFIGS[name])[tunable]
        required = REQUIRED.get(name, {})
        bad = [-1 if limits.least == 0 else limits.least / 2]
        if limits.most is not None:
            bad.append(limits.most * 2)
        for value in bad:
            with pytest.raises(UsageError, match=tunable):
                of(**required, **{tunable: value})
        assert getattr(of(**required), tunable) >= limits.least

    def test_every_number_of_a_configuration_is_one(self) -> None:
        """What an operator says is not: it has its own checks and its own place in the help."""
        said = {"rate", "packet_overhead", "cycles", "duration"}
        said |= {"port", "backoff_factor", "oid", "naks", "repairers", "nak"}
        for of in CONFIGS.values():
            assert not set(of.__dataclass_fields__) - set(limits_of(of)) - said

    @pytest.mark.parametrize(
        ("value", "unit", "text"),
        [
            (250_000_000, "ns", "250 ms"),
            (500_000, "ns", "0.5 ms"),
            (600_000_000_000, "ns", "600 s"),
            (0.05, "of the rate", "5% of the rate"),
            (100, "th of the rate", "1/100 of the rate"),
            (1_024, "symbols", "1 024 symbols"),
            (1 << 18, "symbols", "2^18 symbols"),
            (100_000.0, "a second", "100 000 a second"),
            (1.5, "repair delays", "1.5 repair delays"),
        ],
    )
    def test_numbers_are_shown_with_their_units(self, value: float, unit: str, text: str) -> None:
        assert quantity(value, unit) == text
