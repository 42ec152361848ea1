"""``send``: the carousel, and on demand the answers to NAKs."""

from __future__ import annotations

from pathlib import Path

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.options import option
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals
from pgmlite.cli.values import parse_fec, parse_rate, parse_share
from pgmlite.errors import UsageError
from pgmlite.net.arguments import DEFAULT_FEC, ORDERS

EXAMPLES = """\b
Examples:
  pgmlite send firmware.bin -i eth0 -r 50M
  pgmlite send image.iso -g 239.1.2.3 -i eth0 -r 200M --hops 8
  pgmlite send firmware.bin -i eth0 --start 0/2
  pgmlite send firmware.bin -i eth0 --start 1/2   (a second sender, of the other half)
  pgmlite send firmware.bin -i eth0 --fec 100%    (where a third of all packets or more are lost)
"""


@click.command(epilog=EXAMPLES)
@options.file
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
@option(
    "--fec",
    default=f"{DEFAULT_FEC:.0%}",
    metavar="PERCENT|off",
    show_default=True,
    help="Repair symbols, as a share of the object. Receivers make up for losses with any of them.",
)
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
@option("--duration", type=float, metavar="SECONDS", help="Stop after this time.")
@option(
    "--mtu",
    type=int,
    metavar="BYTES",
    envvar="PGMLITE_MTU",
    help="Largest IP packet. Default: the interface's up to 1500 on one link "
    "(--hops 1), else 1280. Senders of one object must use the same.",
)
@option(
    "--symbol-size",
    type=int,
    metavar="BYTES",
    help="Bytes of the file in a packet; overrides --mtu.",
)
@option("--repair", is_flag=True, help="Answer NAKs: repeat at once what receivers say they lost.")
@options.listen
@option(
    "--repair-share",
    metavar="SHARE",
    help="Share of the rate that repairs may take, 5% to 90%; default: 50%.",
)
@option(
    "--repairer",
    multiple=True,
    metavar="ADDR:PORT",
    help="Name a stand-alone repairer in the manifest; repeatable.",
)
@options.as_json
def send(
    file: Path,
    group: str,
    port: int,
    interface: str | None,
    source: str | None,
    rate: str,
    hops: int,
    fec: str,
    order: str,
    start: str | None,
    cycles: int | None,
    duration: float | None,
    mtu: int | None,
    symbol_size: int | None,
    repair: bool,
    listen: str | None,
    repair_share: str | None,
    repairer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send FILE for ever, to whoever listens.

    Packets go out at a steady rate, over and over. Without --repair nothing is ever read from
    the network: one receiver or a million cost the same. Press Ctrl-C to stop.
    """
    signals = Signals()
    signals.install()
    for name, value in (("--listen", listen), ("--repair-share", repair_share)):
        if value is not None and not repair:
            raise UsageError(f"{name}: goes with --repair")
    share = (
        {}
        if repair_share is None
        else {"repair_share": parse_share("--repair-share", repair_share)}
    )
    handle = api.send(
        file,
        group=group,
        port=port,
        interface=interface,
        source=source,
        rate=parse_rate(rate),
        hops=hops,
        fec=parse_fec(fec),
        order=order,
        start=start,
        cycles=cycles,
        duration=duration,
        mtu=mtu,
        symbol_size=symbol_size,
        repair=repair,
        listen=listen,
        repairers=repairer,
        **share,
    )
    signals.stop(handle)
    Output(as_json=as_json).follow(handle)
