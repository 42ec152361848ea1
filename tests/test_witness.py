"""The conformance witness: what a stranger built from the specification does what ours does."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from itertools import islice
from operator import xor
from pathlib import Path
from random import Random

import pytest

from tests import witness, witness_fec, witness_io, witness_signed
from tests.generate import ROOT, SPEC
from tests.support import vectors
from tests.support.loopback import endpoint, make_file, sending

INVALID = json.loads((SPEC / "vectors" / "invalid.json").read_text())["packets"]
VALID = json.loads((SPEC / "vectors" / "packets.json").read_text())["packets"]
OBJECT = json.loads((SPEC / "vectors" / "object.json").read_text())
RINGS = json.loads((SPEC / "vectors" / "rings.json").read_text())["rings"]
COUNTS = json.loads((SPEC / "vectors" / "counts.json").read_text())
TIMING = json.loads((SPEC / "vectors" / "timing.json").read_text())
CAPTURES = ROOT / "captures"
INDEX = json.loads((CAPTURES / "index.json").read_text())


def test_it_is_small_and_knows_nothing_of_ours() -> None:
    modules = (witness, witness_fec, witness_signed, witness_io)
    lines = [len(Path(module.__file__).read_text().splitlines()) for module in modules]
    assert sum(lines[:2]) < 460
    assert lines[2] < 220
    names = set()
    for module in modules:
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.ImportFrom):
                names.add(node.module)
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    own = {module.__name__ for module in modules}
    assert names <= {*sys.stdlib_module_names, "blake3", "tests"} | own


@pytest.mark.parametrize("case", INVALID, ids=[case["name"] for case in INVALID])
def test_it_refuses_invalid_packets_for_the_stated_reason(case: dict) -> None:
    one = bytes.fromhex(case["hex"])
    if case["at"] == "repairer":
        first = OBJECT["objects"][0]
        nonces = [int(nonce, 16) for nonce in case["nonces"]]
        with pytest.raises(witness.Refused, match=f"^{case['reason']}$"):
            witness.check_nak(
                one, int(case["tsi"], 16), int(first["oid"], 16), first["size"], nonces
            )
        return
    receiver = witness_signed.Receiver(int(case["asked"], 16) if "asked" in case else None)
    for before in case["before"]:
        receiver.feed(bytes.fromhex(before))
    assert receiver.refused == {}
    receiver.feed(one)
    assert receiver.refused == {case["reason"]: 1}


CODED = witness.Manifest(bytes.fromhex(OBJECT["objects"][-1]["manifest"]))


def named(case: dict) -> list:
    """Return what a request names, or its counts."""
    if "counts" in case:
        return case["counts"]
    return [s for a, b in case["symbols"] for s in range(a, b + 1)]


@pytest.mark.parametrize("case", VALID, ids=[case["name"] for case in VALID])
def test_it_takes_valid_packets(case: dict) -> None:
    one = bytes.fromhex(case["hex"])
    header = witness.Header(one)
    expected = case["header"]
    for name in ("type", "channel", "symbol_size", "sqn", "esi"):
        assert getattr(header, name) == expected[name]
    for name in ("tsi", "oid", "size", "offset"):
        assert getattr(header, name) == int(expected[name], 16)
    if case["header"]["type"] == witness.NAK:
        of = CODED if "counts" in case else None
        symbols = witness.check_nak(
            one, header.tsi, header.oid, header.size, [int(case["nak"]["nonce"], 16)], of
        )
        assert symbols == named(case)
        return
    receiver = witness_signed.Receiver(None if header.size else header.oid)
    receiver.feed(one)
    is_alone = "spm" in case and "position" not in case
    assert receiver.refused == ({"object": 1} if is_alone else {})
    if "spm" in case:
        raw, position, takes_naks = witness.parse_spm(one[48:])
        assert raw.hex() in [option["value"] for option in case["spm"]["options"]]
        assert takes_naks == ("repairs" in case)
        if position:
            facts = case["position"]
            assert position == (int(facts["place"], 16), *list(facts.values())[1:])
    if case["header"]["type"] == witness.NCF:
        of = CODED if "counts" in case else None
        assert witness.parse_request(one[48:], header.symbols, of) == named(case)


def test_it_receives_the_cycle_of_the_vectors() -> None:
    receiver = witness_signed.Receiver()
    for one in OBJECT["cycle"]:
        receiver.feed(bytes.fromhex(one["hex"]), one["at"] / 1e9)
    assert receiver.data == bytes.fromhex(OBJECT["data"])
    assert receiver.refused == {}


@pytest.mark.parametrize("name", INDEX)
def test_it_receives_every_capture(name: str) -> None:
    receiver = witness_io.replay(CAPTURES / f"{name}.pcap")
    assert receiver.data is not None
    assert hashlib.sha256(receiver.data).hexdigest() == INDEX[name]["sha256"]


def test_it_receives_a_live_carousel(tmp_path: Path) -> None:
    place = endpoint()
    source = make_file(tmp_path / "source", 1_500_000)
    with sending(source, place, "-r", "20M"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.witness_io",
                place.group,
                str(place.port),
                "lo",
                tmp_path / "out",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def test_formulas_of_the_specification_give_the_vectors() -> None:
    """The formulas as they stand in NAK-4 and REP-6, against what the code draws."""
    # spec: NAK-4, REP-6
    import math

    for case in TIMING["backoff"]:
        shape = math.log(case["gsize"]) + 1
        drawn = case["longest"] / shape * math.log(1 + case["u"] * (math.exp(shape) - 1))
        assert abs(drawn - case["ns"]) <= 1
    for q, ns in enumerate(TIMING["grtt_of"]):
        seconds = (q + 1) * 1e-6 if q <= 31 else 1_000 / math.exp((255 - q) / 13)
        assert abs(seconds * 1e9 - ns) <= max(1, ns * 1e-12)
    for ns, q in TIMING["grtt_quantise"]:
        g = min(max(ns, 1_000), 10**12)
        exact = g / 1_000 - 1 if g < 33_000 else 255 - 13 * math.log(1e12 / g)
        assert abs(q - exact) < 1 + 1e-9
        assert q >= exact - 1e-9
    for bits, size in enumerate(TIMING["gsize_of"]):
        assert size == (5 if bits & 8 else 1) * 10 ** ((bits & 7) + 1)


def test_it_reads_counts_as_the_vectors_have_them() -> None:
    # spec: REQ-5
    assert [CODED.blocks, CODED.ring(0), CODED.ring(2)] == list(COUNTS["rings"].values())
    for case in COUNTS["taken"] + COUNTS["refused"]:
        given = bytes.fromhex(case["hex"]), CODED.symbols, CODED
        if "items" in case:
            assert witness.parse_request(*given) == case["items"]
        elif case["name"] != "which symbols come":  # which an NCF may say
            with pytest.raises(witness.Refused, match="request"):
                witness.parse_request(*given)


def carousel(case: dict) -> Iterator[tuple[int, int]]:
    """Yield block and ESI of what a carousel sends, as FEC-2 to FEC-4 say it, word by word."""
    total = -(-case["size"] // case["symbol_size"])
    k, m, d = case["block_symbols"], case["repair_symbols"], case["tile_blocks"]
    blocks = -(-total // k)
    groups = -(-blocks // d)
    source_visits, repair_visits = -(-k // 16), -(-m // 16)
    i, n, first = case["sector"], case["sectors"], case["first"]

    def visit(block: int, v: int) -> range:
        k_b = min(k, total - block * k)
        m_b = m if k_b == k or not m else min(m, -(-m * k_b // k) + 32)
        if v < source_visits:
            return range(v * k_b // source_visits, (v + 1) * k_b // source_visits)
        w = v - source_visits
        return range(k_b + w * m_b // repair_visits, k_b + (w + 1) * m_b // repair_visits)

    def tile(v: int, g: int) -> Iterator[tuple[int, int]]:
        some = {block: visit(block, v) for block in range(g * d, min(blocks, (g + 1) * d))}
        for step in range(max(map(len, some.values()))):
            yield from ((block, esis[step]) for block, esis in some.items() if step < len(esis))

    def share(j: int, things: int) -> list[int]:
        return list(range(j * things // n, (j + 1) * things // n))

    def round_from(some: list[int]) -> list[int]:
        return some[some.index(first) :] + some[: some.index(first)] if first in some else some

    if case["order"] == 0:
        lead = round_from(share(i, groups) if m else list(range(groups)))
        while True:
            for g in lead:
                for v in range(source_visits):
                    yield from tile(v, g)
            if m:
                break
    turn: list[int] = []
    for j in range(i, i + n):
        source = share(j % n, source_visits)
        source = round_from(source) if case["order"] == 1 and j == i else source
        repairs = [source_visits + w for w in share(j % n, repair_visits)]
        turn += repairs + source if case["order"] == 0 else source + repairs
    if case["order"] == 2:
        turn.sort(key=lambda v: witness.digest(first.to_bytes(4) + v.to_bytes(4)))
    if case["order"] == 3:
        turn = round_from(share(i, source_visits + repair_visits))
    while True:
        for v in turn:
            for g in range(groups):
                yield from tile(v, g)


@pytest.mark.parametrize("case", RINGS, ids=[str(place) for place in range(len(RINGS))])
def test_orders_of_the_specification_give_the_vectors(case: dict) -> None:
    # spec: FEC-2, FEC-3, FEC-4, FEC-5
    sent = enumerate(carousel(case))
    for place, *symbol in case["symbols"]:
        assert next(found for at, found in sent if at == place) == tuple(symbol), place


def test_it_makes_repair_symbols_as_the_vectors_have_them() -> None:
    facts = json.loads((SPEC / "vectors" / "fec.json").read_text())
    for number, word in facts["mix"]:
        assert witness_fec.mix(int(number, 16)) == int(word, 16)
    for block in facts["blocks"]:
        k, size = block["k"], block["symbol_size"]
        data = vectors.pattern(k * size)
        source = [int.from_bytes(data[at : at + size]) for at in range(0, k * size, size)]
        for esi, bits, content in block["repairs"]:
            found = witness_fec.coefficients(k, esi)
            assert found == int(bits, 16)
            sums = reduce(xor, (source[j] for j in range(k) if found >> j & 1), 0)
            assert sums.to_bytes(size).hex() == content
    for case in facts["held"]:
        held = {e: 0 for first, last in case["held"] for e in range(first, last + 1)}
        whole = witness_fec.decode(case["k"], held) is not None
        assert whole == (case["rank"] == case["missing"])


def sent(start: int, count: int) -> Iterator[bytes]:
    """Yield packets of a carousel with repair symbols, from a place on."""
    of = vectors.CODED
    for block, esi in islice(carousel(RINGS[1]), start, start + count):
        if esi < CODED.sources(block):
            yield of.odata([block * CODED.block_symbols + esi])[0]
        else:
            yield vectors.coded(witness.ODATA, block, esi)


@pytest.mark.parametrize("seed", range(6))
def test_it_decodes_what_was_lost_or_went_by(seed: int) -> None:
    # spec: FEC-6
    rng = Random(seed)
    receiver = witness_signed.Receiver()
    for one in (vectors.CODED.spm(), *vectors.CODED.nodes()):
        receiver.feed(one)
    for one in sent(rng.randrange(272), 92 * 2):
        if rng.random() >= 0.2:
            receiver.feed(one)
    assert receiver.data == vectors.CODED.data
    assert receiver.refused == {}


def test_it_never_takes_what_a_forged_symbol_gives() -> None:
    # spec: RCV-6, FEC-7
    receiver = witness_signed.Receiver()
    for one in (vectors.CODED.spm(), *vectors.CODED.nodes()):
        receiver.feed(one)
    forged = vectors.coded(witness.ODATA, 1, 40)
    receiver.feed(forged[:-1] + bytes([forged[-1] ^ 1]))
    packets = list(sent(13 * 2, 2 * 272))
    for one in packets[:272]:
        receiver.feed(one)
    assert receiver.data in (None, vectors.CODED.data)
    for one in packets[272:]:
        receiver.feed(one)
    assert receiver.data == vectors.CODED.data
