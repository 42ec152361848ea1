"""``list``: what is on the air."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.codes import Told
from pgmlite.cli.json_lines import EVENTS, line, oid_text, warning_text
from pgmlite.cli.lines import Priority, columns, say
from pgmlite.cli.signals import Signals
from pgmlite.cli.tables import Column, render
from pgmlite.core.events import Event, Warned
from pgmlite.core.events_listening import Listed, ListStarted, SessionHeard
from pgmlite.core.human import human_bytes, human_list, human_name, human_rate, human_time
from pgmlite.errors import PgmliteError
from pgmlite.wire.endpoint import Endpoint

SECONDS = 3.0
"""Senders announce what they send once a second, or more often."""

MOST_NAMED = 4
"""Addresses and keys of an object that the table names."""

EXAMPLES = """\b
Examples:
  pgmlite list -i eth0
  pgmlite list -g 239.1.2.3 -i eth0 --key release.pub.pem
  pgmlite list fw.example.org --json   (DNS has the groups, the port and the senders)
"""


@click.command("list", epilog=EXAMPLES, short_help="Name what is sent to a group, and by whom.")
@click.argument("name", metavar="[NAME]", required=False)
@options.group
@options.port
@options.interface
@options.sources_and_hosts
@options.key_files(
    metavar="PUB.pem|FOLDER",
    help="Check signatures by this public key; repeatable, or a folder of keys.",
)
@options.duration("--seconds", default=SECONDS, help="For how long to listen, such as 10s.")
@options.as_json
def listing(
    name: str | None,
    group: str,
    port: int,
    interface: str | None,
    sources: tuple[str, ...],
    keys: tuple[Path, ...],
    seconds: float,
    as_json: bool,
) -> None:
    """Name the objects that are sent to a group, or on the channels that DNS has for NAME.

    Of each: its ID and name for `recv --object` and `recv --name`, how large it is, how fast it is
    sent and by whom, who has signed it, and how long a receiver takes that starts now. All of that
    is what senders say; signatures are checked where --key is given. Nothing is received or kept.
    The exit code is 0 if something is announced, else 5: then `doctor` says why.
    """
    signals = Signals()
    signals.install()
    where: dict[str, Any] = {"group": group, "port": port}
    if name is not None:
        # What the environment says is for who gives no name.
        where = {key: value for key, value in where.items() if options.is_given(key)}
    handle = api.list_sessions(
        name, **where, interface=interface, sources=sources, keys=keys, seconds=seconds
    )
    signals.stop(handle)
    found: list[SessionHeard] = []
    told: PgmliteError | None = None
    try:
        with handle:
            for event in handle:
                told = event.error if isinstance(event, Listed) else told
                if isinstance(event, SessionHeard):
                    found.append(event)
                if as_json:
                    EVENTS.write(line(event, handle.began))
                else:
                    show(event, found)
    except PgmliteError as error:
        if error is told:
            raise Told(error) from error
        raise


def show(event: Event, found: list[SessionHeard]) -> None:
    """Print what there is to say of an event, `found` being what was heard by then."""
    match event:
        case ListStarted():
            # What is being printed is the list; this is what it waits for.
            where = Endpoint(event.group, event.port)
            say(f"listening to {where} on {event.interface} for {event.seconds:g} s")
        case Warned():
            say(f"warning: {warning_text(event)}", Priority.WARNING)
        case Listed(error=None):
            print(*table(found, event.more, columns(sys.stdout)), sep="\n", flush=True)


def table(found: list[SessionHeard], more: int, width: int) -> list[str]:
    """Return the lines that name what was heard, none longer than `width` unless a word is.

    Args:
        more: Objects that are not among them.
    """
    count = f"{len(found)} object{'s' * (len(found) != 1)}"
    keys = any(one.state != "claimed" for event in found for one in event.signatures)
    claims = "what is signed by keys that were given was checked, the rest is" if keys else "all is"
    cells = {heading: [fact(one) for one in found] for heading, fact in FACTS.items()}
    facts = [
        Column(heading, cells, is_number=heading in NUMBERS)
        for heading, cells in cells.items()
        if any(cells)  # of what nothing is known, nothing is said
    ]
    lines = render(f"{count}; {claims} what senders say", facts, width)
    if more:
        lines.append(f"and {more} more, of which less came")
    return lines


def _size(event: SessionHeard) -> str:
    """Return how large an object is, and how many members a folder has."""
    archive, size = event.manifest.archive, human_bytes(event.manifest.size)
    return f"{size} in {archive.entries} members" if archive else size


def _left(event: SessionHeard) -> str:
    return "" if event.time_left is None else human_time(event.time_left)


def _rate(event: SessionHeard) -> str:
    return human_rate(event.rate) if event.has_carousel else "repairs only"


def _release(event: SessionHeard) -> str:
    release = event.manifest.release
    return f"{release.number} of {release.stream}" if release else ""


def _signed(event: SessionHeard) -> str:
    words = {"valid": "valid", "wrong": "WRONG", "claimed": "claimed"}
    named = [f"{one.key.hex()} ({words[one.state]})" for one in event.signatures]
    return human_list(named, MOST_NAMED)


def _repairs(event: SessionHeard) -> str:
    """Return who repeats what receivers lost."""
    said = [f"NAKs at port {port}" for port in event.nak_ports[:MOST_NAMED]]
    if event.repairers:
        said.append(human_list(event.repairers, MOST_NAMED))
    return ", ".join(said)


def _fec(event: SessionHeard) -> str:
    manifest = event.manifest
    if not manifest.repair_symbols:
        return "off"
    return f"{manifest.repair_symbols / manifest.block_symbols:.0%}"


FACTS: dict[str, Callable[[SessionHeard], str]] = {
    "name": lambda one: human_name(one.manifest.name),
    "object": lambda one: oid_text(one.manifest.oid),
    "size": _size,
    "group": lambda one: str(Endpoint(one.group, one.port)),
    "rate": _rate,
    "heard": lambda one: human_rate(one.heard_rate) if one.heard_rate else "",
    "from": lambda one: human_list(one.sources, MOST_NAMED),
    "release": _release,
    "signed by": _signed,
    "repairs": _repairs,
    "FEC": _fec,
    "order": lambda one: ", ".join(one.orders),
    "whole in": _left,
}
"""What is said of an object, by the heading of its column."""

NUMBERS = frozenset({"size", "rate", "heard", "FEC", "whole in"})
"""Columns that are lined up to the right."""
