"""The share of repairs: theory of operation (spec: REP-3, REP-5, REP-11).

A lane has one rate, and two things to send: what its schedule brings, and what was asked for. Who
lost something waits for repairs; who joins late has lost nothing and waits for the schedule.
Neither may starve the other, and neither may hold back while the other has nothing to say.

**The credit.** Time does not decide whose turn it is, packets do: so it holds at any rate, and
when the rate changes or the machine is late. With a share s of the rate for repairs, each ODATA
packet earns s / (1 - s), and each RDATA packet costs 1. Repairs go first while the credit is 1 or
more; so over any stretch in which both wait, s of the packets are repairs and 1 - s are ODATA:

    s = 0.5   earns 1     O R O R O R ...
    s = 0.05  earns 0.05  O x 19, R, O x 19, R ...
    s = 0.9   earns 9     O R R R R R R R R R O ...

Losses come in bursts, and a repair should not wait for credit where there was nothing to repair
before: credit is kept, but no more than that of two full steps, or a group that was silent for an
hour could stop the schedule for half of one. Packets leave in bursts, and a burst is of one kind:
it has as many repairs as whole units of credit, so that what is owed is never borrowed.

**Without a schedule** there is nobody to starve: after the last cycle, or at a stand-alone
repairer, repairs take the whole rate and the credit is not asked.

**Confirmations cost too.** An NCF leaves at once, ahead of the pacing, as long as NCFs keep to
their own share of the share; the pacing then makes what follows wait. It is paid from the credit,
by its length on the wire against that of a full packet: NCFs and repairs together take s. The
credit may go below nothing by that, and is earned back before the next repair.

**What comes anyway is not queued.** With W symbols waiting, the last of them leaves after W
repairs and the ODATA between, W (1 - s) / s packets of it. What the schedule brings within as many
packets comes no later than it would by the queue: it is confirmed, since it is on its way, and not
queued. This is for symbols that are asked for by name: who asks for a count has found that the
schedule takes twice as long as the repairs (spec: NAK-3).

**What an NCF promises.** An NCF says within how many packets, counted from itself, all that waits
will have left, so that who hears it knows from sqns alone when a repair was lost, and asks again
without a timer. That number must not be too small, whatever else comes between:

    W        what waits itself
    d        ODATA between: what W - C repairs without credit (C) wait for, (1 - s) / s each
    d / 6    what takes credit away meanwhile: other NCFs, up to a tenth; nodes and SPMs
    between  one burst, since a burst is sorted and what came later may leave before; and the nodes
             that are due in this round
    slack    other NCFs, SPMs

It is a promise for the worst case; most repairs leave much sooner. A larger number costs an asker
whose repair was lost a little time, a smaller one costs the group needless NAKs.
"""

from __future__ import annotations

import math


class Credit:
    """How many repairs may leave ahead of the schedule."""

    def __init__(self, share: float, *, most: float) -> None:
        """
        Args:
            share: What repairs may take of the rate, 0.05 to 0.9.
            most: Packets of credit that are kept.
        """
        self._share = share
        self._most = most
        self._packets = 0.0

    @property
    def packets(self) -> int:
        """Repairs that may leave now."""
        return max(0, int(self._packets))

    def earn(self, packets: int) -> None:
        """Note that so many packets of the schedule left."""
        earned = packets * self._share / (1 - self._share)
        self._packets = min(self._packets + earned, self._most)

    def spend(self, packets: float) -> None:
        """Note that repairs left, or NCFs that are as long as so many of them."""
        self._packets -= packets

    def scheduled(self, repairs: float) -> float:
        """Return how many packets of the schedule come while so many repairs earn their turn."""
        return repairs * (1 - self._share) / self._share

    def promise(self, waiting: int, *, between: int, is_shared: bool) -> int:
        """Return within how many packets all that waits has left, counted from an NCF.

        Args:
            waiting: Symbols in the queue.
            between: Packets that may come first whatever the credit is.
            is_shared: Whether a schedule sends too.
        """
        left = waiting + between
        if is_shared:
            scheduled = math.ceil(self.scheduled(max(0.0, waiting - self._packets)))
            left += scheduled + scheduled // 6
        return left
