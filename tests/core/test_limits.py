"""The numbers of section 9 of the specification are those of the code."""

from __future__ import annotations

import re

import pytest

from pgmlite.cli import rate
from pgmlite.cli.options import DEFAULT_PORT
from pgmlite.cli.values import ETHERNET_MTU, IPV6_MINIMUM_MTU, MIN_MTU
from pgmlite.core.config import (
    DEFAULT_BLOCK_SYMBOLS,
    MAX_RATE,
    MIN_RATE,
    NakConfig,
    ReceiverConfig,
    RepairConfig,
    SenderConfig,
)
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive import evidence
from pgmlite.core.receive.nak import LOOKED_AT
from pgmlite.core.receive.receiver import TRUSTED_PACKETS
from pgmlite.core.receive.sessions import GRTT_LEAST, GRTT_LIMIT
from pgmlite.core.send.repairs import SYMBOLS_A_NAK, SentLog
from pgmlite.core.send.sender import HEAD_LIFE, LINGER_SPMS
from pgmlite.core.serial import SequenceTracker
from pgmlite.core.timing import BURST_TIME, LEAST_BACKOFF, MOST_BACKOFF
from pgmlite.net import address, loop, receiving, sending, udp
from pgmlite.storage.writeback import FLUSH_BYTES, FLUSH_EVERY
from pgmlite.wire import layout
from pgmlite.wire.request import MAX_REQUESTED
from tests.requirements import SPEC

SENDER = SenderConfig(rate=None, packet_overhead=48)
RECEIVER, NAK, REPAIR = ReceiverConfig(), NakConfig(), RepairConfig()

VALUES: dict[str, list[float]] = {
    "rate, limits": [MIN_RATE, MAX_RATE],
    "burst, and the lateness that is made up for": [BURST_TIME / MS],
    "bursts in one step where the rate is not limited": [SENDER.unpaced_bursts],
    "interval of SPMs": [SENDER.spm_min / MS, SENDER.spm_max / MS],
    "symbols in a block": [DEFAULT_BLOCK_SYMBOLS, 1, layout.MAX_BLOCK_SYMBOLS],
    "symbol size, limits": [layout.MIN_SYMBOL_SIZE, layout.MAX_SYMBOL_SIZE, 4],
    "largest UDP payload": [layout.MAX_PACKET],
    "manifest, and the name in it, at most": [layout.MAX_MANIFEST, 255],
    "sessions with loss statistics": [RECEIVER.max_senders],
    "window for late packets": [SequenceTracker.WINDOW],
    "lost packets that are believed": [SequenceTracker.MOST_LOST],
    "what came is written to stable storage after": [FLUSH_EVERY, FLUSH_BYTES >> 20],
    "other objects remembered, to tell of them": [
        evidence.MOST_OTHERS,
        evidence.PARSE_EVERY / MS,
    ],
    "silence before another object is taken": [RECEIVER.switch_after / SECOND],
    "silence before the group is joined anew": [receiving.REJOIN_AFTER / SECOND],
    "blocks verified in one step": [RECEIVER.resume_blocks],
    "pause in which packets gather": [receiving.SHORTEST_NAP / MS, receiving.LONGEST_NAP / MS],
    "check of the file and of the source address; report of progress": [loop.REPORT_EVERY / SECOND],
    "pause between tries without a link": [loop.POLL / MS],
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
    "packets that may overtake": [NAK.reorder_packets],
    "back-off, longest: K, limits": [LEAST_BACKOFF, MOST_BACKOFF, 16],
    "wait for an NCF": [NAK.ncf_wait],
    "back-offs that end together, within": [NAK.ask_ahead],
    "retries without an NCF, and without any data": [NAK.ncf_retries, NAK.data_retries],
    "margin before the carousel": [NAK.carousel_margin],
    "silence in which nothing is asked": [NAK.silence / SECOND],
    "repairer is not asked after its last SPM": [NAK.spm_patience / SECOND],
    "dead repairer is left alone": [1, NAK.shortest_death / SECOND],
    "carousel's speed is measured over, at least": [NAK.measure_time / MS],
    "what an NCF of a session that may not be asked suppresses for": [NAK.unknown_patience / MS],
    "packets before a session's own address is asked": [TRUSTED_PACKETS],
    "blocks asked for at a time": [NAK.max_cycles],
    "NCFs remembered, and symbols in them": [NAK.max_ncfs, NAK.max_ncf_symbols],
    "repairers kept, and carousels followed": [NAK.max_repairers, NAK.max_positions],
    "share of repairs": [REPAIR.share * 100, 5, 90],
    "share of NCFs, and what of it may leave at once": [REPAIR.ncf_share * 100, 50],
    "GRTT at first; smallest; longest believed": [
        REPAIR.grtt_start / MS,
        REPAIR.grtt_min / MS,
        2,
        REPAIR.grtt_max / SECOND,
    ],
    "GRTT that is believed": [GRTT_LEAST / MS, GRTT_LIMIT / SECOND],
    "GRTT may fall every": [
        REPAIR.probe_time / MS,
        REPAIR.probe_grtt,
        REPAIR.probe_longest / SECOND,
    ],
    "GRTT is halved without an answer for": [REPAIR.grtt_life / SECOND],
    "symbols that make a NAK count as one more": [SYMBOLS_A_NAK],
    "due blocks looked at in one step": [LOOKED_AT],
    "group size changes every": [REPAIR.gsize_time / SECOND],
    "group size at first and at least": [REPAIR.gsize_start],
    "overlapping NAKs before it doubles": [REPAIR.overlaps_wanted],
    "change of the nonce, and how many are good": [REPAIR.nonce_life / SECOND, 3],
    "NAKs looked at, of all and of one source": [
        REPAIR.naks_per_second,
        REPAIR.source_naks_per_second,
    ],
    "symbols queued for one source": [REPAIR.source_symbols_per_second],
    "sources with an account, and how long after a NAK": [
        REPAIR.max_sources,
        REPAIR.source_life / SECOND,
    ],
    "packets remembered for what is in flight": [SentLog.LONGEST],
    "hold-off": [1, REPAIR.max_held],
    "socket buffer asked for": [
        1,
        udp.RECEIVE_BUFFER_SHARE,
        udp.MAX_RECEIVE_BUFFER >> 20,
        udp.SEND_BUFFER >> 20,
    ],
    "NAKs may make a burst late by": [sending.LISTEN_TIME / MS],
    "pause between reads of NAKs while behind the rate": [sending.LISTEN_LATE / MS],
    "carousel counts as stopped without ODATA for": [HEAD_LIFE / SECOND],
    "lingering after the last cycle": [
        REPAIR.linger / SECOND,
        REPAIR.linger_grtt,
        LINGER_SPMS,
    ],
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
