"""Several pieces of work as one: who goes on when, and how all of them end."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import ExitStack, suppress

import pytest

import pgmlite
from pgmlite.core.events import Damaged, Event
from pgmlite.errors import DiskError, HookError, Interrupted, NetworkError, PgmliteError
from pgmlite.net.handle import Handle
from pgmlite.net.together import together
from pgmlite.net.waiting import Stop, Wait, Work
from tests.support.following import Air, completed, version
from tests.support.loopback import Running, endpoint

MS = 1_000_000


class Job:
    """Work that waits for a pipe, or for time, and notes how it goes."""

    def __init__(self, steps: int = 3, *, fd: int | None = None, error: Exception | None = None):
        self.notes: list[str] = []
        self._steps, self._fd, self._error = steps, fd, error

    def start(self, tell):
        try:
            for step in range(self._steps):
                tell(Damaged(step, 0, step))
                ready = yield Wait(60_000 * MS, (self._fd,)) if self._fd else Wait(0)
                if ready:
                    self.notes.append(os.read(ready[0], 1).decode())
            if self._error:
                raise self._error
        except Interrupted:
            yield Wait(MS)
            self.notes.append("a last word")
            raise
        finally:
            self.notes.append("closed")
        return self._steps


def run(jobs: dict[str, Job], stop: Stop | None = None) -> tuple[Work, list[Event]]:
    happened: deque[Event] = deque()
    starts = {name: job.start for name, job in jobs.items()}
    work = Work(together(starts, happened.append), happened, stop or Stop())
    events = []
    with suppress(PgmliteError):  # it is in `work`
        for event in work.run():
            events.append(event)  # noqa: PERF402 - those before an error, too
    return work, events


def test_each_returns_what_it_returns_and_its_events_have_its_name():
    work, events = run({"a": Job(2), "b": Job(3)})
    assert work.result == (2, 3)
    said = [(event.job, event.at) for event in events]
    assert [one for one in said if one[0] == "a"] == [("a", 0), ("a", 1)]
    assert said[:2] == [("a", 0), ("b", 0)]  # in turn


def test_what_can_be_read_wakes_whose_it_is_and_nobody_else():
    with ExitStack() as opened:
        ends = [os.pipe() for _ in range(3)]
        for one in ends:
            for fd in one:
                opened.callback(os.close, fd)
        jobs = {str(n): Job(1, fd=ends[n][0]) for n in range(3)}
        waits = together({name: job.start for name, job in jobs.items()}, lambda event: None)
        wait = waits.send(None)
        assert set(wait.fds) == {one[0] for one in ends}
        os.write(ends[1][1], b"x")
        wait = waits.send([ends[1][0]])
        assert [job.notes for job in jobs.values()] == [[], ["x", "closed"], []]
        assert set(wait.fds) == {ends[0][0], ends[2][0]}
        assert 0 <= wait.time <= 100 * MS
        waits.throw(Interrupted("enough"))
        with pytest.raises(Interrupted):
            deque(iter(lambda: waits.send([]), None))
    assert all(job.notes[-1] == "closed" for job in jobs.values())


def test_one_that_fails_ends_no_other_and_the_worst_is_raised():
    jobs = {
        "a": Job(2, error=NetworkError("a")),
        "b": Job(5, error=HookError("b")),
        "c": Job(3, error=DiskError("c")),
        "d": Job(40),
    }
    work, _ = run(jobs)
    assert str(work.error) == "b"
    assert all(job.notes == ["closed"] for job in jobs.values())


@pytest.mark.parametrize("early", [True, False])
def test_what_interrupts_one_interrupts_all_and_each_ends_in_order(early):
    stop = Stop()
    jobs = {"a": Job(10**9), "b": Job(10**9)}
    if early:
        stop.ask("enough")
    else:
        jobs["c"] = Job(50, error=NetworkError("c"))

    class Ends(Job):
        def start(self, tell):
            yield Wait(0)
            stop.ask("enough")

    work, _ = run(jobs | {"z": Ends()}, stop)
    assert isinstance(work.error, Interrupted)
    if not early:
        assert [job.notes for job in jobs.values()] == [["a last word", "closed"]] * 3


def test_of_a_program_two_receivers_are_one(tmp_path):
    one, two = version(1), version(2)
    places = endpoint(), endpoint()
    names = ("one", "two")
    with Air(places[0], one), Air(places[1], two):
        handles: dict[str, Handle] = {
            name: pgmlite.receive(tmp_path / name, group=p.group, port=p.port, interface="lo")
            for name, p in zip(names, places, strict=True)
        }
        results = asyncio.run(_awaited(pgmlite.together(handles)))
    assert [done.manifest.name for done in results] == ["v1", "v2"]
    assert (tmp_path / "two").read_bytes() == two.data


async def _awaited(handle):
    return await handle


def test_of_a_file_several_are_followed_at_once(tmp_path):
    one, two, three = version(1), version(2), version(3)
    places = endpoint(), endpoint(), endpoint()
    text = 'interface = "lo"\nfollow = true\n'
    for number, place in enumerate(places):
        text += f'[t{number}]\noutput = "{tmp_path}/{number}"\ngroup = "{place.group}"\n'
        text += f"port = {place.port}\n"
    text += 'follow = false\ntimeout = "50ms"\n'
    config = tmp_path / "c.toml"
    config.write_text(text)
    with (
        Air(places[0], one) as air,
        Air(places[1], two),
        Running("recv", "--config", config, "--json", env={"PGMLITE_STATE": str(tmp_path)}) as many,
    ):
        many.event("failed", lambda event: event["job"] == "t2")
        many.event("complete", lambda event: event["job"] == "t1")
        air.send(three)
        many.event("complete", lambda event: event["name"] == "v3")
        ended = many.stop()
    assert ended.code == 5  # of the one that gave up; the others went on
    assert sorted(completed(ended))[-2:] == ["v2", "v3"]
    assert all(event["job"] for event in ended.events)
    assert {e["job"] for e in ended.events if e["event"] == "stopped"} == {"t0", "t1"}
