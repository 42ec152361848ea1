"""What is compared: a plan, and the trials that it consists of.

A trial says everything that its outcome depends on, so that it may be done by any process anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from itertools import product

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS, RepairConfig, SenderConfig
from pgmlite.core.machine import MS, SECOND
from pgmlite.errors import UsageError
from pgmlite.wire.batch import HEADER_SIZE
from pgmlite.wire.geometry import MOST_REPAIRS, Geometry, pieces
from pgmlite.wire.layout import (
    IPV6_UDP_HEADERS,
    MAX_BLOCK_SYMBOLS,
    MAX_FEC_BLOCK_SYMBOLS,
    MAX_PACKET,
    MIN_SYMBOL_SIZE,
    SYMBOL_ALIGNMENT,
)

MAX_RECEIVERS = 100_000
MAX_COUNTED = 10_000_000
"""Receivers, if only their counts are simulated."""

MAX_CELLS = 2_000_000_000
"""Receivers times symbols of one trial, at most: a byte of memory each."""

MAX_LOSS = 0.9
"""Beyond it even theory takes hundreds of cycles."""

MAX_REPETITIONS = 10_000
MAX_SENDERS = 16
MAX_LATENCY = 10 * SECOND

READ_PACKETS = 16
"""Packets that a receiver lets wait before it reads, unless the plan says how long."""


class Mode(StrEnum):
    """Who sends what, and who answers NAKs."""

    CAROUSEL = "carousel"
    """One sender without repair symbols, block after block, no NAKs."""

    FEC = "fec"
    """One sender with repair symbols, no NAKs."""

    NAK = "nak"
    """The plain carousel; its sender answers NAKs, which name symbols."""

    FEC_NAK = "fec+nak"
    """One sender with repair symbols that answers NAKs, which ask for counts."""

    REPAIRER = "repairer"
    """One sender with repair symbols that hears nothing, and a repairer with the same rate beside
    the receivers."""

    SENDERS = "senders"
    """Several senders with repair symbols, of the same rate, each with a share of the ring."""


ANSWERING = frozenset({Mode.NAK, Mode.FEC_NAK, Mode.REPAIRER})
"""Where somebody answers NAKs, so that receivers are no longer independent of one another."""

PLAIN = frozenset({Mode.CAROUSEL, Mode.NAK})
"""Where objects have no repair symbols, and are sent block after block."""


class Schedule(StrEnum):
    """In which order objects with repair symbols are sent."""

    ROUNDS = "rounds"
    BLOCKS = "blocks"


class Method(StrEnum):
    """How receivers are simulated."""

    MACHINES = "machines"
    """Each one is told of each packet, and asks as `recv` does."""

    COUNTS = "counts"
    """Of each one only the number of missing symbols is drawn: of carousels, without delays."""


COUNTED = frozenset({Mode.CAROUSEL, Mode.FEC})
"""What can be simulated by counts."""

FEW = 500
"""Receivers; below it a trial costs so little that there may be more of them."""

RECEIVERS_A_TRIAL = 5_000
LOSSES_A_TRIAL = 50
"""Smaller trials keep all processes busy to the end, larger ones waste less on the senders."""


class LossKind(StrEnum):
    """How losses depend on one another."""

    INDEPENDENT = "independent"
    """Each receiver loses each packet by itself."""

    SHARED = "shared"
    """The first link loses it for all."""

    TREE = "tree"
    """Links lose it for all behind them, level by level."""

    BURSTS = "bursts"
    """Each receiver loses several packets in a row (Gilbert-Elliott)."""

    MIXED = "mixed"
    """Independent; some receivers lose much more than the others."""


class Join(StrEnum):
    """When receivers start to listen."""

    TOGETHER = "together"
    """With the sender."""

    SPREAD = "spread"
    """At random times in the first cycle."""


@dataclass(frozen=True, slots=True)
class LossPattern:
    """How packets get lost.

    Raises:
        UsageError: A value is out of its limits, or the kind has no use for it.
    """

    kind: LossKind = LossKind.INDEPENDENT
    mean: float = 0.01
    """Probability that a receiver loses a packet, 0 to 0.9; of most receivers if they are mixed."""

    burst: float = 1.0
    """Packets that are lost in a row, on average."""

    levels: tuple[float, ...] = ()
    """Of a tree: the probability that a link of each level loses a packet, the first link first."""

    bad: float = 0.0
    """Probability that one of the bad receivers loses a packet."""

    bad_share: float = 0.0
    """Share of the receivers that are bad."""

    def __post_init__(self) -> None:
        for name, share in (("loss", self.mean), ("bad", self.bad)):
            if not 0 <= share <= MAX_LOSS:
                raise UsageError(f"{name} {share:.4g}: must be 0 to {MAX_LOSS:g}")
        for share in self.levels:
            if not 0 <= share <= MAX_LOSS:
                raise UsageError(f"levels: loss {share:.4g}: must be 0 to {MAX_LOSS:g}")
        wanted = {
            "burst": self.kind is LossKind.BURSTS,
            "levels": self.kind is LossKind.TREE,
            "bad": self.kind is LossKind.MIXED,
            "bad_share": self.kind is LossKind.MIXED,
        }
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in wanted and not wanted[one.name] and value != one.default:
                raise UsageError(f"{one.name}: losses of the kind {self.kind} have none")
        if self.kind is LossKind.TREE and not 2 <= len(self.levels) <= 8:
            raise UsageError("levels: a tree has 2 to 8, such as [0.01, 0.02, 0.02]")
        if self.kind is LossKind.BURSTS and not 1 <= self.burst <= 10_000:
            raise UsageError(f"burst {self.burst:g}: must be 1 to 10000 packets")
        if self.kind is LossKind.MIXED and not 0 < self.bad_share < 1:
            raise UsageError(f"bad_share {self.bad_share:g}: must be more than 0, less than 1")

    def shares(self, receivers: int) -> list[float]:
        """Return (receivers,) the probability with which each one loses a packet."""
        if self.kind is LossKind.TREE:
            kept = 1.0
            for share in self.levels:
                kept *= 1 - share
            return [1 - kept] * receivers
        if self.kind is LossKind.MIXED:
            bad = (
                min(receivers - 1, max(1, round(receivers * self.bad_share)))
                if receivers > 1
                else 0
            )
            return [self.mean] * (receivers - bad) + [self.bad] * bad
        return [self.mean] * receivers

    def __str__(self) -> str:
        match self.kind:
            case LossKind.TREE:
                return "tree " + " + ".join(f"{share:.3g}" for share in self.levels)
            case LossKind.BURSTS:
                return f"{self.mean:.3g}, bursts of {self.burst:g}"
            case LossKind.MIXED:
                return f"{self.mean:.3g}, {self.bad_share:.0%} of them {self.bad:.3g}"
            case LossKind.SHARED:
                return f"{self.mean:.3g}, shared"
        return f"{self.mean:.3g}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all trials of a plan have in common."""

    symbol_size: int = 1_404
    """Bytes; 1404 is what `send` takes on Ethernet."""

    block_symbols: int = DEFAULT_BLOCK_SYMBOLS
    fec: float = 0.5
    """Repair symbols that a block has in its ring, in source symbols of it, as `send --fec`."""

    order: Schedule = Schedule.ROUNDS
    """Of objects with repair symbols; the others go block after block."""

    repair_share: float = RepairConfig().share
    """Share of the sender's rate that repairs may take, as `send --repair` has it unless told
    otherwise. The closed form has no carousel that goes on beside the repairs: 0.9 comes near."""

    latencies: tuple[int, ...] = (2 * MS,)
    """One way, ns; equal shares of the receivers have each of them."""

    read_interval: int = 0
    """ns between the times at which a receiver reads what has come; 0: what 16 packets take."""

    join: Join = Join.TOGETHER
    senders: int = 2
    """Of the mode with several."""

    method: Method = Method.MACHINES

    def __post_init__(self) -> None:
        if self.symbol_size % SYMBOL_ALIGNMENT or not (
            MIN_SYMBOL_SIZE <= self.symbol_size <= MAX_PACKET - HEADER_SIZE
        ):
            raise UsageError(
                f"symbol_size {self.symbol_size}: must be a multiple of {SYMBOL_ALIGNMENT}, "
                f"{MIN_SYMBOL_SIZE} to {MAX_PACKET - HEADER_SIZE}"
            )
        if not 1 <= self.block_symbols <= MAX_BLOCK_SYMBOLS:
            raise UsageError(
                f"block_symbols {self.block_symbols}: must be 1 to {MAX_BLOCK_SYMBOLS}"
            )
        if not 0 < self.fec <= MOST_REPAIRS:
            raise UsageError(f"fec {self.fec:g}: must be more than 0, at most {MOST_REPAIRS}")
        RepairConfig(share=self.repair_share)
        if not self.latencies or not all(0 < one <= MAX_LATENCY for one in self.latencies):
            raise UsageError("latency_ms: must be more than 0, at most 10000")
        if not 0 <= self.read_interval <= MAX_LATENCY:
            raise UsageError("read_interval_ms: must be 0 to 10000")
        if not 2 <= self.senders <= MAX_SENDERS:
            raise UsageError(f"senders {self.senders}: must be 2 to {MAX_SENDERS}")

    @property
    def packet_size(self) -> int:
        """Bytes of a full packet on the wire."""
        return self.symbol_size + HEADER_SIZE + IPV6_UDP_HEADERS


