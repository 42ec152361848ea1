"""``info`` on captures and manifests, whole, cut and foreign."""

import json

import pytest

from pgmlite.cli import run
from pgmlite.core.config import SenderConfig
from pgmlite.core.machine import ObjectSymbols
from pgmlite.core.send.sender import Sender
from pgmlite.sim.network import symbol_bytes
from pgmlite.wire.layout import Order, PacketType
from tests.support.builders import make_object, packet, spm_body
from tests.support.vectors import (
    CLIMBED,
    CODED,
    LADDER,
    SMALL,
    TSI,
    asked,
    coded,
    counts_request,
    header,
    nak,
)

scapy = pytest.importorskip("scapy.all", reason="the extra `captures` is not installed")


@pytest.fixture
def sent(tmp_path):
    """A capture of one second of a carousel, and what it carries."""
    import random

    sample = make_object(50_000, symbol_size=1000, block_symbols=16)
    data, manifest, tree = sample.data, sample.manifest, sample.tree
    config = SenderConfig(rate=4_000_000, packet_overhead=48)
    machine = Sender(config, manifest, tree, rng=random.Random(7))
    machine.start(0)
    now, frames = 0, []
    while now < 1_000_000_000:
        for action in machine.tick(now):
            payload = action.payload
            if isinstance(payload, ObjectSymbols):
                payload = symbol_bytes(payload, data)
            for place, row in enumerate(action.rows):
                width = len(payload) if len(action.rows) == 1 else 1000
                body = row.tobytes() + payload[place * width : (place + 1) * width]
                frame = (
                    scapy.Ether()
                    / scapy.IPv6(src="fd01::1", dst="ff15::7067:6d")
                    / scapy.UDP(sport=40_000, dport=28_775)
                    / scapy.Raw(body)
                )
                frame.time = now / 1e9
                frames.append(frame)
        now = max(machine.deadline, now + 1)
    return manifest, frames, tmp_path


