"""What the user sees: JSON lines for programs, a bar or plain lines for people."""

from __future__ import annotations

import json
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pgmlite.cli.lines import fit
from pgmlite.cli.rate import RateWatch
from pgmlite.core.events import Adopted, Damaged, Superseded
from pgmlite.core.human import human_bytes, human_rate, human_time
from pgmlite.core.machine import SECOND
from pgmlite.core.receive.diagnosis import SILENT_AFTER
from pgmlite.core.send.sender import Sender
from pgmlite.errors import EXIT_OK, PgmliteError
from pgmlite.net.udp import ReceiverSocket
from pgmlite.wire.control import Manifest

if TYPE_CHECKING:
    # Imported when needed: a sender starts sooner without them.
    from rich.progress import Progress

    from pgmlite.core.receive.receiver import Receiver
    from pgmlite.storage.part import PartFile

PLAIN_LINES_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""

BUFFER_MS = 100
"""A receive buffer should hold this much of the rate: the longest pause of a busy machine."""


def oid_text(oid: int) -> str:
    """Return an object identifier as the user sees it."""
    return f"{oid:016x}"


class Barred:
    """Has a progress bar, perhaps; used as a context so that it never outlives an error."""

    _bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()


class Output(Barred):
    """Prints events."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._started = time.monotonic()
        self._bar: Progress | None = None
        self._last_line = self._started
        if not as_json and sys.stderr.isatty():
            self._bar = _progress_bar()
            self._task = self._bar.add_task("", total=None)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started

    def event(self, event: str, text: str, **fields: Any) -> None:
        """Report something: `fields` to programs, `text` to people."""
        if self._json:
            print(json.dumps({"event": event, **fields}), flush=True)
        elif text:
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line for people, on stderr."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(fit(text, sys.stderr), file=sys.stderr, flush=True)

    def warn(self, text: str, **facts: Any) -> None:
        """Print a warning, to programs too; `facts` are for these."""
        if self._json:
            self.event("warning", "", warning=text, **facts)
        self.say(f"warning: {text}")

    def failed(self, event: str, text: str, error: PgmliteError, **fields: Any) -> None:
        """Report the error that ends the run; people read the error itself elsewhere."""
        self.event(event, text, error=str(error), exit_code=error.exit_code, **fields)
        error.is_told = True

    def bar(self, text: str, done: float, total: float | None) -> None:
        """Show progress: the bar on a terminal, now and then a line elsewhere."""
        if self._bar:
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif not self._json and time.monotonic() - self._last_line >= PLAIN_LINES_EVERY:
            self._last_line = time.monotonic()
            share = f" {done / total:.0%}" if total else ""
            print(f"{text}{share}", file=sys.stderr, flush=True)

    def hashing(self, done: int, total: int) -> None:
        """Show how far the hashing of a source is."""
        self.bar("hashing", done, total)


def _progress_bar() -> Progress:
    # Imported where a terminal wants it: it costs a tenth of a second of every start.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class SendReport:
    """The listener of a sender."""

    def __init__(self, output: Output, machine: Sender) -> None:
        self._output = output
        self._machine = machine
        self._watch = RateWatch(machine.rate(time.monotonic_ns()), output.warn)

    def counters(self) -> dict[str, Any]:
        """Counters as in ``--json``."""
        counters = self._machine.counters
        achieved = {"achieved_rate": self._machine.achieved_rate}
        return {
            "seconds": round(self._output.seconds, 3),
            "cycles": round(self._machine.cycles, 4),
            "packets": counters.packets,
            "bytes": counters.bytes,
            "odata": counters.odata,
            "unsent": counters.unsent,
            **(achieved if self._machine.has_schedule else {}),
            **self._repair_counters(),
        }

    def _look_at_rate(self, *, is_over: bool = False) -> None:
        machine = self._machine
        self._watch.look(machine.throughput, machine.counters.unsent, is_over=is_over)

    def _repair_counters(self) -> dict[str, Any]:
        machine = self._machine
        if not machine.answers_naks:
            return {}
        counters = machine.counters
        return {
            "rdata": counters.rdata,
            "naks_received": counters.naks_received,
            "ncfs_sent": counters.ncfs_sent,
            "grtt": machine.grtt(time.monotonic_ns()) / SECOND,
            "refused": dict(sorted(machine.refused.items())),
        }

    def _repairs(self) -> str:
        """Return what was asked for and repeated, for people."""
        counters = self._repair_counters()
        return f"{counters['naks_received']} NAKs, {counters['rdata']} packets repeated"

    def adopted(self, action: Adopted) -> None:
        """Never called for a sender."""

    def superseded(self, action: Superseded) -> None:
        """Never called for a sender."""

    def damaged(self, action: Damaged) -> None:
        """Never called for a sender."""

    def progress(self) -> None:
        """Show how far the cycle is."""
        cycles = self._machine.cycles
        self._output.event("progress", "", **self.counters())
        self._look_at_rate()
        if self._machine.has_schedule:
            self._output.bar(f"cycle {int(cycles) + 1}", cycles % 1, 1)
        else:
            self._output.bar(f"repairing, {self._repairs()}", 0, None)

    def warn(self, text: str, **facts: Any) -> None:
        """Pass a warning on."""
        self._output.warn(text, **facts)

    def stopped(self, error: PgmliteError | None = None) -> None:
        """Print the summary, of a sender that has finished or of one that an error ends."""
        self._look_at_rate(is_over=True)
        counters = self.counters()
        text = (
            f"{counters['cycles']:.2f} cycles, {counters['packets']} packets, "
            f"{human_bytes(counters['bytes'])} in {human_time(counters['seconds'])}"
        )
        if counters["unsent"]:
            text += f"; {counters['unsent']} of them could not be sent"
        if self._machine.answers_naks:
            text += f"; {self._repairs()}"
        if error:
            self._output.failed("stopped", f"sent: {text}", error, reason=str(error), **counters)
        else:
            facts = {"reason": "finished", "exit_code": EXIT_OK}
            self._output.event("stopped", f"finished: {text}", **facts, **counters)


class ReceiveReport:
    """The listener of a receiver."""

    def __init__(self, output: Output, machine: Receiver, socket: ReceiverSocket | None) -> None:
        """
        Args:
            socket: Where the packets come from; None: not from a network.
        """
        self._output = output
        self._machine = machine
        self._socket = socket
        self._stored = 0

    def counters(self) -> dict[str, Any]:
        """Counters as in ``--json``."""
        counters = self._machine.counters
        return {
            "seconds": round(self._output.seconds, 3),
            "cycles": round(self._machine.cycles, 4),
            "packets": counters.packets,
            "bytes": counters.bytes,
            "odata": counters.odata,
            "rdata": counters.rdata,
            "naks_sent": self._machine.naks.naks_sent,
            "naks_suppressed": self._machine.naks.naks_suppressed,
            "lost": self._machine.lost,
            "fetched": counters.fetched,
            "early": counters.early,
            "lost_unbelieved": self._machine.lost_unbelieved,
            "duplicates": counters.duplicates,
            "congested": counters.congested,
            "damaged": counters.damaged,
            "refused": dict(sorted(counters.refused.items())),
            **self._network(),
        }

    def _network(self) -> dict[str, Any]:
        """Counters that only a network has."""
        if self._socket is None:
            return {}
        evidence, now = self._machine.evidence, time.monotonic_ns()

        def since(moment: int | None) -> float | None:
            return None if moment is None else round((now - moment) / SECOND, 3)

        return {
            "kernel_drops": self._socket.kernel_drops,
            "naks_unsent": evidence.naks_unsent,
            "transfer_seconds": since(evidence.began),
            "silence": since(self._machine.heard),
        }

    @staticmethod
    def _losses(counters: dict[str, Any]) -> str:
        """Return what was lost, and where, for people."""
        text = f"{counters['lost']} packets lost"
        if counters.get("kernel_drops"):
            text += f", about {counters['kernel_drops']} of them here"
        if counters["lost_unbelieved"]:
            text += f" ({counters['lost_unbelieved']} more seem to be, by numbers not believed)"
        return text

    def adopted(self, action: Adopted) -> None:
        """Show what is being received."""
        manifest, rate = action.manifest, action.rate
        self._output.event(
            "manifest",
            f"object {oid_text(manifest.oid)}: {manifest.name}, {human_bytes(manifest.size)}, "
            f"announced at {human_rate(rate)}; no key: integrity is checked, origin is not",
            oid=oid_text(manifest.oid),
            name=manifest.name,
            size=manifest.size,
            symbol_size=manifest.symbol_size,
            blocks=manifest.blocks,
            tree_digest=manifest.tree_digest.hex(),
            rate=rate,
            stored=self._machine.progress[0],
            symbols=manifest.symbols,
            seconds=round(self._output.seconds, 3),
        )
        if self._socket is None:
            return
        granted = self._socket.granted
        wanted = rate * BUFFER_MS // 8000
        if granted < wanted:
            held = granted * 8000 // rate
            self._output.warn(
                f"the receive buffer of {human_bytes(granted)} holds {held} ms of "
                f"{human_rate(rate)}: packets may be lost; as root: sysctl -w "
                f"net.core.rmem_max={wanted}",
                cause="buffer",
            )

    def superseded(self, action: Superseded) -> None:
        """Say that the object changed."""
        self._output.event(
            "superseded",
            f"object {oid_text(action.oid)} is no longer sent, {oid_text(action.by)} is: "
            "starting anew",
            oid=oid_text(action.oid),
            by=oid_text(action.by),
        )

    def damaged(self, action: Damaged) -> None:
        """Say that a block has to be fetched again."""
        self._output.event(
            "damaged",
            f"block {action.block} does not match its digest: fetching it again",
            block=action.block,
        )

    def progress(self) -> None:
        """Show what is there, or why there is nothing."""
        stored, symbols = self._machine.progress
        counters = self.counters()
        self._output.event("progress", "", stored=stored, symbols=symbols, **counters)
        silence = counters.get("silence") or 0
        before, self._stored = self._stored, stored
        if not self._machine.counters.packets:
            refused = self._machine.counters.refused.total()
            text = f"waiting: {refused} packets, none valid" if refused else "waiting: no packets"
        elif silence * SECOND >= SILENT_AFTER:
            text = f"nothing for {silence:.0f} s: is the sender gone?"
        elif not self._machine.manifest:
            text = "receiving, no manifest yet"
        elif stored == before:
            text = "verifying" if stored == symbols else "waiting for what is missing"
        else:
            text = "receiving"
        self._output.bar(text, stored, symbols or None)

    def warn(self, text: str, **facts: Any) -> None:
        """Pass a warning on."""
        self._output.warn(text, **facts)

    def complete(self, manifest: Manifest, path: str, part: PartFile, *, is_new: bool) -> None:
        """Say that the object was verified, and published if it was not in place already."""
        counters = self.counters()
        if is_new:
            reused = f", {human_bytes(part.reused)} of it from files here" if part.reused else ""
            text = (
                f"complete: {path}, {human_bytes(manifest.size)} verified in "
                f"{human_time(counters['transfer_seconds'] or 0)}{reused}, "
                f"{counters['cycles']:.2f} cycles, {self._losses(counters)}"
            )
        else:
            text = (
                f"complete: {path} is this object already, {human_bytes(manifest.size)} verified; "
                "it stays as it is"
            )
        self._output.event(
            "complete",
            text,
            oid=oid_text(manifest.oid),
            path=path,
            size=manifest.size,
            tree_digest=manifest.tree_digest.hex(),
            is_new=is_new,
            reused=part.reused,
            **counters,
        )

    def failed(self, error: PgmliteError, part: str) -> None:
        """Print the summary of a transfer that did not complete; the error itself is not said."""
        stored, symbols = self._machine.progress
        counters = self.counters()
        kept = "nothing of the object is kept"
        if symbols and os.path.lexists(part):
            share = f"{stored / symbols:.1%}"
            kept = f"{share} of the object is in {part} and will be used by the next run"
        self._output.failed(
            "failed",
            f"incomplete: {kept}; {counters['packets']} packets came, {self._losses(counters)}, "
            f"{sum(counters['refused'].values())} refused"
            if symbols
            else "",
            error,
            stored=stored,
            symbols=symbols,
            others=[
                {"oid": oid_text(other.oid), "name": other.name, "size": other.size}
                for other in self._machine.evidence.others.values()
            ],
            **counters,
        )
