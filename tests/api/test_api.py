"""Programs that send, receive and repair: to the end, event by event, with and without asyncio."""

import asyncio
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import pgmlite
from pgmlite.core.events import (
    Adopted,
    Completed,
    Event,
    Hashing,
    ReceiveFailed,
    ReceiveProgress,
    ReceiveStarted,
    Stopped,
    Warned,
)
from pgmlite.core.events_listening import Joined, Left
from pgmlite.errors import DiskError, Interrupted, TimedOut, UsageError
from tests.support.loopback import BLOCK, LO, PATIENCE, endpoint, make_file, sending

SMALL = 5_000


@pytest.fixture
def place():
    return endpoint()


@pytest.fixture
def where(place):
    """The arguments that say where."""
    return {"group": place.group, "port": place.port, "interface": LO}


@pytest.fixture
def carousel(tmp_path, place):
    """A small file on the air."""
    source = make_file(tmp_path / "source.bin", SMALL)
    with sending(source, place, rate="10M") as sender:
        sender.event("start")
        yield source


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def open_files() -> set[str]:
    """Return what this process has open."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(f"{fd} {fd.readlink()}")
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No descriptor and no thread stays, however a test ends."""
    files, threads = open_files(), set(threading.enumerate())
    yield
    # What pytest itself and asyncio keep is the same before and after.
    assert not {one for one in open_files() - files if "/proc/" not in one}
    assert set(threading.enumerate()) <= threads


# To the end.


def test_a_file_is_received(tmp_path, where, carousel):
    done = pgmlite.receive(tmp_path / "copy", **where, timeout=PATIENCE).run()
    assert (tmp_path / "copy").read_bytes() == carousel.read_bytes()
    assert (done.path, done.manifest.name, done.is_new) == (
        str(tmp_path / "copy"),
        "source.bin",
        True,
    )
    again = pgmlite.receive(str(tmp_path / "copy"), **where, oid=done.manifest.oid).run()
    assert not again.is_new


def test_a_file_is_sent(tmp_path, where):
    source = make_file(tmp_path / "source", SMALL)
    stopped = pgmlite.send(source, **where, cycles=2).run()
    assert (stopped.reason, stopped.error, stopped.figures.cycles) == ("finished", None, 2)


def test_an_error_is_one_of_ours_and_the_last_event_carries_it(tmp_path, where):
    events: list[Event] = []
    with pytest.raises(TimedOut, match="no valid packet") as caught:
        events.extend(pgmlite.receive(tmp_path / "copy", **where, timeout=0.2))
    assert kinds(events) == [ReceiveStarted, Joined, Left, ReceiveFailed]
    assert events[-1].error is caught.value
    with pytest.raises(DiskError, match="nosuch"):
        pgmlite.send(tmp_path / "nosuch", **where).run()


WRONG = [
    (pgmlite.receive, {"timeout": 0}, "timeout"),
    (pgmlite.receive, {"hook_timeout": -1}, "hook_timeout"),
    (pgmlite.receive, {"on_complete": "/no/such/command"}, "on_complete"),
    (pgmlite.receive, {"loss": 2}, "loss"),
    (pgmlite.send, {"duration": float("nan")}, "duration"),
    (pgmlite.send, {"hops": 0}, "hops"),
    (pgmlite.send, {"fec": 8}, "fec"),
    (pgmlite.send, {"order": "backwards"}, "order"),
    (pgmlite.send, {"channels": [("a", 20_000), ("b", 20_000)]}, "channel"),
    (pgmlite.send, {"channels": [("a", 20_000), ("b", 30_000)], "order": "blocks"}, "order"),
    (pgmlite.send, {"start": "150%"}, "start"),
    (pgmlite.send, {"start": "random", "order": "blocks"}, "start"),
    (pgmlite.repair, {"hops": 256}, "hops"),
]


@pytest.mark.parametrize(("call", "arguments", "cause"), WRONG, ids=str)
def test_a_wrong_argument_is_refused_by_the_call_itself(tmp_path, call, arguments, cause):
    with pytest.raises(UsageError, match=f"^{cause} ") as caught:
        call(tmp_path / "file", **arguments)
    assert caught.value.cause == cause
    assert not list(tmp_path.iterdir())


LATER = [
    (pgmlite.receive, {"repairers": ["[fd01::1]:9"]}, "repairer"),
    (pgmlite.send, {"repair": True, "listen": "x"}, "listen"),
]