def info(capsys, *arguments):
    code = run(["info", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_capture_is_summarised(sent, capsys, kind):
    manifest, frames, folder = sent
    file = folder / f"c.{kind}"
    (scapy.wrpcap if kind == "pcap" else scapy.wrpcapng)(str(file), frames)
    code, out, _ = info(capsys, file, "--json")
    assert code == 0
    (session,) = json.loads(out)["sessions"]
    assert session["source"] == "fd01::1"
    assert session["group"] == "[ff15::7067:6d]:28775"
    assert sum(session["packets"].values()) == len(frames)
    assert session["lost"] == 0
    assert session["rate"] == 4_000_000
    assert session["objects"][0]["tree_digest"] == manifest.tree_digest.hex()
    code, out, _ = info(capsys, file)
    assert code == 0
    assert f"{manifest.oid:016x}" in out
    assert "announced 4 Mbit/s" in out


def test_losses_and_foreign_packets(sent, capsys):
    _, frames, folder = sent
    junk = scapy.Ether() / scapy.IP() / scapy.UDP(dport=53) / scapy.Raw(b"not ours")
    wrong = frames[0].copy()
    wrong[scapy.Raw].load = wrong[scapy.Raw].load[:2] + b"\x09" + wrong[scapy.Raw].load[3:]
    for layer in (scapy.IPv6, scapy.UDP):
        frames[0][layer].fields.pop("chksum", None)
    file = folder / "c.pcap"
    scapy.wrpcap(str(file), [junk, wrong, *frames[:50], *frames[60:]])
    code, out, _ = info(capsys, file, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["sessions"][0]["lost"] == 10
    assert found["refused"] == {"version": 1}


def frame(body, *, port=28_775, source="fd01::1", target="ff15::7067:6d"):
    """Return a UDP datagram."""
    layers = scapy.Ether() / scapy.IPv6(src=source, dst=target)
    return layers / scapy.UDP(sport=40_000, dport=port) / scapy.Raw(body)


@pytest.mark.slow
def test_repair_symbols_positions_and_counts(tmp_path, capsys):
    """What is asked for by count is known with the manifest, and counted without it as well."""
    nak = asked(CODED, counts_request((0, 0, 5), (2, 0, 60)))
    too_many = asked(CODED, counts_request((2, 0, 65)))
    body = spm_body(CODED.manifest.raw, place=70, order=Order.ROUNDS, sector=1, sectors=2, first=1)
    spm = packet(PacketType.SPM, body, **header(CODED, sqn=5))
    data = [
        *CODED.odata(range(3), tsi=TSI),
        coded(PacketType.ODATA, 0, 40, sqn=4),
        coded(PacketType.RDATA, 2, 63, sqn=6),
    ]
    naks = {"port": 28_776, "source": "fd01::2", "target": "fd01::1"}
    frames = [frame(nak, **naks), *map(frame, (*data[:4], spm, data[4]))]
    frames += [frame(one, **naks) for one in (nak, too_many)]
    file = tmp_path / "c.pcap"
    scapy.wrpcap(str(file), frames)
    code, out, _ = info(capsys, file, "--json")
    assert code == 0
    facts = json.loads(out)
    (session,), (asking,) = facts["sessions"], facts["repairs"]
    assert session["repair_symbols"] == 2
    carousel = {"order": "rounds", "sector": 1, "sectors": 2, "first": 1, "place": 70}
    assert session["carousel"] == carousel
    (shown,) = session["objects"]
    assert (shown["block_symbols"], shown["repair_symbols"], shown["tile_blocks"]) == (40, 64, 2)
    assert (asking["naks"], asking["symbols"], asking["counted"]) == (2, 130, 130)
    assert facts["refused"] == {"request": 1}
    code, out, _ = info(capsys, file)
    assert code == 0
    for words in (
        "64 repair symbols (160%) for each, tiles of 2 blocks",
        "order rounds, sector 1/2, from 1 on; 70 symbols sent at the latest SPM; 2 repair symbols",
        "for 130 symbols, 130 of them by count",
    ):
        assert words in out


def test_channels_and_territories(tmp_path, capsys):
    # spec: MAN-7
    territory = {"order": Order.TERRITORY, "sector": 1, "sectors": 2, "first": 4, "place": 70}
    body = spm_body(CODED.manifest.raw, **territory)
    file = tmp_path / "c.pcap"
    packets = [
        CLIMBED.spm(tsi=7, channel=3),
        packet(PacketType.SPM, body, **header(CODED, channel=1)),
    ]
    scapy.wrpcap(str(file), list(map(frame, packets)))
    code, out, _ = info(capsys, file, "--json")
    assert code == 0
    one, other = json.loads(out)["sessions"]
    assert one["objects"][0]["ladder"] == [
        {"rate": rung.rate, "group": rung.group.address, "port": rung.group.port} for rung in LADDER
    ]
    assert other["objects"][0]["ladder"] == []
    assert other["carousel"] == territory | {"order": "territory"}
    code, out, _ = info(capsys, file)
    assert code == 0
    assert ", channel 0 ff15::2 port 28775 at 2 Mbit/s, channel 1 ff15::6 " in out
    assert "order territory 1/2, from 4 on; 70 symbols sent" in out


def test_objects_and_sessions_without_repair_symbols_say_so(tmp_path, capsys):
    alone = spm_body(SMALL.manifest.raw, repair_share=100, repair_port=9)
    later = spm_body(SMALL.manifest.raw, order=77)
    file = tmp_path / "c.pcap"
    bodies = ((alone, 7), (later, 8), (spm_body(SMALL.manifest.raw), 9))
    scapy.wrpcap(
        str(file),
        [
            frame(packet(PacketType.SPM, body, **(SMALL.fields | {"tsi": tsi})))
            for body, tsi in bodies
        ],
    )
    code, out, _ = info(capsys, file, "--json")
    assert code == 0
    shown = [session["carousel"] for session in json.loads(out)["sessions"]]
    assert [one and one["order"] for one in shown] == [None, 77, "blocks"]
    code, out, _ = info(capsys, file)
    assert code == 0
    assert out.count("no FEC") == 3
    assert out.count("no carousel announced") == 1
    asks = tmp_path / "naks.pcap"
    request = asked(SMALL, counts_request((0, 0, 4)))
    scapy.wrpcap(str(asks), [frame(SMALL.spm(tsi=TSI)), frame(request, port=28_776)])
    code, out, _ = info(capsys, asks, "--json")
    assert json.loads(out)["refused"] == {"request": 1}
    # Of an object whose manifest was not seen either is counted.
    alone = [frame(one, port=28_776) for one in (request, nak(SMALL, [1, 2]))]
    scapy.wrpcap(str(asks), alone)
    code, out, _ = info(capsys, asks, "--json")
    (asking,) = json.loads(out)["repairs"]
    assert (asking["naks"], asking["symbols"], asking["counted"]) == (2, 6, 4)


def test_manifest_file(sent, capsys):
    manifest, _, folder = sent
    file = folder / "m.manifest"
    file.write_bytes(manifest.raw)
    code, out, _ = info(capsys, file)
    assert code == 0
    assert manifest.name in out
    assert f"{manifest.oid:016x}" in out
    file.write_bytes(manifest.raw[:-1])
    code, _, err = info(capsys, file)
    assert code == 4
    assert err.startswith("pgmlite: manifest does not parse")


def test_other_files_are_what_send_would_make_of_them(sent, capsys):
    manifest, _, folder = sent
    file = folder / "object.bin"
    file.write_bytes(make_object(50_000, symbol_size=1000, block_symbols=16).data)
    shape = ("--symbol-size", "1000", "--block-symbols", "16", "--fec", "off", "--json")
    code, out, _ = info(capsys, file, *shape)
    assert code == 0
    assert json.loads(out)["oid"] == f"{manifest.oid:016x}"
    code, out, _ = info(capsys, file, *shape, "--name", "other.bin")
    assert json.loads(out)["name"] == "other.bin"
    assert json.loads(out)["oid"] != f"{manifest.oid:016x}"
    code, out, _ = info(capsys, file, "--channel", "ff15::1,1M", "--channel", "ff15::2,2M")
    assert code == 0
    assert "channel 1 ff15::2 port 28775 at 2 Mbit/s" in out


def test_options_go_with_what_they_are_about(sent, capsys):
    manifest, frames, folder = sent
    whole = folder / "c.pcap"
    scapy.wrpcap(str(whole), frames[:3])
    (folder / "m").write_bytes(manifest.raw)
    for words in ((whole, "--fec", "off"), (folder / "m", "--hops", "2")):
        code, _, err = info(capsys, *words)
        assert code == 2
        assert "leave it out" in err
    code, _, err = info(capsys, folder / "m", "--no-checksum")
    assert (code, "--no-checksum: goes with a capture" in err) == (2, True)


def test_what_can_not_be_read(sent, capsys):
    _, frames, folder = sent
    (folder / "t.pglm").write_text("hello")
    code, _, err = info(capsys, folder / "t.pglm")
    assert code == 4
    assert "t.pglm: is no signed object" in err
    code, _, err = info(capsys, folder / "missing")
    assert code == 7
    assert "missing" in err
    empty = folder / "none.pcap"
    scapy.wrpcap(str(empty), [scapy.Ether() / scapy.IP() / scapy.UDP()])
    code, _, err = info(capsys, empty)
    assert code == 4
    assert "no pgmlite packets" in err
    whole = folder / "c.pcap"
    scapy.wrpcap(str(whole), frames)
    cut = folder / "cut.pcap"
    cut.write_bytes(whole.read_bytes()[:20_003])
    code, out, _ = info(capsys, cut, "--json")
    assert code == 0
    assert json.loads(out)["sessions"]
