"""Senders with repairs and repairers, driven by hand, for the tests of what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from pgmlite.core.config import RepairConfig, SenderConfig
from pgmlite.core.machine import Action, Transmit
from pgmlite.core.needs import Exact
from pgmlite.core.send.ledger import ExactLedger
from pgmlite.core.send.repairer import Repairer
from pgmlite.core.send.repairs import Repairs
from pgmlite.core.send.sender import Sender
from pgmlite.wire.control import SpmRepairs
from pgmlite.wire.layout import PacketType
from tests.support.builders import Sample, batches, beside, make_object, ring_of
from tests.support.nak_builders import kind_of, nak_packet, spm_of, spm_packet, symbols_of

SAMPLE = make_object(1_000 * 4_000, symbol_size=1_000, block_symbols=100)
TOTAL = SAMPLE.manifest.symbols
DEFAULT = RepairConfig(port=9)
OTHER = {"tsi": 2}
"""The session of another sender."""

ODATA, RDATA, NCF = PacketType.ODATA, PacketType.RDATA, PacketType.NCF


class Answering:
    """A sender with repairs, or a repairer on its own, driven by hand."""

    def __init__(
        self,
        sample: Sample,
        *,
        repair: RepairConfig | None = None,
        rng: Random | None = None,
        carousel: bool = True,
        trusting: bool = True,
        **config: Any,
    ) -> None:
        """
        Args:
            carousel: Send the object too; False: a stand-alone repairer.
            trusting: Repeat for one source as much as it asks for (REP-16).
        """
        rings = [ring_of(sample.manifest.geometry, config)]
        values = {"rate": 10_000_000, "packet_overhead": 48} | config
        self.sample = sample
        settings, repair, rng = (
            SenderConfig(**values),
            repair or RepairConfig(port=9),
            rng or Random(0),
        )
        if trusting:
            repair = replace(repair, alone_burst=1 << 20)
        self.machine = (
            Sender(
                settings,
                sample.manifest,
                sample.tree,
                rings=rings,
                repair=repair,
                rng=rng,
                **beside(sample),
            )
            if carousel
            else Repairer(settings, sample.manifest, repair=repair, rng=rng, **beside(sample))
        )
        self.now = 0
        self.sent: list[tuple[int, Transmit]] = []
        self.machine.start(0)
        self.settle()

    @property
    def repairs(self) -> Repairs:
        """What its only lane repeats."""
        (lane,) = self.machine.lanes
        assert lane.repairs
        return lane.repairs

    @property
    def queued(self) -> Exact:
        """What waits to be repeated, by name."""
        ledger = self.repairs.ledger
        assert isinstance(ledger, ExactLedger)
        return ledger.queued

    @property
    def grtt(self) -> int:
        """Group round-trip time by now, ns."""
        return self.machine.grtt(self.now)

    @property
    def nonce(self) -> int:
        """What the latest SPM says."""
        return self.spms[-1].nonce

    @property
    def spms(self) -> list[SpmRepairs]:
        """What all SPMs sent say of repairs."""
        spms = (spm_of(burst) for _, burst in self.sent if kind_of(burst) is PacketType.SPM)
        return [spm.repairs for spm in spms if spm.repairs]

    @property
    def last_sqn(self) -> int:
        """The sqn of the last packet sent."""
        return int(self.sent[-1][1].rows["sqn"][-1])

    def give(self, *given: bytes, source: Any = ("10.0.0.1", 0)) -> list[Transmit]:
        """Let packets arrive now; return what is sent at once."""
        before = len(self.sent)
        for batch in batches(given, source=source, refused=self.machine.refused):
            self._keep(self.machine.receive(self.now, batch))
        if self.repairs.confirmations:
            self._keep(self.machine.tick(self.now))  # the NCF alone
        return [burst for _, burst in self.sent[before:]]

    def ask(
        self,
        *wanted: int | Iterable[int],
        source: Any = ("10.0.0.1", 0),
        **fields: int,
    ) -> list[Transmit]:
        """Let a NAK arrive now whose sender heard everything; return what is sent at once.

        It tells nothing of the round trip, unless `timestamp` is given.
        """
        values = {"nonce": self.nonce, "sqn": self.last_sqn, "tsi": self.machine.tsi}
        values |= {"timestamp": self.now} | fields
        wanted_symbols = symbols_of(*wanted).tolist()
        return self.give(nak_packet(self.sample, wanted_symbols, **values), source=source)

    def settle(self) -> None:
        """Tick for as long as something is due now; that must end."""
        for _ in range(1_000):
            deadline = self.machine.deadline
            if deadline is None or deadline > self.now:
                return
            self._keep(self.machine.tick(self.now))
        raise AssertionError("the machine is due for ever at one instant")

    def run(self, until: int) -> list[Transmit]:
        """Go on to `until` ns; return what was sent."""
        before = len(self.sent)
        while (deadline := self.machine.deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.settle()
        self.now = until
        return [burst for _, burst in self.sent[before:]]

    def _keep(self, actions: Sequence[Action]) -> None:
        self.sent += [(self.now, one) for one in actions if isinstance(one, Transmit)]


def alone(**config: Any) -> Answering:
    """Return a repairer on its own, which has heard where the carousel is."""
    machine = Answering(SAMPLE, repair=RepairConfig(port=9, **config), carousel=False)
    machine.give(spm_packet(SAMPLE, {"tsi": 7}, place=10))
    machine.give(*SAMPLE.odata([10], tsi=7))
    return machine