@dataclass(frozen=True)
class Trial:
    """One transfer. Its outcome depends on nothing else."""

    setting: Setting
    size: int
    rate: int
    receivers: int
    loss: LossPattern
    mode: Mode
    seed: int
    repetition: int
    copies: int = 1
    """Groups of `receivers` that hear the same senders at once: where nobody answers, and each
    loses packets by itself, they are as many repetitions."""

    @property
    def symbols(self) -> int:
        """Symbols of the object."""
        return pieces(self.size, self.setting.symbol_size)

    @cached_property
    def geometry(self) -> Geometry:
        """The sizes of the object."""
        setting = self.setting
        return Geometry.planned(
            self.symbols * setting.symbol_size,
            setting.symbol_size,
            setting.block_symbols,
            0.0 if self.mode in PLAIN else setting.fec,
        )

    @property
    def packet_time(self) -> int:
        """How long a full packet takes at the sender's rate, ns."""
        return self.setting.packet_size * 8 * SECOND // self.rate

    @property
    def effort(self) -> float:
        """About how much work it is, in no unit."""
        if self.setting.method is Method.COUNTS:
            return self.receivers * (1.0 if self.mode is Mode.CAROUSEL else self.geometry.blocks)
        if self.mode in ANSWERING:
            return (self.receivers + 20) * self.symbols * 26.0
        return (self.receivers * self.copies + 1_200) * self.symbols * 1.0


