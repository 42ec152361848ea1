"""Repairers as processes and their sockets, on this machine alone."""

from __future__ import annotations

import os
import select
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pgmlite.errors import Interrupted
from pgmlite.net import job_repair
from pgmlite.net.nak_socket import NakSocket
from pgmlite.net.receiver_socket import ReceiverSocket
from pgmlite.storage.source import SourceFile
from pgmlite.wire.buffers import ReceiveBuffer
from pgmlite.wire.endpoint import Endpoint
from tests.support.builders import make_object
from tests.support.loopback import (
    COMMAND,
    Cli,
    Running,
    endpoint,
    environment,
    make_file,
    receiving,
    sending,
)
from tests.support.loops import FakeReceiverSocket, Heard, Until, to_the_end


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


@pytest.mark.slow
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
        assert [event["event"] for event in wrong.stop().events] == ["waiting", "warning", "failed"]
        with Running("repair", source, *place.flags, "--listen", listen, "--json") as right:
            assert right.event("start")["oid"] == oid
            with receiving(
                tmp_path / "out", place, "--repairer", listen, "--drop", "5%"
            ) as receiver:
                assert receiver.end().code == 0
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def test_a_repairer_that_hears_nothing_joins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # spec: NET-7
    monkeypatch.setattr(job_repair, "REJOIN_AFTER", 1)
    group = FakeReceiverSocket()
    source = SourceFile(make_file(tmp_path / "source", 300))
    with pytest.raises(Interrupted, match="seen"):  # however often it is refused
        to_the_end(
            job_repair.recognise(source, group, Heard()), Until(lambda: len(group.rejoins) > 4)
        )
    group.release()
    source.close()


def test_a_repairer_hears_those_of_the_manifest_that_it_can() -> None:
    # spec: NET-13
    place, heard = endpoint(), Heard()
    repairers = (Endpoint("fd01::9", 7), Endpoint("127.0.0.2", 7), Endpoint("127.0.0.1", 7))
    manifest = replace(make_object(1_000).manifest, repairers=repairers)
    group = ReceiverSocket(place.channel, ["127.0.0.1"])
    job_repair.hear_repairers(group, manifest, heard)
    assert group.sources == {"127.0.0.1", "127.0.0.2"}
    (said,) = heard.told("membership")
    assert "from fd01::9: another kind of address; going on without" in said
    group.close()


def test_options_that_can_not_work_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = Cli(monkeypatch, capsys).refuse
    place = endpoint()
    source = make_file(tmp_path / "source", 3_000)
    flags = ("-g", place.group, "-i", "lo")
    send = ("send", source, *flags)
    for verb in (("send", source, "--repair"), ("repair", source)):
        code, text = fails(*verb, *flags, "-p", "65535")
        assert (code, "--listen" in text) == (2, True), text
        code, text = fails(*verb, *flags, "-p", "2000", "--listen", ":2000")
        assert (code, "that port is the group's" in text) == (2, True), text
        code, text = fails(*verb, *flags, "-p", "2000", "--listen", "127.9.9.9:2001")
        assert (code, "not an address of lo" in text) == (3, True), text
        code, text = fails(*verb, *flags, "-p", "2000", "--listen", "[::1]:2001")
        assert (code, "other kind" in text) == (2, True), text
    code, text = fails(*send, "--repair-share", "20%")
    assert (code, "--repair-share: goes with --repair" in text) == (2, True), text
    named = [word for n in range(17) for word in ("--repairer", f"10.0.0.{n}:9")]
    code, text = fails(*send, *named)
    assert (code, "receivers keep 16" in text) == (2, True), text


def test_a_repairer_says_that_its_copy_has_another_size(tmp_path: Path) -> None:
    place = endpoint()
    source = make_file(tmp_path / "source", 30_000)
    short = make_file(tmp_path / "short", 29_992)
    listen = f"127.0.0.1:{place.port + 1}"
    with (
        Running("repair", short, *place.flags, "--listen", listen, "--json") as wrong,
        sending(source, place, rate="4M"),
    ):
        warning = wrong.event("warning")["warning"]
    assert f"is not {short}, it has 30000 bytes, not 29992" in warning


@pytest.mark.parametrize("sink", ["/dev/full", "closed pipe"])
def test_output_that_can_not_be_written_is_no_internal_error(tmp_path: Path, sink: str) -> None:
    place = endpoint()
    source = make_file(tmp_path / "source", 3_000)
    env = environment(None)
    command = [*COMMAND, "send", str(source), *map(str, place.flags), "--json"]
    if sink == "/dev/full":
        with Path(sink).open("w") as full:
            process = subprocess.Popen(
                command, stdout=full, stderr=subprocess.PIPE, text=True, env=env
            )
    else:
        reading, writing = os.pipe()
        os.close(reading)
        process = subprocess.Popen(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, env=env
        )
        os.close(writing)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 7
    said = {"/dev/full": "pgmlite: output: No space left on device\n", "closed pipe": ""}
    assert text.endswith(said[sink])
    assert "Traceback" not in text
