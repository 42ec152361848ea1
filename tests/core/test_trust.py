"""Whose objects are taken: every check with its attack."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.config_trust import TrustConfig
from pgmlite.core.events import Adopted, Superseded, Warned
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.offers import OneObject
from pgmlite.core.trust import Floor, Trust
from pgmlite.wire.control import Signature
from pgmlite.wire.layout import PacketType
from pgmlite.wire.manifest import Manifest
from tests.support.builders import Drive, make_object, packet
from tests.support.signed import STREAM, SignedSample, make_signed, private_key, sign, signed_spm
from tests.support.trusting import (
    MADE,
    SIZE,
    YEAR,
    CountingKey,
    public,
    refused,
    release,
    spm_about,
    spm_of,
    trust,
)


def warned(drive: Drive) -> list[str]:
    return [one.cause for one in drive.seen if isinstance(one, Warned)]


PATIENT = TrustConfig(new_checks_at_once=60 * SECOND)
"""Allows for checks without end."""


class TestOrigin:
    def test_what_is_signed_comes_whole(self) -> None:
        sample = release()
        drive = Drive(trust=trust())
        drive.give([sample.spm()])
        assert drive.machine.manifest == sample.manifest
        assert drive.machine.signers == (public().key_id,)
        (adopted,) = [one for one in drive.seen if isinstance(one, Adopted)]
        assert adopted.signed_by == (public().key_id,)
        assert drive.refused == {}

    def test_unsigned(self) -> None:
        # spec: TRU-3
        drive = Drive(trust=trust())
        plain = make_object(SIZE)
        assert refused(drive, [plain.spm()]) == {"unsigned": 1}
        assert refused(drive, [spm_of(release(), ())]) == {"unsigned": 1}

    def test_signed_by_somebody_and_made_without_a_release(self) -> None:
        plain = make_object(SIZE)
        sample = SignedSample(
            plain.data, plain.manifest, plain.tree, release().tiles, (sign_raw(plain.manifest),)
        )
        drive = Drive(trust=trust())
        assert refused(drive, [sample.spm(), sample.spm()]) == {"unsigned": 2}

    def test_another_key(self) -> None:
        assert refused(Drive(trust=trust()), [release(keys=(1,)).spm()]) == {"key": 1}

    def test_anothers_signature_under_our_name(self) -> None:
        sample = release()
        forged = Signature(public().key_id, sign(sample.manifest.raw, private_key(1)).value)
        drive = Drive(trust=trust())
        assert refused(drive, [spm_of(sample, [forged])] * 2) == {"signature": 2}

    def test_signature_of_the_manifest_without_its_context(self) -> None:
        sample = release()
        bare = Signature(public().key_id, private_key().sign(sample.manifest.raw))
        assert refused(Drive(trust=trust()), [spm_of(sample, [bare])]) == {"signature": 1}

    def test_a_flipped_bit_in_every_byte_of_the_signature(self) -> None:
        # spec: TRU-3
        sample, machine = (
            release(),
            trust(config=PATIENT),
        )
        (signature,) = sample.signatures
        drive = Drive(trust=machine)
        for at in range(len(signature.value)):
            for bit in range(8):
                value = bytearray(signature.value)
                value[at] ^= 1 << bit
                spm = spm_of(sample, [Signature(signature.key_id, bytes(value))])
                assert refused(drive, [spm]) == {"signature": 1}, (at, bit)
        for at in range(len(signature.key_id)):
            other = bytearray(signature.key_id)
            other[at] ^= 1
            spm = spm_of(sample, [Signature(bytes(other), signature.value)])
            assert refused(drive, [spm]) == {"key": 1}, at

    def test_a_flipped_bit_in_every_byte_of_the_manifest(self) -> None:
        # spec: TRU-3
        sample, machine = (
            release(),
            trust(config=PATIENT),
        )
        drive = Drive(trust=machine)
        for at in range(len(sample.manifest.raw)):
            for bit in range(8):
                raw = bytearray(sample.manifest.raw)
                raw[at] ^= 1 << bit
                # With the old oid it is not the object that is named; with its own, not signed.
                body = signed_spm(bytes(raw), sample.signatures).build()
                renamed = packet(PacketType.SPM, body, **sample.fields)
                assert refused(drive, [renamed]) == {"manifest": 1}, (at, bit)
                spm = spm_about(bytes(raw), sample.signatures, sample)
                assert refused(drive, [spm]) == {"signature": 1}, (at, bit)
        assert refused(drive, []) == {}
        drive.give([sample.spm()])
        assert drive.machine.manifest == sample.manifest

    def test_what_a_signer_got_wrong(self) -> None:
        raw = release().manifest.raw[:-1]
        spm = spm_about(raw, [sign(raw, private_key())], release())
        assert refused(Drive(trust=trust()), [spm, spm]) == {"manifest": 2}

    @pytest.mark.parametrize("fields", [{"size": SIZE - 160}, {"symbol_size": 320}])
    def test_a_header_that_is_not_the_manifests(self, fields: dict[str, int]) -> None:
        spm = spm_of(release(), release().signatures, **fields)
        assert refused(Drive(trust=trust()), [spm]) == {"manifest": 1}

    def test_one_valid_signature_is_enough_whatever_stands_beside_it(self) -> None:
        # spec: TRU-2
        sample = release()
        (right,) = sample.signatures
        forged = Signature(public(1).key_id, bytes(64))
        strange = [Signature(bytes([n]) * 8, bytes(64)) for n in range(5)]
        drive = Drive(trust=trust(0, 1))
        drive.give([spm_of(sample, [*strange, forged, right])])
        assert drive.machine.manifest == sample.manifest
        assert drive.machine.signers == (public().key_id,)

    def test_signers_are_all_keys_that_are_trusted(self) -> None:
        # spec: TRU-2
        sample = release(keys=(0, 1, 2))
        drive = Drive(trust=trust(0, 2))
        drive.give([sample.spm()])
        assert set(drive.machine.signers) == {public(0).key_id, public(2).key_id}

    def test_a_signature_that_somebody_took_away_counts_when_it_comes(self) -> None:
        # spec: TRU-5
        sample = release(keys=(0, 1))
        drive = Drive(trust=trust(0, 1))
        drive.give([spm_of(sample, sample.signatures[:1])])
        assert drive.machine.signers == (public(0).key_id,)
        forged = Signature(public(1).key_id, bytes(64))
        drive.give([spm_of(sample, [sample.signatures[0], forged])])
        assert drive.machine.signers == (public(0).key_id,)
        drive.give([spm_of(sample, [forged])])
        assert drive.machine.signers == (public(0).key_id,)
        assert drive.refused == {}, "the manifest is known to be signed"
        drive.give([sample.spm()])
        assert set(drive.machine.signers) == {public(0).key_id, public(1).key_id}

    def test_a_manifest_that_swallows_a_signature_spoils_nothing(self) -> None:
        # What is remembered of one announcement must not be found for another one.
        sample = release(keys=(0, 1))
        first, second = sample.signatures
        swallowed = sample.manifest.raw + first.key_id + first.value
        drive = Drive(trust=trust(0, 1))
        assert refused(drive, [spm_about(swallowed, [second], sample)]) == {"signature": 1}
        drive.give([sample.spm()])
        assert drive.machine.manifest == sample.manifest


def sign_raw(manifest: Manifest) -> Signature:
    return sign(manifest.raw, private_key())


class TestChoice:
    def test_another_stream(self) -> None:
        # spec: TRU-7
        drive = Drive(trust=trust(stream=STREAM))
        assert refused(drive, [release(stream="example/bridge").spm()]) == {"stream": 1}
        drive.give([release().spm()])
        assert drive.machine.manifest == release().manifest

    def test_another_name(self) -> None:
        # spec: TRU-7
        drive = Drive(trust=trust(), name="router-*.bin")
        assert refused(drive, [release(name="bridge-1.bin").spm()]) == {"name": 1}
        drive.give([release(name="router-1.bin").spm()])
        assert drive.machine.manifest == release(name="router-1.bin").manifest

    def test_a_name_without_keys(self) -> None:
        # spec: TRU-7, RCV-16
        wanted = make_object(SIZE, name="router-1.bin")
        other = make_object(SIZE, name="bridge-1.bin", seed=1)
        empty = make_object(0, name="router-0.bin")
        drive = Drive(name="router-*.bin")
        data = other.odata([0, 1])
        assert refused(drive, [other.spm(), *data]) == {"name": 1, "object": 2}
        drive.give([wanted.spm()])
        assert drive.machine.manifest == wanted.manifest
        drive = Drive(name="router-*.bin")
        drive.give([empty.spm()])
        assert drive.is_complete

    def test_an_empty_object_that_is_signed(self) -> None:
        drive = Drive(trust=trust())
        assert refused(drive, [make_object(0).spm()]) == {"unsigned": 1}
        drive.give([make_signed(0).spm()])
        assert drive.is_complete


class TestAge:
    def test_expired(self) -> None:
        # spec: TRU-9
        sample = release(expires=MADE + YEAR)
        for clock in (MADE + YEAR, MADE + 2 * YEAR):
            assert refused(Drive(trust=trust(clock=clock)), [sample.spm()]) == {"expired": 1}
        drive = Drive(trust=trust(clock=MADE + YEAR - 1))
        drive.give([sample.spm()])
        assert drive.machine.manifest == sample.manifest
        assert warned(drive) == []

    def test_a_clock_that_is_not_set(self) -> None:
        # spec: TRU-9
        sample = release(expires=MADE + YEAR)
        later = release(6, expires=MADE + YEAR)
        for clock in (0, MADE - 1):
            drive = Drive(trust=trust(clock=clock))
            drive.give([sample.spm(), sample.spm(), later.spm()], limit=1)
            assert drive.machine.manifest == later.manifest
            assert warned(drive) == ["clock"]

    def test_who_never_expires_asks_for_no_clock(self) -> None:
        drive = Drive(trust=trust(clock=0))
        drive.give([release().spm()])
        assert drive.machine.manifest == release().manifest
        assert warned(drive) == []


def leaves(sample: SignedSample) -> list[bytes]:
    """Return what tells the symbols of an object from others: its tree of tiles, and all leaves."""
    tiles = sample.tiles.tiles
    return sample.tile_nodes(range(tiles.tree.nodes + tiles.count))


class TestRelease:
    def test_an_old_one(self) -> None:
        # spec: TRU-6
        drive = Drive(trust=trust(floors=[Floor(6, 1)]))
        assert refused(drive, [release(5).spm()]) == {"rollback": 1}
        drive.give([release(7).spm()])
        assert drive.machine.manifest == release(7).manifest

    def test_the_floor_of_any_key_counts(self) -> None:
        # spec: TRU-6
        # A release that only one key has signed must not go below what the other one installed.
        drive = Drive(trust=trust(0, 1, floors=[Floor(3, 1), Floor(9, 2)]))
        assert refused(drive, [release(5).spm()]) == {"rollback": 1}

    def test_the_same_one_again(self) -> None:
        sample = release(5)
        drive = Drive(trust=trust(floors=[Floor(5, sample.manifest.oid)]))
        drive.give([sample.spm()])
        assert drive.machine.manifest == sample.manifest

    def test_another_object_of_the_same_number(self) -> None:
        # spec: TRU-3
        drive = Drive(trust=trust(floors=[Floor(5, release(5).manifest.oid)]))
        other = release(5, seed=99)
        assert refused(drive, [other.spm()] * 3) == {"equivocation": 3}
        assert warned(drive) == ["equivocation"]
        (event,) = [one for one in drive.seen if isinstance(one, Warned)]
        oid = f"{other.manifest.oid:016x}"
        assert event.facts == {"stream": STREAM, "release": 5, "oid": oid}

    def test_of_the_one_that_is_being_received(self) -> None:
        drive = Drive(trust=trust())
        five = release(5)
        drive.give([five.spm(), *leaves(five), *five.all_odata()[:1]])
        later = {"now": 3600 * SECOND}  # nothing of it came for long
        assert refused(drive, [release(4).spm()], **later) == {"rollback": 1}
        assert refused(drive, [release(5, seed=99).spm()], **later) == {"equivocation": 1}
        assert warned(drive) == ["equivocation"]
        assert drive.machine.manifest == release(5).manifest

    def test_a_higher_one_takes_over_at_once(self) -> None:
        # spec: TRU-8
        drive = Drive(trust=trust())
        low, high = release(5), release(6)
        drive.give([low.spm(), *low.nodes(), *low.all_odata()[:3]])
        told = drive.give([high.spm()])
        assert Superseded(0, low.manifest.oid, high.manifest.oid, 6) in told
        assert drive.machine.manifest == high.manifest
        assert refused(drive, [low.spm()]) == {"rollback": 1}

    def test_one_that_nobody_sends_holds_nobody(self) -> None:
        # spec: TRU-6, TRU-8
        # A stranger has an announcement that is signed, of a release that is sent elsewhere.
        drive = Drive(trust=trust())
        low, high = release(5), release(6)
        sent = low.all_odata()
        drive.give([low.spm()])
        for tenth in range(1, 200):
            now = tenth * SECOND // 10
            drive.give([high.spm(), low.spm(), high.spm()], now=now)
            drive.give([*low.nodes(), *leaves(low), sent[tenth % len(sent)]], now=now)
            if tenth < 50:
                assert drive.machine.manifest == high.manifest
        assert drive.machine.manifest == low.manifest
        assert drive.is_complete
        assert sum(isinstance(one, Superseded) for one in drive.seen) == 2

    def test_one_of_which_something_came_is_not_left_for_a_lower_one(self) -> None:
        # spec: TRU-8
        drive = Drive(trust=trust())
        low, high = release(5), release(6)
        drive.give([high.spm(), *leaves(high), *high.all_odata()[:1]])
        for second in range(1, 30):
            now = second * SECOND
            assert refused(drive, [low.spm()], now=now) == {"rollback": 1}

    def test_that_does_not_fit_takes_nothings_place(self) -> None:
        # spec: TRU-8
        low = release(5)
        high = make_signed(9_000, release=6, created=MADE)
        policy = OneObject(None, 5 * SECOND, lambda size: size < 5_000, is_chosen=True)
        drive = Drive(trust=trust(), policy=policy)
        drive.give([low.spm()])
        assert refused(drive, [high.spm()]) == {"disk": 1}
        drive.give([low.spm()])
        assert drive.machine.manifest == low.manifest

    def test_one_of_another_stream_waits_for_silence(self) -> None:
        drive = Drive(trust=trust())
        other = release(9, stream="example/bridge")
        drive.give([release(5).spm()])
        assert refused(drive, [other.spm()]) == {"object": 1}
        drive.give([other.spm()], now=6 * SECOND)
        assert drive.machine.manifest == other.manifest

    @given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(0, 8))
    def test_no_order_of_announcements_goes_down(self, numbers: list[int], floor: int) -> None:
        drive = Drive(trust=trust(floors=[Floor(floor, 1)]))
        for number in numbers:
            drive.give([release(number).spm()])
        taken = [
            one.manifest.release.number
            for one in drive.seen
            if isinstance(one, Adopted) and one.manifest.release
        ]
        assert taken == sorted(set(taken))
        assert all(number > floor for number in taken)
        if max(numbers) > floor:
            assert taken[-1] == max(numbers)


class TestNothingUnsigned:
    def test_data_before_the_manifest(self) -> None:
        # spec: TRU-1
        sample = release()
        drive = Drive(trust=trust())
        assert refused(drive, sample.all_odata()) == {"unsigned": sample.manifest.symbols}
        assert drive.machine.transfers == {}
        assert drive.machine.heard is None
        assert drive.machine.deadline is None

    def test_a_strangers_object_too_large_for_anything(self) -> None:
        huge = replace(make_object(SIZE).manifest, size=1 << 62)
        spm = packet(
            PacketType.SPM,
            signed_spm(huge.raw, [sign(huge.raw, private_key(1))]).build(),
            **(make_object(SIZE).fields | {"oid": huge.oid, "size": huge.size}),
        )
        drive = Drive(trust=trust())
        assert refused(drive, [spm]) == {"too_large": 1}
        assert drive.machine.deadline is None

    def test_data_of_other_objects_beside_it(self) -> None:
        drive = Drive(trust=trust())
        drive.give([release().spm()])
        strangers = [make_object(SIZE).odata([0], oid=oid)[0] for oid in range(1, 65)]
        assert refused(drive, strangers) == {"object": 64}
        assert drive.machine.current is not None
        assert list(drive.machine.transfers) == [release().manifest.oid]

    def test_spms_of_the_object_are_not_checked_again(self) -> None:
        # spec: TRU-5
        key = CountingKey()
        drive = Drive(trust=Trust([key], unix_time=lambda: MADE))
        drive.give([release().spm(sqn=n) for n in range(100)], limit=1)
        assert key.checks == 1

    def test_those_that_wait_are_checked_once(self) -> None:
        drive = Drive(trust=trust())
        drive.give([release(5).spm()])
        other = release(9, stream="example/bridge").spm()
        assert refused(drive, [other] * 1_000) == {"object": 1_000}
