"""``send``: the carousel, and on demand the answers to NAKs."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom
from typing import Any

import click
from click.core import ParameterSource

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.options import option
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals
from pgmlite.cli.values import parse_rate, parse_share
from pgmlite.errors import UsageError
from pgmlite.net.arguments import ORDERS
from pgmlite.net.notify import told_of
from pgmlite.storage.signed import is_signed_name

EXAMPLES = """\b
Examples:
  pgmlite send firmware.bin -i eth0 -r 50M
  pgmlite send image.iso -g 239.1.2.3 -i eth0 -r 200M --hops 8
  pgmlite send firmware.bin -i eth0 --start 0/2
  pgmlite send firmware.bin -i eth0 --start 1/2   (a second sender, of the other half)
  pgmlite send --print-dns fw.example.org -i eth0   (lines for a zone; see recv NAME)
  pgmlite send firmware.bin -i eth0 --fec 100%    (where a third of all packets or more are lost)
  pgmlite send firmware.bin -i eth0 --channel ff15::1,5M --channel ff15::2,20M
  pgmlite send firmware.bin.pglm -i eth0 -r 50M   (signed: see sign)
  pgmlite send firmware.bin.pglm -i eth0 --follow   (and each release that replaces it)
  pgmlite send site/ -i eth0                      (a folder; recv -o site/ takes it)
  zcat disk.img.gz | pgmlite send - --name disk.img -i eth0
  pgmlite send /dev/sdb -i eth0 -r 500M           (a disk that is not in use)
"""

OF_ZONE = frozenset(
    {"print_dns", "group", "port", "interface", "source", "rate", "channels", "hops"}
)
"""Parameters that say what ``--print-dns`` prints."""


def _where(group: str, rate: str, channels: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """Return where to send and how fast, as `api.send` takes it.

    Raises:
        UsageError: It is said twice, or is wrong.
    """
    if not channels:
        return {"group": group, "rate": parse_rate(rate)}
    for option_, name in (("-g", "group"), ("-r", "rate")):
        # What the environment says is a default: it gives way.
        if options.is_given(name):
            raise UsageError(f"{option_}: each --channel has its own; leave it out")
    return {"channels": channels}


@click.command(epilog=EXAMPLES)
@click.argument("file", metavar="FILE|DIR|DEVICE|-", type=options.PATH, required=False)
@options.group
@options.port
@options.interface
@option(
    "--source",
    metavar="ADDR",
    help="The address of the interface to send from; default: the system chooses.",
)
@options.rate
@options.hops
@options.of_manifest
@option(
    "--order",
    type=click.Choice(list(ORDERS)),
    default="rounds",
    show_default=True,
    help="Some symbols of each block in turn; or block after block at first, for slow disks.",
)
@option(
    "--start",
    metavar="I/N|random",
    help="With which sector to begin, such as 0/2 and 1/2 for two senders; random: in an order of "
    "its own. Default: somewhere.",
)
@option(
    "--cycles",
    type=click.IntRange(1),
    metavar="N",
    help="Stop after N cycles: as many packets of the object as its length, N times.",
)
@options.duration("--duration", help="Stop after this time, such as 90s or 8h.")
@option(
    "--follow",
    is_flag=True,
    help="Go on: when FILE is replaced by a rename, or FILE.pglm is, send what is there then.",
)
@option("--repair", is_flag=True, help="Answer NAKs: repeat at once what receivers say they lost.")
@options.listen
@option(
    "--repair-share",
    metavar="SHARE",
    help="Share of the rate that repairs may take, 5% to 90%; default: 50%.",
)
@options.content
@options.spool
@option(
    "--print-dns",
    metavar="NAME",
    help="Print what DNS needs so that `recv NAME` finds this machine, with a group that is drawn "
    "unless -g names one; send nothing.",
)
@options.log_interval
@options.as_json
def send(
    file: Path | None,
    group: str,
    port: int,
    interface: str | None,
    source: str | None,
    rate: str,
    hops: int,
    plan: dict[str, Any],
    order: str,
    start: str | None,
    cycles: int | None,
    duration: float | None,
    follow: bool,
    repair: bool,
    listen: str | None,
    repair_share: str | None,
    content: Path | None,
    spool: Path | None,
    print_dns: str | None,
    log_interval: float | None,
    as_json: bool,
) -> None:
    """Send FILE for ever, to whoever listens; or what FILE.pglm is of, see `sign`.

    A folder is sent as an archive of it: names, modes, owners, times, links. It and standard input
    (-) are copied first, see --spool. What goes wrong where standard input comes from is not seen
    here: what came before its end is sent.

    Packets go out at a steady rate, over and over. Without --repair nothing is ever read from
    the network: one receiver or a million cost the same. Press Ctrl-C to stop.
    """
    signals = Signals()
    signals.install()
    shown = Output(as_json=as_json, log_interval=log_interval, is_quiet=follow)
    channels = plan.pop("channels")
    if print_dns is not None:
        options.refuse_others(OF_ZONE, "has no effect with --print-dns; leave it out")
        found = _dns_channels(group, rate, channels)
        _print_zone(print_dns, found, port, interface, source, hops)
        return
    if file is None:
        context = click.get_current_context()
        raise click.MissingParameter(
            ctx=context, param_hint="'FILE|DIR|DEVICE|-'", param_type="argument"
        )
    for name, value in (("--listen", listen), ("--repair-share", repair_share)):
        if value is not None and not repair:
            raise UsageError(f"{name}: goes with --repair")
    share: dict[str, Any] = (
        {}
        if repair_share is None
        else {"repair_share": parse_share("--repair-share", repair_share)}
    )
    if is_signed_name(file) and not options.is_given("mtu"):
        plan["mtu"] = None  # what the environment says is a default: it gives way
    handle = api.send(
        file,
        **_where(group, rate, channels),
        port=port,
        interface=interface,
        source=source,
        hops=hops,
        content=content,
        spool=spool,
        order=order,
        start=start,
        cycles=cycles,
        duration=duration,
        follow=follow,
        repair=repair,
        listen=listen,
        **plan,
        **share,
    )
    handle = told_of(handle, os.environ)
    signals.stop(handle)
    shown.follow(handle)


def _dns_channels(
    group: str, rate: str, channels: tuple[tuple[str, int], ...]
) -> list[tuple[str | None, int]]:
    """Return the groups that DNS shall name, None where one is to be drawn, and their bit/s.

    Raises:
        UsageError: There is no rate that DNS could name.
    """
    if channels:
        return list(_where(group, rate, channels)["channels"])
    bits = parse_rate(rate)
    if bits is None:
        raise UsageError("--rate max: DNS names a rate; give one")
    is_named = click.get_current_context().get_parameter_source("group")
    return [(None if is_named is ParameterSource.DEFAULT else group, bits)]


def _print_zone(
    name: str,
    channels: list[tuple[str | None, int]],
    port: int,
    interface: str | None,
    source: str | None,
    hops: int,
) -> None:
    """Print the lines of a zone.

    Raises:
        UsageError: DNS can't have what is asked for.
        NetworkError: There is no such interface, or it has no address that can be used.
    """
    # Imported when needed: a sender starts sooner without it.
    from pgmlite.net.zone import zone_lines

    lines = zone_lines(
        name, channels, port=port, interface=interface, source=source, hops=hops, rng=SystemRandom()
    )
    print("\n".join(lines))
