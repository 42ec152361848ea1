"""``doctor``: why nothing arrives, and what to do."""

from __future__ import annotations

import click

from pgmlite.api import Handle
from pgmlite.cli import options
from pgmlite.cli.codes import Told
from pgmlite.cli.json_lines import EVENTS, line
from pgmlite.cli.lines import say
from pgmlite.cli.options import option
from pgmlite.cli.signals import Signals
from pgmlite.core.events import Event, Examined, ExamineStarted
from pgmlite.core.events_listening import Checked
from pgmlite.core.figures import CheckResult
from pgmlite.errors import PgmliteError
from pgmlite.net.arguments import check_beside_name, check_seconds, parse_oid
from pgmlite.net.doctor.job import DoctorJob
from pgmlite.net.doctor.place import asked_for_group, asked_for_name

SECONDS = 10.0

EXAMPLES = """\b
Examples:
  pgmlite doctor -i eth0
  pgmlite doctor -g 239.1.2.3 -i eth0 --seconds 130
  pgmlite doctor -g ff3e::8000:1 --source fd01::1 --json
  pgmlite doctor fw.example.org   (DNS has the group, the port and the senders)
"""

WIDTH = 10
"""Columns of a cause, at least."""


@click.command(epilog=EXAMPLES, short_help="Say why nothing arrives, and what to do.")
@click.argument("name", metavar="[NAME]", required=False)
@options.group
@options.port
@options.interface
@options.sources_and_hosts
@option("--object", "oid", metavar="ID", help="The only object that is wanted.")
@options.duration(
    "--seconds",
    default=SECONDS,
    help="For how long to listen; 130 is enough for a querier of the usual interval.",
)
@options.as_json
def doctor(
    name: str | None,
    group: str,
    port: int,
    interface: str | None,
    sources: tuple[str, ...],
    oid: str | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Say why nothing arrives from the senders that DNS has for NAME, or those of a group.

    Give it what you give recv. It looks at this machine, listens, and prints what it finds: `ok`,
    `warn`, or `FAIL` for what keeps data away, each with what to do. It changes nothing and
    writes nothing. As root it also sees what comes to the interface and is dropped behind it.
    The exit code is 0 if data arrives, else 5.
    """
    signals = Signals()
    signals.install()
    number = None if oid is None else parse_oid(oid)
    if name is None:
        asked = asked_for_group(group, port, interface, sources, number)
    else:
        check_beside_name(name, is_given=options.is_given("group") or options.is_given("port"))
        asked = asked_for_name(name, interface, sources, number)
    limit = check_seconds("seconds", seconds)
    assert limit is not None  # noqa: S101 - only None becomes None
    handle = Handle(DoctorJob(asked=asked, seconds=limit).run)
    signals.stop(handle)
    told: PgmliteError | None = None
    try:
        with handle:
            for event in handle:
                told = event.error if isinstance(event, Examined) else told
                show(event, handle.began, as_json=as_json)
    except PgmliteError as error:
        if error is told:
            raise Told(error) from error
        raise


def show(event: Event, began: int, *, as_json: bool) -> None:
    """Print one event, `began` ns being the start."""
    if as_json:
        EVENTS.write(line(event, began))
        return
    match event:
        case ExamineStarted():
            # What is being printed is the report; this is what it waits for.
            say(f"listening for {event.seconds:g} s")
        case Checked():
            print(text_of(event.result), flush=True)
        case Examined(error=None):
            print("data arrives", flush=True)


def text_of(result: CheckResult) -> str:
    """Return lines for people; what strangers or the system named is made fit to print."""
    state = result.state.upper() if result.state == "fail" else result.state
    lines = [f"{state:4}  {result.cause + ':':{WIDTH}} {result.text}"]
    if result.advice:
        lines.append(f"      -> {result.advice}")
    if result.command:
        lines.append(f"         {result.command}")
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """Return text without what a terminal would obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
