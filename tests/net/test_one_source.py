"""A stranger who asks a real sender for all that there is, each time that he hears an SPM."""

from __future__ import annotations

import socket

import pytest

from pgmlite.core.config import RepairConfig
from pgmlite.net.address import resolve
from pgmlite.net.udp import pin
from pgmlite.wire.control import parse_spm
from pgmlite.wire.layout import PacketType
from pgmlite.wire.request import build_nak
from tests.support.loopback import (
    HEADER,
    LO,
    SPM,
    SYMBOL,
    make_file,
    raw_receiver,
    sending,
)

SYMBOLS = 2_000
ALL = bytes([0, 0, 0, 1]) + bytes(8) + SYMBOLS.to_bytes(4)
"""A request of one run."""


@pytest.mark.slow
def test_the_carousel_keeps_nine_tenths_of_the_rate(tmp_path, place):
    # spec: REP-16
    source = make_file(tmp_path / "source", SYMBOLS * SYMBOL)
    options = ("--repair", "--fec", "off", "--duration", "6", "--block-symbols", "1000")
    asked = 0
    with (
        raw_receiver(place) as tap,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as voice,
        sending(source, place, *options, rate="20M") as sender,
    ):
        sender.event("start")
        pin(voice, resolve(place.group, place.port, LO))
        tap.settimeout(1)
        while sender.is_running:
            try:
                packet, (address, _) = tap.recvfrom(65_536)
            except TimeoutError:
                continue
            if packet[3] != SPM:
                continue
            spm = parse_spm(packet[HEADER.size :])
            fields = list(HEADER.unpack_from(packet))
            fields[2], fields[9], fields[11] = PacketType.NAK, 0, 0
            nak = HEADER.pack(*fields) + build_nak(spm.repairs.nonce, spm.timestamp, 0, ALL)
            voice.sendto(nak, (address, spm.repairs.repair_port))
            asked += 1
        last = sender.end().last
    assert asked > 3
    assert last["naks_received"] > 3
    config, odata = RepairConfig(), last["odata"]
    bound = config.alone_share * odata + config.alone_margin * SYMBOLS + config.alone_burst
    assert odata > SYMBOLS
    assert 0 < last["rdata"] <= bound
