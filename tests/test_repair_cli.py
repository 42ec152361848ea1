"""Repairers as processes and their sockets, on this machine alone."""

from __future__ import annotations

import select
from pathlib import Path

from loopback import Running, endpoint, make_file, receiving, sending

from pgmlite.net.udp import NakSocket
from pgmlite.wire.batch import ReceiveBuffer


def test_naks_go_to_a_port_beside_the_group() -> None:
    # spec: NET-9
    place = endpoint()
    repairer = NakSocket(place.channel, place.port + 1)
    receiver = NakSocket(place.channel, 0)
    assert receiver.port not in (place.port, repairer.port)
    receiver.send(b"asked", ("127.0.0.1", repairer.port))
    assert select.select([repairer], (), (), 10)[0]
    arrival = repairer.read_into(ReceiveBuffer(64).room() or [])
    assert arrival is not None
    assert (arrival.length, arrival.source[:2]) == (5, ("127.0.0.1", receiver.port))
    assert repairer.read_into([bytearray(9)]) is None
    receiver.send(b"nobody is there", ("127.0.0.1", 9))  # lost like any other
    repairer.close()
    receiver.close()


def test_a_repairer_starts_only_with_a_copy_of_what_is_announced(tmp_path: Path) -> None:
    # spec: REP-8
    place = endpoint()
    source = make_file(tmp_path / "source", 300_000)
    other = make_file(tmp_path / "other", 300_000, seed=1)
    listen = f"127.0.0.1:{place.port + 1}"
    with (
        Running("repair", other, *place.flags, "--listen", listen, "--json") as wrong,
        sending(source, place, rate="4M") as sender,
    ):
        oid = sender.event("start")["oid"]
        assert f"object {oid} is not {other}" in wrong.event("warning")["warning"]
        assert [event["event"] for event in wrong.stop().events] == ["warning", "stopped"]
        with Running("repair", source, *place.flags, "--listen", listen, "--json") as right:
            assert right.event("start")["oid"] == oid
            with receiving(
                tmp_path / "out", place, "--repairer", listen, "--drop", "5%"
            ) as receiver:
                assert receiver.end().code == 0
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