@pytest.mark.parametrize(("call", "arguments", "cause"), LATER, ids=str)
def test_what_depends_on_group_or_file_is_refused_at_the_start(
    tmp_path, where, call, arguments, cause
):
    path = make_file(tmp_path / "file", SMALL)
    with pytest.raises(UsageError, match=f"^{cause} ") as caught:
        call(path, **where, **arguments).run()
    assert caught.value.cause == cause


def test_no_signal_is_taken_over_and_nothing_is_frozen_or_printed(tmp_path, where, carousel):
    code = (
        "import gc, signal, sys, pgmlite\n"
        "before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        f"pgmlite.receive(sys.argv[1], **{where}).run()\n"
        "assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        "assert gc.get_freeze_count() == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "copy"], capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_to_import_it_is_cheap():
    code = (
        "import sys, pgmlite; assert 'numpy' not in sys.modules; pgmlite.send; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    for name in ("pgmlite.cli", "asyncio", "click", "rich"):
        assert name not in loaded
    assert not [name for name in loaded if name.startswith("pgmlite.core.receive")]


def test_there_is_no_more_than_there_is():
    signing = {"add_signature", "keygen", "sign", "verify"}
    others = {"__version__", "list_sessions", "receive", "repair", "send", "together"}
    assert set(pgmlite.__all__) == others | signing
    with pytest.raises(AttributeError, match="nothing"):
        pgmlite.nothing  # noqa: B018


# Event by event.


def test_events_come_as_they_happen(tmp_path, where, carousel):
    with pgmlite.receive(tmp_path / "copy", **where) as transfer:
        with pytest.raises(UsageError, match="no result"):
            transfer.result  # noqa: B018
        events = list(transfer)
        assert transfer.result is events[-1]
    assert [kind for kind in kinds(events) if kind not in {Warned, ReceiveProgress}] == [
        ReceiveStarted,
        Joined,
        Adopted,
        Left,
        Completed,
    ]
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert events[0].at >= transfer.began


@pytest.mark.slow
def test_who_stops_to_listen_keeps_what_came(tmp_path, where, place):
    source = make_file(tmp_path / "source", 8 * BLOCK)
    copy, part = tmp_path / "copy", tmp_path / "copy.part"
    with sending(source, place, rate="4M"):
        with pgmlite.receive(copy, **where) as transfer:
            for event in transfer:
                if isinstance(event, ReceiveProgress) and event.stored:
                    break
        assert part.exists()
        assert not copy.exists()
        # It is locked no more.
        with pgmlite.receive(copy, **where) as transfer:
            adopted = next(event for event in transfer if isinstance(event, Adopted))
    assert adopted.stored >= event.stored > 0


def test_one_that_is_never_used_opens_nothing(tmp_path, where):
    with pgmlite.receive(tmp_path / "copy", **where):
        pass
    pgmlite.receive(tmp_path / "copy", **where).close()
    assert list(tmp_path.iterdir()) == []


def test_another_thread_can_stop_it(tmp_path, where):
    transfer = pgmlite.receive(tmp_path / "copy", **where)
    next(transfer)
    thread = threading.Thread(target=transfer.stop, args=["enough"])
    thread.start()
    with pytest.raises(Interrupted, match="enough"):
        transfer.run()
    thread.join()


def test_what_was_stopped_before_it_began_opens_nothing(tmp_path, where):
    transfer = pgmlite.receive(tmp_path / "copy", **where)
    transfer.stop()
    with pytest.raises(Interrupted, match="stopped"):
        transfer.run()
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_hashed_for_long_says_how_far_it_is_and_can_be_stopped(
    tmp_path, where, monkeypatch
):
    from pgmlite.net import hashing

    monkeypatch.setattr(hashing, "TELL_EVERY", 0)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pgmlite.send(huge, **where) as sender:
        first = later = next(sender)
        while isinstance(later, Hashing) and later.done == first.done:
            later = next(sender)
    assert isinstance(first, Hashing)
    assert isinstance(later, Hashing)
    assert 0 <= first.done < later.done < later.total == 1 << 40


@pytest.mark.slow
def test_a_repairer_and_a_sender_in_threads_of_one_process(tmp_path, where, place):
    source = make_file(tmp_path / "source", 2 * BLOCK)
    listen = f"127.0.0.1:{place.port + 1}"
    repairer = pgmlite.repair(source, **where, listen=listen)
    sender = pgmlite.send(source, **where, rate=20_000_000, repairers=[listen])

    def work(handle) -> None:
        with pytest.raises(Interrupted):
            handle.run()

    threads = [threading.Thread(target=work, args=[one]) for one in (repairer, sender)]
    for thread in threads:
        thread.start()
    try:
        done = pgmlite.receive(tmp_path / "copy", **where, loss=0.05, timeout=PATIENCE).run()
    finally:
        for one in (repairer, sender):
            one.stop()
        for thread in threads:
            thread.join()
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert done.figures.packets


# With asyncio.


def test_it_can_be_awaited(tmp_path, where, carousel):
    async def main() -> Completed:
        return await pgmlite.receive(tmp_path / "copy", **where, timeout=PATIENCE)

    done = asyncio.run(main())
    assert Path(done.path).read_bytes() == carousel.read_bytes()


def test_errors_are_the_same_when_it_is_awaited(tmp_path, where):
    async def main() -> None:
        async with pgmlite.receive(tmp_path / "copy", **where, timeout=0.2) as transfer:
            async for event in transfer:
                events.append(event)  # noqa: PERF401

    events: list[Event] = []
    with pytest.raises(TimedOut):
        asyncio.run(main())
    assert kinds(events) == [ReceiveStarted, Joined, Left, ReceiveFailed]


def test_a_sender_and_a_receiver_share_an_event_loop_that_goes_on(tmp_path, where):
    source = make_file(tmp_path / "source", 2 * BLOCK)
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    async def main() -> Completed:
        sender = asyncio.ensure_future(run(pgmlite.send(source, **where, rate=50_000_000)))
        heart = asyncio.create_task(beat())
        done = await pgmlite.receive(tmp_path / "copy", **where, timeout=PATIENCE)
        for task in (sender, heart):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return done

    async def run(handle) -> Stopped:
        return await handle

    done = asyncio.run(main())
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert done.network
    assert beats > 20


@pytest.mark.slow
@pytest.mark.parametrize("is_cancelled", [True, False])
def test_one_that_another_task_is_at_is_closed_all_the_same(tmp_path, where, place, is_cancelled):
    source = make_file(tmp_path / "source", 8 * BLOCK)
    transfer = pgmlite.receive(tmp_path / "copy", **where)
    seen = asyncio.Event()

    async def take() -> None:
        async for event in transfer:
            if isinstance(event, ReceiveProgress) and event.stored:
                seen.set()

    async def main() -> None:
        task = asyncio.create_task(take())
        await asyncio.wait_for(seen.wait(), PATIENCE)
        if is_cancelled:
            task.cancel()
            await asyncio.sleep(0)  # now it is ending what it was at
        await transfer.aclose()
        assert (tmp_path / "copy.part").exists()
        with suppress(asyncio.CancelledError, Interrupted):
            await task

    with sending(source, place, rate="4M"):
        asyncio.run(main())


@pytest.mark.slow
def test_a_task_that_is_cancelled_leaves_nothing_but_what_came(tmp_path, where, place):
    source = make_file(tmp_path / "source", 8 * BLOCK)
    copy = tmp_path / "copy"
    seen = asyncio.Event()

    async def take() -> None:
        async with pgmlite.receive(copy, **where) as transfer:
            async for event in transfer:
                if isinstance(event, ReceiveProgress) and event.stored:
                    seen.set()

    async def main() -> None:
        task = asyncio.create_task(take())
        await asyncio.wait_for(seen.wait(), PATIENCE)
        before = asyncio.all_tasks()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() < before
        assert (tmp_path / "copy.part").exists()
        async with pgmlite.receive(copy, **where) as transfer:  # it is locked no more
            assert isinstance(await anext(transfer), ReceiveStarted)

    with sending(source, place, rate="4M"):
        asyncio.run(main())
    assert not copy.exists()


def test_a_task_that_is_cancelled_while_a_command_runs_ends_that(tmp_path, where, carousel):
    pid = tmp_path / "pid"

    async def take() -> None:
        await pgmlite.receive(
            tmp_path / "copy",
            **where,
            on_complete=f"sh -c 'echo $$ > {pid}.tmp; mv {pid}.tmp {pid}; sleep 600 & wait'",
        )

    async def main() -> None:
        task = asyncio.create_task(take())
        while not pid.exists():
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    assert (tmp_path / "copy").read_bytes() == carousel.read_bytes()


def test_a_sender_that_hashes_can_be_cancelled(tmp_path, where):
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)

    async def main() -> None:
        async def send() -> None:
            await pgmlite.send(huge, **where)

        task = asyncio.create_task(send())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
