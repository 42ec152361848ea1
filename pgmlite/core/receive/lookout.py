"""When it is looked at what carousels passed and bring, and what can be expected of them."""

from __future__ import annotations

from pgmlite.core.config import NakConfig
from pgmlite.core.receive.carousels import Carousels, Passing
from pgmlite.core.receive.demand import Outlook
from pgmlite.core.receive.repairers import KnownRepairer
from pgmlite.core.receive.sessions import SessionKey
from pgmlite.core.ring import Ring


class Lookout:
    """Hears carousels, and looks at them at times: at all together, after something came.

    Attributes:
        carousels: Those that are heard.
        heard_at: When something came of any session last, ns.
        look_at: When to look next, ns; None: nothing came since the last time.
        outlook: As of the last look.
    """

    def __init__(self, config: NakConfig, blocks: int) -> None:
        """
        Args:
            blocks: Of the object: what a look costs grows with them.
        """
        self._config = config
        self._blocks = blocks
        self.carousels = Carousels(config)
        self.heard_at = 0
        self.look_at: int | None = None
        self.outlook = Outlook(0, (), 0, 0.0, 0.0)
        self._looked_at = self._worked_at = 0

    def stir(self, now: int) -> None:
        """Note that something of carousels or repairers was heard."""
        self.heard_at = now
        if self.look_at is None:
            self.look_at = max(now, self._looked_at + self._look_every)

    @property
    def _look_every(self) -> int:
        """Time from look to look, ns (spec: NAK-3)."""
        work = self._blocks * max(1, len(self.carousels)) * self._config.look_block
        return max(self._config.look_every, work)

    def tell(self, now: int, key: SessionKey, ring: Ring, place: int, received: int) -> None:
        """Take what an SPM says of a session's carousel, as `Carousels.tell` does."""
        self.stir(now)
        self.carousels.tell(now, key, ring, place, received)

    def bring(self, now: int, key: SessionKey, block: int, esi: int) -> None:
        """Take note of the latest ODATA of a session."""
        self.stir(now)
        self.carousels.bring(now, key, block, esi)

    def is_late(self, now: int, due: int | None) -> bool:
        """Whether we were kept from working for so long that much is to be read first.

        Args:
            due: When there was something else to do than to look, ns; None: never.
        """
        # Who does not keep up would take a carousel for silent, and ask for what waits to be read.
        times = (at for at in (due, self.look_at) if at is not None)
        expected = max(min(times, default=now), self._worked_at)
        self._worked_at = now
        return now - expected > self._config.latest_tick

    def look(
        self, now: int, repairer: KnownRepairer | None, *, symbol_size: int, loss: float
    ) -> list[Passing]:
        """Return what went past since the last look.

        Args:
            repairer: Who would be asked.
        """
        passings = list(self.carousels.look())
        self._looked_at, self.look_at = now, None
        delay, symbol_time = 0, 0.0
        if repairer:
            own = self.carousels.get(repairer.key)
            delay = repairer.expected_delay
            symbol_time = repairer.symbol_time(symbol_size, own.symbol_time if own else 0.0)
        self.outlook = Outlook(now, self.carousels.coming(now), delay, symbol_time, loss)
        return passings
