"""What a service manager is told, by a clock of the test."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from pgmlite.core.events import Adopted, Completed, InPlace, ReceiveStarted, Warned
from pgmlite.core.machine import SECOND
from pgmlite.net.handle import Handle
from pgmlite.net.notify import Notifier, told_of
from pgmlite.net.waiting import Wait
from tests.support.following import service_manager, version

STARTED = ReceiveStarted(0, "239.1.2.3", 9, "lo", (), 1, "out", ())


@pytest.fixture
def manager():
    with service_manager() as one:
        yield one


@pytest.fixture
def notifier(manager):
    with ExitStack() as opened:

        def make(*jobs: str, **extra: str) -> Notifier:
            made = Notifier.of({"NOTIFY_SOCKET": manager.address} | extra, jobs or ("",))
            assert made
            opened.callback(made.close)
            return made

        yield make


def said(manager, of: Notifier) -> list[str]:
    """Return what was told since the last time."""
    of.stopping()
    manager.hears("STOPPING=1")
    told, manager.said = manager.said[:-1], []
    return told


def test_ready_is_told_when_all_are(manager, notifier):
    # spec: FOL-7
    of = notifier("a", "b")
    of.take(InPlace(0, "out", 1, "x", "", 0, job="a"))
    of.take(ReceiveStarted(0, "239.1.2.3", 9, "lo", (), 1, "out", (), job="a"))
    of.take(ReceiveStarted(0, "239.1.2.3", 9, "lo", (), 1, "out", (), job="nobody"))
    assert said(manager, of) == []
    of.take(Warned(0, "no interface", "retry", {"seconds": 1.0}, job="b"))
    assert said(manager, of) == ["READY=1"]
    of.take(ReceiveStarted(0, "239.1.2.3", 9, "lo", (), 1, "out", (), job="b"))
    assert said(manager, of) == []


def test_a_sign_of_life_twice_in_the_time_that_is_given(manager, notifier):
    # spec: FOL-7
    of = notifier(WATCHDOG_USEC="2000000", WATCHDOG_PID=str(os.getpid()))
    told = []
    for tenth in range(100):
        of.live(SECOND + tenth * SECOND // 10)
        told += said(manager, of)
    assert told.count("WATCHDOG=1") == 10


def test_what_was_not_taken_is_told_again(manager, notifier):
    # spec: FOL-7
    of = notifier(WATCHDOG_USEC="2000")
    for second in range(2_000):  # nobody reads: there is no more room
        of.live(second * SECOND)
    of.take(STARTED)
    while not {"READY=1", "STOPPING=1"} & set(manager.said):
        manager.said.clear()
        manager.hears("")
        of.live(3_000 * SECOND)
    assert "READY=1" in manager.said


@pytest.mark.parametrize(
    "extra",
    [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}],
    ids=["none", "junk", "of another"],
)
def test_without_a_time_there_is_none(manager, notifier, extra):
    of = notifier(**extra)
    of.live(SECOND)
    assert "WATCHDOG=1" not in said(manager, of)


def test_how_it_goes_is_told_when_it_changes_and_not_often(manager, notifier):
    # spec: FOL-7
    of = notifier()
    manifest = version(1).manifest
    of.take(STARTED)
    of.live(10 * SECOND)
    assert said(manager, of) == ["READY=1", "STATUS=waiting"]
    of.take(Adopted(0, manifest, 0))
    of.live(12 * SECOND)
    assert said(manager, of) == []
    of.live(15 * SECOND)
    assert said(manager, of) == ["STATUS=receiving v1"]
    of.live(60 * SECOND)
    assert said(manager, of) == []
    of.take(Completed(0, manifest, "out", True, 0, (), {}, (), None))
    of.live(70 * SECOND)
    assert said(manager, of) == ["STATUS=v1 in place; waiting"]


def test_of_several_each_is_named(manager, notifier):
    of = notifier("a", "b")
    of.live(SECOND)
    assert said(manager, of) == ["STATUS=a: starting | b: starting"]


def test_nobody_is_told_where_nobody_asked():
    def work(tell):
        yield Wait(0)
        return 7

    handle = Handle(work)
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}):
        assert told_of(handle, environment) is handle
    # One that is gone is no reason to end.
    gone = told_of(handle, {"NOTIFY_SOCKET": "/nosuch/socket", "WATCHDOG_USEC": "1000"})
    assert gone.run() == 7
