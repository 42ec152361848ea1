"""What a receiver with keys says of objects that it does not take, and at the end."""

from __future__ import annotations

import pytest

from pgmlite.core.machine import SECOND
from pgmlite.core.receive.diagnosis import Diagnosis, Load
from pgmlite.core.trust import Floor, Trust
from tests.support.builders import Drive, Sample, make_object
from tests.support.signed import STREAM, SignedSample, key_id, private_key
from tests.support.trusting import MADE, SIZE, release, trust


def watched(drive: Drive) -> Diagnosis:
    return Diagnosis(drive.machine, "GROUP", overhead=48, granted=1 << 20, wanted=1 << 20)


@pytest.mark.parametrize(
    ("announced", "whose", "words"),
    [
        (release(4), trust(floors=[Floor(5, 1)]), "release 4 of {stream} is an older release"),
        (release(5), trust(floors=[Floor(5, 1)]), "another object that is release 5 of {stream}"),
        (release(4), trust(stream="mine"), "as a release of {stream}: another stream"),
        (release(4, expires=MADE + 9), trust(), "release 4 of {stream} has expired"),
        (release(4), trust(1), "signed by {key}, but by no key"),
        (make_object(SIZE, name="fw.bin"), trust(), "not signed"),
    ],
)
def test_what_is_announced_is_named_with_what_keeps_it_away(
    announced: Sample, whose: Trust, words: str
) -> None:
    # spec: TRU-3
    drive = Drive(trust=whose)
    diagnosis = watched(drive)
    drive.give([*announced.all_odata(), announced.spm()])
    (found,) = [one for one in diagnosis.look(SECOND, Load()) if one.cause == "object"]
    late = diagnosis.why_late(2 * SECOND)
    words = words.format(stream=STREAM, key=key_id(private_key(0)).hex())
    assert words in found.text
    assert drive.refused[found.facts["reason"]]
    assert words in late
    assert "nothing that came to GROUP is to be taken" in late
    is_unsigned = not isinstance(announced, SignedSample)
    assert (" unsigned" in late) == is_unsigned, "that data came is no reason of its own"


def test_an_object_that_was_asked_for_and_is_refused_did_come() -> None:
    drive = Drive(trust=trust(1), oid=release(4).manifest.oid)
    drive.give([release(4).spm()])
    assert "did not come" not in watched(drive).why_late(SECOND)
