"""One heap of timers, against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.timers import SLACK, Timers
from tests.support.nak_builders import memory_kept

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "cancel", "due"]), st.integers(0, 9), st.integers(0, 9)
    )
)


@given(DEEDS)
def test_it_does_what_a_dictionary_of_times_does(deeds):
    timers: Timers[int] = Timers()
    model: dict[int, int] = {}
    for deed, key, at in deeds:
        match deed:
            case "set":
                timers.set(key, at)
                model[key] = at
            case "cancel":
                timers.cancel(key)
                model.pop(key, None)
            case "due":
                due = timers.due(at)
                assert set(due) == {k for k, when in model.items() if when <= at}
                times = [model.pop(k) for k in due]
                assert times == sorted(times)
        assert timers.deadline == min(model.values(), default=None)
        assert len(timers) == len(model)
        assert all(timers.at(k) == when for k, when in model.items())


def test_of_one_time_the_first_set_comes_first():
    timers: Timers[str] = Timers()
    for key in "cab":
        timers.set(key, 5)
    timers.set("c", 5)
    assert timers.due(5) == ["a", "b", "c"]


def test_a_timer_that_is_moved_for_ever_takes_no_memory():
    timers: Timers[int] = Timers()
    timers.set(0, 1)  # stays on top, so that nothing behind it surfaces

    def move():
        for at in range(100_000):
            timers.set(1, 10 + at)

    assert memory_kept(move) < 500 * SLACK
    assert timers.due(1 << 60) == [0, 1]