@dataclass(frozen=True, slots=True)
class LossShared:
    """A trial that measures suppression: all receivers lose the same packets."""

    receivers: int
    losses: int
    seed: int
    repetition: int = 0

    @property
    def effort(self) -> float:
        """About how much work it is, in no unit."""
        return (self.receivers + 5) * self.losses * 1_400.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Every combination of sizes, rates, losses, numbers of receivers and modes.

    Raises:
        UsageError: It can't be done; the message is one line.
    """

    title: str = "Carousel, forward error correction and NAKs"
    sizes: tuple[int, ...] = (3_000 * 1_404,)
    """Bytes."""

    rates: tuple[int, ...] = (20_000_000,)
    """bit/s of each sender, IP headers included."""

    receivers: tuple[int, ...] = (1, 10, 100, 1_000)
    losses: tuple[LossPattern, ...] = (LossPattern(mean=0.01), LossPattern(mean=0.05))
    modes: tuple[Mode, ...] = (Mode.CAROUSEL, Mode.FEC, Mode.NAK, Mode.FEC_NAK)
    setting: Setting = field(default_factory=Setting)
    repetitions: int = 0
    """Repetitions of each combination; 0: as many as steady means need, more of the small ones."""

    shared_losses: int = 150
    """Losses that all receivers share, to count the NAKs for each, and three times as many where
    receivers are few; 0: leave that out."""

    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("sizes", "rates", "receivers", "losses", "modes"):
            if not getattr(self, name):
                raise UsageError(f"{name}: name at least one")
        is_counted = self.setting.method is Method.COUNTS
        self._check_numbers(is_counted=is_counted)
        if is_counted:
            self._check_counted()
        if set(self.modes) - PLAIN and self.setting.block_symbols > MAX_FEC_BLOCK_SYMBOLS:
            raise UsageError(
                f"block_symbols {self.setting.block_symbols}: with repair symbols at most "
                f"{MAX_FEC_BLOCK_SYMBOLS}"
            )
        for rate in self.rates:
            SenderConfig(rate=rate, packet_overhead=IPV6_UDP_HEADERS)
        if not 0 <= self.repetitions <= MAX_REPETITIONS:
            raise UsageError(f"repetitions {self.repetitions}: must be 1 to {MAX_REPETITIONS}")
        if not 0 <= self.shared_losses <= 10_000:
            raise UsageError(f"shared_losses {self.shared_losses}: must be 0 to 10000")

    def _check_numbers(self, *, is_counted: bool) -> None:
        """
        Raises:
            UsageError: It is too much to simulate.
        """
        most = MAX_COUNTED if is_counted else MAX_RECEIVERS
        for number in self.receivers:
            if not 1 <= number <= most:
                by_counts = "" if is_counted else ", or more by counts (see the plan million)"
                raise UsageError(f"receivers {number}: must be 1 to {most}{by_counts}")
        for size in self.sizes:
            if size < 1:
                raise UsageError(f"size {size}: must be at least 1 byte")
            symbols = pieces(size, self.setting.symbol_size)
            cells = pieces(symbols, self.setting.block_symbols) if is_counted else symbols
            if cells * max(self.receivers) > MAX_CELLS:
                raise UsageError(
                    f"size {size}: {symbols} symbols for {max(self.receivers)} receivers are too "
                    "much to simulate; take fewer receivers or larger symbols"
                )

    def _check_counted(self) -> None:
        """
        Raises:
            UsageError: Something can't be simulated by counts.
        """
        if others := set(self.modes) - COUNTED:
            raise UsageError(f"mode {min(others)}: by counts there are only carousel and fec")
        kinds = {loss.kind for loss in self.losses} - {LossKind.INDEPENDENT, LossKind.MIXED}
        if kinds:
            raise UsageError(f"loss kind {min(kinds)}: by counts losses are independent or mixed")
        if self.setting.join is not Join.TOGETHER:
            raise UsageError("join spread: by counts all receivers join together")

    def trials(self) -> list[Trial | LossShared]:
        """Return all trials, those of one combination together."""
        trials: list[Trial | LossShared] = []
        for size, rate, loss, receivers, mode in product(
            self.sizes, self.rates, self.losses, self.receivers, self.modes
        ):
            left = self.repetitions or _repetitions(receivers, mode, self.setting.method)
            number = 0
            while left:
                copies = min(left, self._copies(receivers, loss, mode))
                trials.append(
                    Trial(
                        self.setting, size, rate, receivers, loss, mode, self.seed, number, copies
                    )
                )
                left -= copies
                number += 1
        if self.setting.method is Method.COUNTS:
            return trials
        for receivers in self.receivers:
            total = self.shared_losses * (3 if receivers < FEW else 1)
            for number, first in enumerate(range(0, total, LOSSES_A_TRIAL)):
                losses = min(LOSSES_A_TRIAL, total - first)
                trials.append(LossShared(receivers, losses, self.seed, number))
        return trials

    def _copies(self, receivers: int, loss: LossPattern, mode: Mode) -> int:
        """Return how many repetitions one trial may do at once."""
        if self.setting.method is Method.COUNTS or mode in ANSWERING:
            return 1
        if loss.kind in {LossKind.SHARED, LossKind.TREE}:
            return 1
        return max(1, RECEIVERS_A_TRIAL // receivers)


def _repetitions(receivers: int, mode: Mode, method: Method) -> int:
    """Return how many repetitions give a steady mean.

    The last completion of a plain carousel varies by half a cycle, whatever the number of
    receivers. With NAKs or repair symbols it hardly varies among many.
    """
    if method is Method.COUNTS:
        return 24 if mode is Mode.CAROUSEL else 2
    if mode in ANSWERING:
        return 10 if receivers < 50 else 2 if receivers < FEW else 1
    if mode is not Mode.CAROUSEL:
        return 100 if receivers < 50 else 10 if receivers < FEW else 4
    return 100 if receivers < 50 else 60 if receivers < FEW else 15 if receivers < 5_000 else 4
