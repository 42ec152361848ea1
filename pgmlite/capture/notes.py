"""What there is to say of a capture as a file, beside the packets in it."""

from __future__ import annotations

from collections import Counter

from pgmlite.capture.clock import Step
from pgmlite.capture.file import Capture, Damage, foreign_links
from pgmlite.capture.frames import LINK_TYPES
from pgmlite.core.figures import CaptureFigures, ClockStep, DamagedPlace
from pgmlite.core.machine import SECOND

SHOWN = 4
"""Places of a kind that are named one by one."""

WORDS = {"cut": "cut by the capture", "checksum": "with a wrong UDP checksum"}
"""Reasons whose names say too little to people."""


def reasons(counts: Counter[str]) -> str:
    """Return counts by reason for people."""
    return ", ".join(
        f"{count} {WORDS.get(reason, reason.replace('_', ' '))}"
        for reason, count in sorted(counts.items())
    )


def capture_figures(capture: Capture) -> CaptureFigures:
    """Return what there is to say of a capture in figures."""
    return CaptureFigures(
        skipped=dict(sorted(capture.skipped.items())),
        is_cut=capture.is_cut,
        damaged_places=tuple(DamagedPlace(one.at, one.what, one.until) for one in capture.damages),
        clock_steps=tuple(
            ClockStep(one.packet, round(one.by / SECOND, 6)) for one in capture.clock.steps
        ),
    )


def notes(capture: Capture) -> list[str]:
    """Return what is wrong with a capture as far as it was read: damage, and clocks."""
    said = [_damage(capture, damage) for damage in capture.damages[:SHOWN]]
    said += _more(capture.damaged, "damaged places")
    said += [_step(step) for step in capture.clock.steps[:SHOWN]]
    return said + _more(capture.clock.count, "steps of the clock")


def hints(capture: Capture) -> list[str]:
    """Return how more of the packets in a capture might be had."""
    said = []
    wrong, checked = capture.skipped["checksum"], capture.tally.checked
    if wrong * 2 > checked:
        said.append(
            f"the UDP checksums of {wrong} of {checked} datagrams are wrong; perhaps they were "
            "never computed, because that was left to a network card: --no-checksum takes them"
        )
    if capture.skipped["cut"]:
        said.append("tcpdump -s0 keeps packets whole")
    return said


def _more(count: int, what: str) -> list[str]:
    return [f"and {count - SHOWN} more {what}"] if count > SHOWN else []


def _damage(capture: Capture, damage: Damage) -> str:
    how = " once unpacked" if capture.compression else ""
    after = ""
    if damage.until is None:
        after = ", and nothing behind it can be read"
    elif damage.until != damage.at:
        after = f", read on from byte {damage.until}"
    return f"damaged at byte {damage.at}{how}: {damage.what}{after}"


def _step(step: Step) -> str:
    seconds = f"{abs(step.by) / SECOND:.0f} s"
    if step.begins:
        where = "before" if step.by < 0 else "after"
        return (
            f"packet {step.packet} begins another interface or capture, {seconds} {where} what is "
            "stored ahead of it: read as if it came next"
        )
    if step.by < 0:
        return f"the clock goes back by {seconds} at packet {step.packet}: read as if it did not"
    return (
        f"the clock goes forward by {seconds} at packet {step.packet}, or nothing came for so "
        "long: read as if neither"
    )


def why_none(capture: Capture, refused: Counter[str]) -> str:
    """Return why a capture has no packets of ours, as the end of a sentence.

    Args:
        refused: Datagrams that are none, by reason.
    """
    said = []
    if capture.skipped:
        said.append(f"skipped: {reasons(capture.skipped)}")
    if refused:
        said.append(f"other UDP datagrams: {reasons(refused)}")
    text = f" ({'; '.join(said)})" if said else ""
    if capture.links - LINK_TYPES.keys():
        text += f"; {foreign_links(capture)}"
    return "; ".join([text, *hints(capture), *notes(capture)])
