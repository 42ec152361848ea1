"""The schema of ``--json``: it knows every event, and takes nothing else."""

import json
from pathlib import Path

import pytest

from pgmlite.cli.json_lines import SCHEMA, by_capture, line
from pgmlite.core.causes import CAUSES
from pgmlite.core.events import Adopted, Damaged, Event, Hooked, Stopped, Superseded, Warned
from pgmlite.core.figures import HookEnding, SendFigures
from pgmlite.errors import DiskError
from tests.support import event_schema
from tests.support.builders import make_object
from tests.support.event_schema import complaints, read_line

SPEC = Path(__file__).parents[2] / "spec" / "events.json"
FIGURES = SendFigures(1.5, 0.25, 9, 900, 8, 0, None, 0)
ENDING = HookEnding(None, "SIGKILL", timed_out=True, seconds=2.5, error="killed")
MANIFEST = make_object(1_000, name="größe").manifest

EVENTS = [
    Adopted(5, MANIFEST, 10, 3),
    Superseded(5, 1, (1 << 64) - 1),
    Damaged(5, 7, 0),
    Warned(5, "in words"),
    Warned(5, "in words", "silence", {"seconds": 5.25}),
    Warned(5, "in words", "buffer"),
    Hooked(5, "started", 1, 7, "/x", "sh"),
    Hooked(5, "failed", 1, 7, "/x", "sh", ENDING),
    Stopped(5, "finished", None, FIGURES, None),
    Stopped(5, "full", DiskError("full"), FIGURES, None),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: one.NAME)
def test_events_are_lines(event: Event) -> None:
    said = read_line(json.dumps(line(event, 2)))
    assert (said["event"], said["at"]) == (event.NAME, 3e-9)


def test_what_a_line_says() -> None:
    assert line(EVENTS[1], 0, by_capture) == {
        "event": "superseded",
        "schema": 1,
        "time": "1970-01-01T00:00:00.000Z",
        "at": 5e-9,
        "oid": "0000000000000001",
        "by": "f" * 16,
        "by_release": None,
    }
    adopted = line(EVENTS[0], 0)
    assert adopted["oid"] == f"{MANIFEST.oid:016x}"
    assert (adopted["name"], adopted["rate"], adopted["stored"]) == ("größe", 10, 3)
    finished, full = line(EVENTS[-2], 0), line(EVENTS[-1], 0)
    assert (finished["exit_code"], "error" in finished) == (0, False)
    assert (full["exit_code"], full["error"]) == (7, "full")
    assert "code" not in line(EVENTS[6], 0)
    assert (line(EVENTS[7], 0)["code"], line(EVENTS[7], 0)["seconds"]) == (None, 2.5)


HEAD = {"schema": SCHEMA, "time": "2026-12-01T04:40:01.123Z", "at": 0}
NAK = HEAD | {
    "event": "nak",
    "endpoint": ["::1", 9],
    "symbols": [[1, 1]],
    "counts": [[2, 3]],
    "packet": "",
}
FATE = {"forged": 0, "waits_for": 0, "is_dropped": False, "set_aside": 0}
DAMAGED = HEAD | {"event": "damaged", "oid": "0" * 16, "block": 1} | FATE
WARNING = HEAD | {"event": "warning", "warning": "x", "cause": "nak"}


@pytest.mark.parametrize("said", [NAK, DAMAGED, WARNING], ids=lambda one: one["event"])
def test_such_lines_are_right(said: dict) -> None:
    assert read_line(json.dumps(said)) == said


WRONG = [
    HEAD | {"event": "nothing"},
    {key: value for key, value in DAMAGED.items() if key != "block"},
    DAMAGED | {"schema": SCHEMA + 1},
    DAMAGED | {"time": "2026-12-01 04:40:01"},
    DAMAGED | {"at": "0"},
    DAMAGED | {"oid": "0" * 15},
    DAMAGED | {"block": -1},
    DAMAGED | {"block": "1"},
    DAMAGED | {"block": True},
    DAMAGED | {"more": 1},
    WARNING | {"cause": "unheard-of"},
    WARNING | {"seconds": 1},
    HEAD | {"event": "failed", "error": "x"},
    NAK | {"endpoint": ["::1"]},
    NAK | {"symbols": [[1]]},
    NAK | {"counts": [3]},
    NAK | {"packet": "0"},
]


@pytest.mark.parametrize("said", WRONG, ids=json.dumps)
def test_other_lines_are_refused(said: dict) -> None:
    with pytest.raises(AssertionError):
        read_line(json.dumps(said))


@pytest.mark.parametrize("more", [{"more": 1}, {"fates": [{"more": {}}]}], ids=json.dumps)
def test_the_published_schema_bears_what_is_added(more: dict) -> None:
    """A reader that checks lines by it must not break when keys come in addition."""
    assert not list(complaints(DAMAGED | more, json.loads(SPEC.read_text())))


def test_the_schema_is_up_to_date() -> None:
    assert SPEC.read_text() == event_schema.text(), "run: python -m tests.generate"


def test_the_page_names_every_event_and_every_cause() -> None:
    page = SPEC.with_suffix(".md").read_text()
    assert f"the version of this page: {SCHEMA} |" in page
    for word in {kind.NAME for kind in event_schema.classes()} | CAUSES.keys():
        assert f"`{word}`" in page, word
