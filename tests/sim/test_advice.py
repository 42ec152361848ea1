"""What a comparison advises, of cases with the times that it is about."""

import pytest

from pgmlite.sim.advice import advise
from pgmlite.sim.cases import CURVE, Case
from pgmlite.sim.plan import LossPattern, Mode, Plan, Setting


def case(mode: Mode, last: float, receivers: int = 10, half: float = 1.0) -> Case:
    return Case(
        size=1_000_000,
        rate=20_000_000,
        loss=LossPattern(mean=0.05),
        receivers=receivers,
        mode=mode,
        repetitions=1,
        unfinished=0,
        half=half,
        most=last,
        last=last,
        last_error=0.0,
        lengths=last,
        lengths_error=0.0,
        theory=None,
        theory_time=None,
        wire_bytes=last * 1e6,
        rdata=0.0,
        naks=0.0,
        naks_suppressed=0.0,
        ncfs=0.0,
        curve=tuple([last] * len(CURVE)),
    )


def said(*cases: Case, repair_share: float = 0.5) -> str:
    return advise(Plan(setting=Setting(repair_share=repair_share)), cases)


def test_repair_symbols_are_advised_where_they_gain() -> None:
    text = said(case(Mode.CAROUSEL, 4.0), case(Mode.FEC, 1.0))
    assert text.startswith("Use repair symbols, as `send` does")
    assert "4.0 times sooner" in text
    assert "75% fewer bytes" in text
    assert said(case(Mode.CAROUSEL, 1.0), case(Mode.FEC, 1.0)).startswith("Repair symbols gain no")
    text = said(
        case(Mode.CAROUSEL, 4.0, 10),
        case(Mode.FEC, 1.0, 10),
        case(Mode.CAROUSEL, 1.0, 1),
        case(Mode.FEC, 1.0, 1),
    )
    assert "Use repair symbols for 10 receivers at loss 0.05" in text
    assert "For 1 receiver at loss 0.05 they make no difference" in text


@pytest.mark.parametrize(
    ("mode", "way"), [(Mode.FEC_NAK, "`send --repair`"), (Mode.REPAIRER, "`repair`")]
)
def test_naks_beside_repair_symbols_are_not_praised_for_nothing(mode: Mode, way: str) -> None:
    text = said(case(Mode.FEC, 1.05), case(mode, 1.0))
    assert text.startswith(f"{way} hardly matters beside them")
    assert "1.05 times as soon" in text
    for use in ("--cycles", "--order blocks", "fall silent"):
        assert use in text
    assert "gains beside them for 10 receivers" in said(case(Mode.FEC, 2.0), case(mode, 1.0))


def test_naks_without_repair_symbols_stand_beside_them() -> None:
    plain, fec = case(Mode.CAROUSEL, 4.0), case(Mode.FEC, 1.0)
    text = said(plain, fec, case(Mode.NAK, 2.2))
    assert "NAKs without repair symbols take 2.2 times as long as these" in text
    assert "NAKs" not in said(plain, fec, case(Mode.NAK, 1.0))


def test_naks_alone_are_judged_by_the_carousel() -> None:
    plain = case(Mode.CAROUSEL, 4.0)
    text = said(plain, case(Mode.NAK, 2.0), repair_share=0.9)
    assert text.startswith("Use `send --repair --repair-share 90%` if packets can travel back")
    assert "done no sooner, or later, for 10 receivers at loss 0.05" in text
    assert "no sooner" not in said(plain, case(Mode.NAK, 2.0, half=0.5))
    assert said(plain, case(Mode.NAK, 3.9)).startswith("Use the carousel alone")
    mixed = said(plain, case(Mode.NAK, 2.0), case(Mode.CAROUSEL, 1.0, 1), case(Mode.NAK, 1.0, 1))
    assert mixed.startswith("It depends. Use `send --repair` for 10 receivers")


def test_several_senders_are_told_beside_one() -> None:
    text = said(case(Mode.FEC, 1.0), case(Mode.SENDERS, 0.51))
    assert text == "2 senders with a share of the ring each take 0.51 of the time of one."


def test_what_is_alone_is_not_judged() -> None:
    assert said(case(Mode.FEC, 1.0)) == ""
    assert said(case(Mode.CAROUSEL, 1.0), case(Mode.FEC, 1.0, receivers=11)) == ""
