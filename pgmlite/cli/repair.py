"""``repair``: a repairer beside the receivers, with its own copy of the file."""

from __future__ import annotations

from pathlib import Path

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals
from pgmlite.cli.values import parse_rate

EXAMPLES = """\b
Examples:
  pgmlite repair firmware.bin -i eth0 -r 20M --listen :28776
then, at the receivers:
  pgmlite recv -o firmware.bin -i eth0 --repairer [fd01::2]:28776
"""


@click.command(epilog=EXAMPLES, short_help="Answer NAKs from a copy of FILE.")
@options.file
@options.content
@options.spool
@options.group
@options.port
@options.interface
@options.sources
@options.rate
@options.hops
@options.listen
@options.log_interval
@options.as_json
def repair(
    file: Path,
    content: Path | None,
    spool: Path | None,
    group: str,
    port: int,
    interface: str | None,
    sources: tuple[str, ...],
    rate: str,
    hops: int,
    listen: str | None,
    log_interval: float | None,
    as_json: bool,
) -> None:
    """Answer NAKs from a copy of FILE, while a sender that hears nothing loops it.

    Waits for the sender's manifest, makes sure that FILE is what it announces, and then repeats
    what receivers lost. Of a signed object give FILE.pglm; of a folder one that is the same, with
    its times and owners. Receivers ask it if the manifest names
    it (`send --repairer`) or if they were told (`recv --repairer`). Several may run.
    """
    signals = Signals()
    signals.install()
    shown = Output(as_json=as_json, log_interval=log_interval)
    handle = api.repair(
        file,
        content=content,
        spool=spool,
        group=group,
        port=port,
        interface=interface,
        sources=sources,
        rate=parse_rate(rate),
        hops=hops,
        listen=listen,
    )
    signals.stop(handle)
    shown.follow(handle)
