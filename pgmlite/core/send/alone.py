"""What one source may have repeated while a carousel goes on: theory of operation (spec: REP-16).

Repairs take their share of the rate from the carousel, and so from everybody. Who needs them can't
be told from who only asks: a NAK of 84 bytes a second was enough to halve a carousel for all. What
can be told is how much somebody may need at most. A receiver says in each NAK which share p of the
packets it lost. Of c symbols that the carousel sent it lacks about p c, and of what is repeated it
loses p again, which makes p / (1 - p) c in all; and never more than the object has. That much each
source may have, *once*, however long it asks. Beyond it there is what goes on for ever: one repair
for ten symbols of the carousel.

So a receiver that tells the truth gets what it lost and asks for it in time; one that lies about p
costs the group one length of the object, once, and from then on a tenth of the rate at most.

What several ask for is queued once, and charged to who asked first. What that one may not have,
another one who asks has from its own account: the more ask for the same, the more of it they get.

Where nothing is sent unasked, after the last cycle or at a stand-alone repairer, nobody is slowed
down, and nothing is charged.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgmlite.core.config import RepairConfig

MOST_BELIEVED_LOSS = 0.5
"""Who lost more asks for nothing (spec: NAK-6)."""


@dataclass(slots=True)
class Account:
    """What one source had of one lane.

    Attributes:
        since: Symbols that the carousel had sent when it asked first.
        had: Symbols that were queued for it.
    """

    since: int
    had: int = 0

    def left(self, config: RepairConfig, symbols: int, passed: int, loss: float) -> int:
        """Return how many symbols may be queued for it now.

        Args:
            symbols: Of the object.
            passed: What the carousel sent so far.
            loss: Share of packets that it says it lost.
        """
        p = min(loss, MOST_BELIEVED_LOSS)
        missed = passed * p / (1 - p) + config.alone_margin * min(passed, symbols)
        goes_on = config.alone_share * (passed - self.since)
        return int(goes_on + min(missed, symbols)) + config.alone_burst - self.had
