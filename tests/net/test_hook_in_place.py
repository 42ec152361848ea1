"""Hooks where the output was the announced object already: nothing is renamed."""

import os
from types import SimpleNamespace

import pytest

from pgmlite.errors import DiskError
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.waiting import Wait, Waits
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import Phase, Publication, PublishedRecord
from tests.support.builders import make_object
from tests.support.hooks import Site, phases
from tests.support.loopback import Ended, Inside, endpoint


@pytest.fixture
def inside(monkeypatch, capfd):
    return Inside(monkeypatch, capfd)


@pytest.fixture
def site(tmp_path, inside):
    return Site(tmp_path, inside)


@pytest.fixture
def in_place(site, monkeypatch):
    """Run `recv` whose loop finds the announced object in place."""

    def recv(name: str, script: str = "") -> Ended:
        def done(loop: ReceiveLoop) -> Waits[SimpleNamespace]:
            yield Wait(0)
            return SimpleNamespace(manifest=make_object(1_000, name=name).manifest)

        monkeypatch.setattr(ReceiveLoop, "run", done)
        monkeypatch.setattr(PartFile, "publish", lambda part, complete: False)
        return site.receive(endpoint(), script)

    return recv


def test_in_place_without_a_record_it_runs_once(site, in_place):
    site.output.write_bytes(make_object(1_000).data)
    assert phases(in_place("new")) == [("started", 1), ("done", 1)]
    again = in_place("new")
    assert (again.code, phases(again)) == (0, [])
    assert site.attempts == [1]


@pytest.mark.parametrize("change", ["object", "file", "record"])
def test_in_place_it_runs_for_what_the_record_does_not_name(site, in_place, change):
    publication = site.publish("old").start().end()
    record = PublishedRecord(site.output, pytest.fail)
    record.write(publication)
    record.close()
    assert in_place("old").code == 0
    assert site.attempts == []  # it is done
    if change == "file":
        os.utime(site.output, ns=(0, 0))
    elif change == "record":
        site.record.write_text("{}")
    ended = in_place("new" if change == "object" else "old")
    assert (ended.code, phases(ended)) == (0, [("started", 1), ("done", 1)])
    assert site.publication().name == ("new" if change == "object" else "old")


def test_in_place_what_was_done_at_the_start_does_not_run_again(site, in_place):
    site.publish("old", attempts=3)
    ended = in_place("old")
    assert (ended.code, phases(ended)) == (0, [("started", 4), ("done", 4)])


def test_in_place_what_failed_at_the_start_fails_without_running_again(site, in_place):
    site.publish("old")
    ended = in_place("old", "exit 5")
    assert ended.code == 8
    assert "exit code 5" in ended.error
    assert phases(ended) == [("started", 1), ("failed", 1)]
    other = in_place("new", "test $PGMLITE_ATTEMPT = 1")
    assert other.code == 0
    assert phases(other) == [("started", 2), ("failed", 2), ("started", 1), ("done", 1)]


def test_a_hook_that_another_receiver_runs_is_left_to_it(site, in_place, monkeypatch):
    monkeypatch.setattr("pgmlite.net.completion.PATIENCE", 0)
    site.publish("old")
    other = PublishedRecord(site.output, pytest.fail)
    assert other.read()
    ended = in_place("old")
    assert ended.code == 8
    assert "another receiver" in ended.error
    assert phases(ended) == []
    other.close()
    assert in_place("old").code == 0
    assert site.attempts == [1]


def test_what_another_receiver_published_meanwhile_keeps_its_record(site, in_place):
    site.publish("old")
    fresh = site.folder / "fresh"
    script = f"cp out.pgmlite {fresh}; mv {fresh} out.pgmlite"
    assert in_place("old", script).code == 0
    assert site.publication().phase is Phase.STARTED


def test_a_record_that_can_not_be_written_keeps_the_hook_from_running(site, in_place, monkeypatch):
    site.publish("old")
    monkeypatch.setattr("pgmlite.storage.record.PublishedRecord.write", _no_space)
    ended = in_place("old")
    assert ended.code == 8
    assert "No space" in ended.error
    assert site.attempts == []


def _no_space(record: PublishedRecord, publication: Publication) -> None:
    raise DiskError(f"record {record.path}: No space left on device")


def test_a_hook_whose_end_can_not_be_recorded_is_done_all_the_same(site, in_place, monkeypatch):
    site.publish("old")
    write = PublishedRecord.write

    def no_end(record: PublishedRecord, publication: Publication) -> None:
        (_no_space if publication.phase is Phase.DONE else write)(record, publication)

    monkeypatch.setattr("pgmlite.storage.record.PublishedRecord.write", no_end)
    ended = in_place("old")
    assert ended.code == 0
    assert any("No space" in line for line in ended.stderr)
    assert site.publication().phase is Phase.STARTED
