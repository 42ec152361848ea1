"""What the specification shares with the code is equal in both."""

import re
from pathlib import Path

import pytest

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.cursor import first_of, steps_from
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.send.sender import Sender
from pgmlite.wire.derive import STRUCTS, fields
from pgmlite.wire.digests import digest
from pgmlite.wire.layout import VERSION, PacketType
from pgmlite.wire.manifest import Manifest
from pgmlite.wire.request import build_nak
from tests import generate
from tests.requirements import CLAUSE, cited, untested
from tests.support import vectors
from tests.support.builders import Scripted, batches, encode, packet, play, spm_body

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "spec" / "protocol.md"


def test_citations_are_understood() -> None:
    assert cited("# spec: PKT-2\n(spec: RCV-7, RCV-8) (spec: MAN-1 to MAN-3).") == {
        *("PKT-2", "RCV-7", "RCV-8"),
        *("MAN-1", "MAN-2", "MAN-3"),
    }


@pytest.mark.parametrize(
    ("path", "text"), [pytest.param(*made, id=made[0].name) for made in generate.files()]
)
def test_what_is_generated_is_up_to_date(path: Path, text: str) -> None:
    assert path.read_text() == text, "run: python -m tests.generate"


@pytest.mark.parametrize("name", STRUCTS)
def test_every_struct_has_its_table(name: str) -> None:
    assert SPEC.read_text().count(f"<!-- table: {name} -->") == 1


MODULES = sorted((ROOT / "pgmlite").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(ROOT)) for p in MODULES])
def test_cited_clauses_are_defined(path: Path) -> None:
    defined = set(re.findall(rf"\*\*({CLAUSE})\*\*", SPEC.read_text()))
    assert cited(path.read_text()) - defined == set()


def test_clauses_are_defined_once() -> None:
    defined = re.findall(rf"\*\*({CLAUSE})\*\*", SPEC.read_text())
    assert sorted(defined) == sorted(set(defined))


def test_every_requirement_has_a_test() -> None:
    assert untested() == []


def test_format_of_version_2_is_fixed() -> None:
    """Whoever changes a field's place or size changes the version, and this number with it; for a
    new option, which is what the version leaves room for, the number alone."""
    # spec: VER-5
    layout = [
        (name, field.name, field.offset, field.size)
        for name, struct in STRUCTS.items()
        for field in fields(struct)
    ]
    assert (VERSION, digest(repr(layout).encode()).hex()[:16]) == (2, "98f0e6bfeba7f8e4")


def octets_of(text: str) -> bytes:
    """Return the bytes of every code block of `text`, without the explanations."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.split()[0] for block in blocks for line in block.splitlines() if line]
    return bytes.fromhex("".join(lines))


def test_worked_example_is_what_a_sender_sends() -> None:
    _, _, rest = SPEC.read_text().partition("### 3.7 Worked example")
    example = octets_of(rest.partition("\n## ")[0])
    of = vectors.EXAMPLE
    rng = Scripted(tsi=0x0123_4567_89AB_CDEF, sqn=0xFFFF_FFFE)
    config = SenderConfig(rate=10_000_000, packet_overhead=48)
    sender = Sender(config, of.manifest, of.tree, rng=rng)
    sender.start(SECOND)
    packets: list[bytes] = []
    for _, burst in play(sender, packets=6):
        packets += encode(burst, of.data)
    header = slice(0, 48)
    first, second = packets[4][header], packets[5]
    changed = second[5:6] + second[32:40] + second[40:44] + second[44:48]
    assert example == of.tree.node(0) + of.manifest.raw + packets[0] + first + changed
    same = slice(0, 5), slice(6, 32)
    assert [second[part] for part in same] == [first[part] for part in same]
    assert second[48:] == vectors.encoded(of, 0, 3)
    assert "Its 1404 bytes are those of source symbol 0." in rest
    assert second[48:] == of.data[:1_404]
    assert f"`{of.manifest.oid:016x}`" in rest
    empty = Manifest(1_404, 1_024, 0, digest(b""), "empty")
    assert f"`{empty.oid:016x}`" in rest


def test_examples_of_requests_and_repair_are_what_the_code_builds() -> None:
    # spec: REQ-1, REQ-5, REP-12, PKT-12
    _, _, rest = SPEC.read_text().partition("### 3.6 NAKs")
    example = octets_of(rest.partition("\n### 3.7")[0])
    manifest = vectors.EXAMPLE.manifest
    header = {"symbol_size": 1_404, "tsi": vectors.TSI, "oid": manifest.oid, "size": 3_000}
    repairs = vectors.parts_of(spm_body(manifest.raw, **vectors.REPAIR_FIELDS))[-1]
    geometry = manifest.geometry
    asked = vectors.counts_request((0, 0, 5))
    promised = vectors.counts_request((0, first_of(geometry, 0), 5))
    steps = steps_from(first_of(geometry, 0), 5, geometry.ring(0)).tolist()
    assert steps == [66, 65, 64, 63, 62]
    nak = build_nak(vectors.NONCE, 1_010_000_000, 0.2, asked)
    assert example == b"".join(
        [
            vectors.request([5, 6, 7, 300]),
            vectors.request([100, 102, 103, 105, 110]),
            repairs,
            packet(PacketType.NAK, nak, **header, sqn=2),
            packet(PacketType.NCF, promised, **header, sqn=3, offset=28),
        ]
    )


class Numbers(Scripted):
    """Gives a sender tsi and first sqn of the example, then its nonce."""

    def getrandbits(self, bits: int) -> int:
        drawn = super().getrandbits(bits)
        self._values[64] = vectors.NONCE
        return drawn


def test_the_example_of_an_ncf_is_what_a_sender_answers() -> None:
    # spec: REP-3, REP-6, REP-11
    _, _, rest = SPEC.read_text().partition("### 3.6 NAKs")
    example = octets_of(rest.partition("\n### 3.7")[0])
    of = vectors.EXAMPLE
    rng = Numbers(tsi=vectors.TSI, sqn=0xFFFF_FFFE)
    config = SenderConfig(rate=10_000_000, packet_overhead=48)
    repair = RepairConfig(port=28_776)
    sender = Sender(config, of.manifest, of.tree, repair=repair, rng=rng)
    sender.start(SECOND)
    sent: list[bytes] = []
    for _, burst in play(sender, packets=5):
        sent += encode(burst, of.data)
    assert sent[0][-18:] in example
    nak = vectors.asked(of, vectors.counts_request((0, 0, 5)), sqn=2)
    (batch,) = batches([nak], source="receiver")
    sender.receive(SECOND + 10 * MS, batch)
    _, burst = next(play(sender))
    (ncf,) = encode(burst, of.data)
    assert example.endswith(ncf)


def test_example_of_two_blocks() -> None:
    # spec: OBJ-1, OBJ-3, MAN-2
    text = SPEC.read_text()
    of = vectors.sample(3_000, 1_404, 2, "example.bin")
    assert (of.manifest.blocks, len(of.tree.node(0))) == (2, 64)
    text = " ".join(text.split())
    assert f"`{of.manifest.tree_digest.hex()}`, and the oid `{of.manifest.oid:016x}`" in text
