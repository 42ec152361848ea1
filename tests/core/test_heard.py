"""What is listed of what is on the air: claims, rates, signatures, and bounds against inventors."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pgmlite.core.events_listening import SessionHeard, SignedBy
from pgmlite.core.machine import MS, SECOND
from pgmlite.core.receive import heard as heard_module
from pgmlite.core.receive.heard import MOST_COUNTED, MOST_LISTED, MOST_SENDERS, Heard
from pgmlite.wire.control import Signature
from pgmlite.wire.endpoint import Endpoint
from pgmlite.wire.layout import PacketType
from tests.support.builders import batches, make_object, packet, spm_body
from tests.support.signed import key_id, private_key, sign
from tests.support.trusting import STREAM, public, release, spm_of

GROUP, OTHER = Endpoint("239.1.2.3", 9), Endpoint("239.1.2.4", 9)
SAMPLE = make_object(100_000, symbol_size=1_000, block_symbols=50, name="a.bin")


def announced(**body: int) -> bytes:
    """Return an SPM of the sample whose body says this."""
    header = {"tsi": body.pop("tsi")} if "tsi" in body else {}
    return packet(
        PacketType.SPM, spm_body(SAMPLE.manifest.raw, head=0, **body), **SAMPLE.fields | header
    )


class Air:
    """Packets as they come, and what is listed."""

    def __init__(self, *keys: object) -> None:
        self.heard = Heard(keys)

    def give(
        self, packets: Iterable[bytes], now: int = 0, *, source: str = "a", group=GROUP
    ) -> None:
        for batch in batches(list(packets), source=source):
            self.heard.take(now, group, batch)

    def list(self, now: int = 3 * SECOND) -> list[SessionHeard]:
        return self.heard.sessions(now)

    def only(self) -> SessionHeard:
        (one,) = self.list()
        return one


def test_an_object_and_who_sends_it() -> None:
    air = Air()
    air.give([announced(rate=4_000_000)], source="a")
    air.give([announced(rate=6_000_000, tsi=7)], source="b")
    for number in range(1, 11):
        air.give(SAMPLE.odata([number], sqn=number), number * 100 * MS)
    one = air.only()
    assert one.manifest == SAMPLE.manifest
    assert (one.group, one.port) == GROUP
    assert one.sources == ("a", "b")
    assert (one.rate, one.packets, one.has_carousel) == (10_000_000, 12, True)
    # Ten packets of 1000 bytes and 76 of headers, and the second SPM, in a second.
    assert 86_080 <= one.heard_rate <= 90_000
    assert one.time_left == pytest.approx(100 * 1_076 * 8 / 10e6, abs=0.001)
    assert one.orders == ("blocks",)
    assert (one.signatures, one.nak_ports, one.repairers) == ((), (), ())
    assert (one.created, one.expires) == (None, None)


def test_one_without_a_limit_and_one_that_only_repeats() -> None:
    air = Air()
    air.give([announced(rate=0)])
    assert (air.only().rate, air.only().time_left) == (0, None)
    air = Air()
    body = spm_body(SAMPLE.manifest.raw, repair_share=100, repair_port=99)
    air.give([packet(PacketType.SPM, body, **SAMPLE.fields)])
    one = air.only()
    assert (one.has_carousel, one.nak_ports, one.orders) == (False, (99,), ())
    assert one.time_left is None


def test_an_order_of_a_later_version_is_a_number() -> None:
    air = Air()
    air.give([announced(order=200)])
    assert air.only().orders == ("200",)


def test_groups_are_listed_apart() -> None:
    air = Air()
    for group in (GROUP, OTHER):
        air.give([SAMPLE.spm()], group=group)
    assert [one.group for one in air.list()] == [GROUP.address, OTHER.address]


def test_data_alone_is_nothing_to_list() -> None:
    air = Air()
    air.give(SAMPLE.odata(range(10)))
    assert air.list() == []
    assert air.heard.packets == 10


@pytest.mark.parametrize("raw", [b"", b"junk", SAMPLE.manifest.raw[:-1]])
def test_what_is_no_manifest_is_not_listed(raw: bytes) -> None:
    air = Air()
    air.give([packet(PacketType.SPM, spm_body(raw), **SAMPLE.fields)])
    air.give([packet(PacketType.SPM, spm_body(SAMPLE.manifest.raw), **SAMPLE.fields | {"oid": 1})])
    assert air.list() == []


class TestSignatures:
    sample = release()
    right = sign(sample.manifest.raw, private_key())
    wrong = Signature(right.key_id, b"x" * 64)
    own = key_id(private_key())

    def states(self, *packets: Iterable[Signature], keys: tuple = ()) -> tuple[SignedBy, ...]:
        air = Air(*keys)
        for signatures in packets:
            air.give([spm_of(self.sample, signatures)])
        one = air.only()
        assert one.manifest.release.stream == STREAM
        return one.signatures

    def test_without_keys_they_are_claims(self) -> None:
        assert self.states([self.right]) == (SignedBy(self.own, "claimed"),)
        assert self.states([self.right], keys=(public(1),)) == (SignedBy(self.own, "claimed"),)

    def test_with_its_key_one_is_right_or_wrong(self) -> None:
        keys = (public(),)
        assert self.states([self.right], keys=keys) == (SignedBy(self.own, "valid"),)
        assert self.states([self.wrong], keys=keys) == (SignedBy(self.own, "wrong"),)

    def test_a_wrong_one_that_a_stranger_repeats_takes_nothing_away(self) -> None:
        for order in ((self.right, self.wrong), (self.wrong, self.right)):
            found = self.states(*([one] for one in order), keys=(public(),))
            assert found == (SignedBy(self.own, "valid"),)

    def test_strangers_names_are_counted(self) -> None:
        made_up = [[Signature(number.to_bytes(8), b"x" * 64)] for number in range(100)]
        assert len(self.states(*made_up)) == heard_module.MOST_SIGNATURES


class TestInventors:
    def test_do_not_keep_out_who_sends(self) -> None:
        air = Air()
        for number in range(MOST_LISTED + 40):
            air.give([make_object(64, name=f"n{number}", seed=number).spm()], number * MS)
        air.give([*SAMPLE.odata(range(5)), SAMPLE.spm()], SECOND)
        found = air.list()
        assert len(found) == MOST_LISTED
        assert found[0].manifest == SAMPLE.manifest
        assert found[0].packets >= 5
        assert 1 <= air.heard.more <= 41

    def test_fill_no_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heard_module, "MOST_COUNTED", 50)
        air = Air()
        for number in range(MOST_LISTED + 200):
            air.give([make_object(64, name=f"n{number}", seed=number).spm()])
        assert len(air.list()) == MOST_LISTED
        assert air.heard.more == 50
        assert MOST_COUNTED == 1_024

    def test_addresses_are_counted(self) -> None:
        air = Air()
        for number in range(100):
            air.give([announced(tsi=number, rate=1_000_000)], source=f"s{number}")
        one = air.only()
        assert len(one.sources) == MOST_SENDERS
        assert one.rate == MOST_SENDERS * 1_000_000
