"""Plans: what can be asked for, and what is said of what can't."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.core.machine import MS
from pgmlite.errors import UsageError
from pgmlite.sim.plan import (
    Join,
    LossKind,
    LossPattern,
    LossShared,
    Method,
    Mode,
    Plan,
    Schedule,
    Setting,
    Trial,
)
from pgmlite.sim.planfile import parse_plan, plan_of
from pgmlite.sim.rates_plan import is_rates_plan

SHIPPED = sorted(
    one.name.removesuffix(".toml")
    for one in files("pgmlite.sim.plans").iterdir()
    if one.name.endswith(".toml") and not is_rates_plan(one.read_text())
)


def test_a_file_says_everything() -> None:
    plan = parse_plan(
        """
        title = "mine"
        sizes = ["64MiB", 1000]
        rates = "20M"
        receivers = [1, 7]
        modes = ["repairer", "senders"]
        symbol_size = 512
        block_symbols = 64
        repair_share = 0.5
        latency_ms = [1, 2.5]
        read_interval_ms = 3
        join = "spread"
        senders = 3
        fec = 0.25
        order = "blocks"
        repetitions = 2
        shared_losses = 0
        seed = 9
        [loss]
        kind = "bursts"
        mean = [0.01, 0.02]
        burst = 20
        """
    )
    assert plan.sizes == (64 << 20, 1000)
    assert plan.rates == (20_000_000,)
    assert plan.modes == (Mode.REPAIRER, Mode.SENDERS)
    assert plan.setting.latencies == (MS, 2_500_000)
    assert (plan.setting.fec, plan.setting.order) == (0.25, Schedule.BLOCKS)
    assert (plan.setting.read_interval, plan.setting.join) == (3 * MS, Join.SPREAD)
    assert plan.losses == tuple(
        LossPattern(LossKind.BURSTS, mean, burst=20) for mean in (0.01, 0.02)
    )
    runs = [run for run in plan.trials() if isinstance(run, Trial)]
    done = sum(run.copies for run in runs)
    assert done == 2 * 2 * 2 * 2 * 2  # sizes, receivers, modes, losses, repetitions


def test_changes_outrank_the_file() -> None:
    text = '[loss]\nkind = "bursts"\nmean = 0.5\nburst = 9'
    (loss,) = parse_plan(text, {"loss": {"mean": [0.1]}}).losses
    assert loss == LossPattern(LossKind.BURSTS, 0.1, burst=9)
    (loss,) = parse_plan(text, {"loss": {"kind": "shared", "mean": [0.1]}}).losses
    assert loss == LossPattern(LossKind.SHARED, 0.1)


@pytest.mark.parametrize(
    "text",
    [
        "receivers = [0]",
        "receivers = []",
        "receivers = 2.5",
        "receivers = [1_000_000]",
        "sizes = [0]",
        "sizes = [-5]",
        'sizes = ["64 parsecs"]',
        'sizes = ["1G"]\nreceivers = [100000]',
        'modes = ["pigeon"]',
        "modes = []",
        'rates = ["1"]',
        'rates = ["max"]',
        'join = "never"',
        "repair_share = 1.0",
        "latency_ms = 0",
        "latency_ms = -1",
        "read_interval_ms = -1",
        "symbol_size = 3",
        "block_symbols = 0",
        "senders = 1",
        "fec = 0",
        "block_symbols = 2048",
        "fec = 8",
        "fec = true",
        'order = "backwards"',
        'method = "guess"',
        'method = "counts"',
        'method = "counts"\nmodes = ["fec", "senders"]',
        'method = "counts"\nmodes = ["fec"]\njoin = "spread"',
        'method = "counts"\nmodes = ["fec"]\n[loss]\nkind = "bursts"\nburst = 5',
        'method = "counts"\nmodes = ["fec"]\nreceivers = [20_000_000]',
        'method = "counts"\nmodes = ["fec"]\nreceivers = [10_000_000]\nsizes = ["1G"]',
        "repetitions = -1",
        "seed = 1.5",
        "shared_losses = -1",
        "wings = 2",
        "loss = 0.05",
        "[loss]\nmean = -0.1",
        "[loss]\nmean = 1.0",
        "[loss]\nmean = nan",
        "[loss]\nmean = []",
        "[loss]\nfeathers = 1",
        '[loss]\nkind = "cosmic"',
        "[loss]\nburst = 20",
        '[loss]\nkind = "bursts"\nburst = 0.5',
        '[loss]\nkind = "tree"',
        '[loss]\nkind = "tree"\nlevels = [0.1, 2]',
        '[loss]\nkind = "tree"\nlevels = [0.1, 0.1]\nmean = 0.1',
        '[loss]\nkind = "mixed"\nbad = 0.3',
        '[loss]\nkind = "mixed"\nbad = 3\nbad_share = 0.1',
        "this is no TOML",
    ],
)
def test_what_is_impossible_is_said_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_plan(text)
    assert len(str(caught.value).splitlines()) == 1


values = st.one_of(
    st.integers(-2, 10**6), st.floats(), st.text(max_size=5), st.booleans(), st.none()
)
KEYS = [
    "sizes", "rates", "receivers", "modes", "repair_share", "latency_ms", "read_interval_ms",
    "join", "senders", "fec", "order", "method",
    "repetitions", "shared_losses", "seed", "symbol_size", "block_symbols",
]  # fmt: skip
LOSS_KEYS = ["kind", "mean", "burst", "levels", "bad", "bad_share"]


@given(
    st.dictionaries(st.sampled_from(KEYS), values | st.lists(values, max_size=3)),
    st.dictionaries(st.sampled_from(LOSS_KEYS), values | st.lists(values, max_size=3)),
)
def test_junk_is_a_plan_or_refused(table: dict[str, object], loss: dict[str, object]) -> None:
    try:
        plan = plan_of({**table, "loss": loss})
    except UsageError as error:
        said = str(error)
    else:
        said = ""
        assert all(number >= 1 for number in plan.receivers)
        assert all(0 <= one.mean <= 0.9 for one in plan.losses)
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize("name", SHIPPED)
def test_plans_that_come_with_pgmlite_are_plans(name: str) -> None:
    plan = parse_plan((files("pgmlite.sim.plans") / f"{name}.toml").read_text())
    assert plan.trials()
    assert plan.title != Plan().title


def test_the_default_covers_what_the_table_promises() -> None:
    runs = Plan().trials()
    cases = {(r.receivers, r.loss.mean, r.mode) for r in runs if isinstance(r, Trial)}
    assert len(cases) == 4 * 2 * 4
    assert {r.receivers for r in runs if isinstance(r, LossShared)} == {1, 10, 100, 1_000}


def test_more_receivers_can_be_counted_than_simulated() -> None:
    many = 5 * 10**6
    with pytest.raises(UsageError, match="million"):
        Plan(receivers=(many,))
    setting = Setting(method=Method.COUNTS)
    plan = Plan(receivers=(many,), modes=(Mode.FEC,), setting=setting)
    # Who is only counted asks nobody.
    assert not any(isinstance(run, LossShared) for run in plan.trials())


def trial(mode: Mode, symbols: int, **values: object) -> Trial:
    setting = Setting(**values)
    return Trial(setting, symbols * 1404 - 3, 10**7, 1, LossPattern(), mode, 1, 0)


@pytest.mark.parametrize(
    ("mode", "symbols", "values", "sizes"),
    [
        (Mode.FEC, 3_000, {}, (1024, 512, 3)),
        (Mode.SENDERS, 100_000, {"fec": 1.0}, (1024, 1024, 8)),
        (Mode.REPAIRER, 70, {}, (70, 64, 1)),
        (Mode.FEC_NAK, 70, {"block_symbols": 16}, (16, 64, 5)),
        (Mode.CAROUSEL, 3_000, {}, (1024, 0, 1)),
        (Mode.NAK, 70, {"fec": 1.0}, (70, 0, 1)),
    ],
)
def test_plain_modes_have_no_repair_symbols(
    mode: Mode, symbols: int, values: dict[str, object], sizes: tuple[int, int, int]
) -> None:
    geometry = trial(mode, symbols, **values).geometry
    found = geometry.block_symbols, geometry.repair_symbols, geometry.tile_blocks
    assert found == sizes
    assert geometry.symbols == symbols


@pytest.mark.parametrize("receivers", [1, 2, 10, 101])
def test_a_mix_has_some_of_both(receivers: int) -> None:
    shares = LossPattern(LossKind.MIXED, 0.01, bad=0.3, bad_share=0.1).shares(receivers)
    assert len(shares) == receivers
    assert 0.01 in shares
    assert (0.3 in shares) == (receivers > 1)
    assert shares.count(0.3) == pytest.approx(receivers * 0.1, abs=1)
