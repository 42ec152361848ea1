"""``recv``: a receiver, until its file is verified and in place; or several, or one that stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pgmlite.api import Handle, receive, together
from pgmlite.cli import options
from pgmlite.cli.config_file import Configured, each_table
from pgmlite.cli.options import PATH, option
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals
from pgmlite.cli.values import parse_rate_limit, parse_share, parse_size
from pgmlite.errors import UsageError
from pgmlite.net.job_receive import Receiving
from pgmlite.net.notify import told_of
from pgmlite.storage.record import MAX_FOLDERS

EXAMPLES = """\b
Examples:
  pgmlite recv -o firmware.bin -i eth0
  pgmlite recv -o image.iso -g 239.1.2.3 -i eth0 --timeout 1h
  pgmlite recv -o fw.bin -i eth0 --on-complete 'rauc install'
  pgmlite recv -o fw.bin -i eth0 --key release.pub.pem --stream example/router
  pgmlite recv -o fw.bin -i eth0 --key keys/ --stream example/router --follow
  pgmlite recv --config /etc/pgmlite/firmware.toml
  pgmlite recv fw.example.org -o fw.bin   (DNS has the group, the port and the senders)
"""


@click.command(cls=Configured, epilog=EXAMPLES)
@click.argument("name", metavar="[NAME]", required=False)
@options.output
@option(
    "--device",
    metavar="DEVICE",
    help="The block device to write, in place of -o; never one that is in use.",
)
@option(
    "--spool",
    metavar="FOLDER",
    help="Where what comes lies until it is whole, for -o - and --device. Default: $TMPDIR or "
    "/var/tmp.",
)
@option(
    "--keep",
    type=click.IntRange(0, MAX_FOLDERS),
    default=0,
    metavar="N",
    help="Of -o DIR/: keep N folders that were replaced, as DIR.1, DIR.2 and so on, "
    f"{MAX_FOLDERS} at most.",
)
@options.group
@options.port
@options.interface
@options.sources_and_hosts
@option("--object", "oid", metavar="ID", help="Take this object only, by the ID send prints.")
@options.keys
@options.stream
@options.object_name
@option(
    "--allow-rollback",
    is_flag=True,
    help="Take an older release than was installed as well; needs --key. For people, not for "
    "services.",
)
@options.duration(
    "--timeout", help="Give up after this time, such as 90s or 2h; what came is kept."
)
@option("--no-nak", is_flag=True, help="Never ask for repairs; use those that others ask for.")
@option(
    "--repairer",
    multiple=True,
    metavar="ADDR:PORT",
    envvar="PGMLITE_REPAIRER",
    help="A stand-alone repairer that may be asked; repeatable.",
)
@option(
    "--channels",
    default="auto",
    metavar="auto|N|A-B",
    help="Of several rates at which it is sent: hear the one that fits (auto), one (0 is the "
    "lowest), or several at once.",
)
@option(
    "--rate-limit",
    metavar="RATE",
    help="Hear no more bits a second than this, such as 20M; the lowest channel in any case.",
)
@option(
    "--max-size",
    metavar="BYTES",
    help="Take no larger object, such as 500M or 4G; the disk and the memory are limits anyway.",
)
@option(
    "--on-complete",
    metavar="CMD",
    help="Run CMD, with PATH as its last argument, once the file is in place; again, if a "
    "recv before this one could not.",
)
@options.duration(
    "--hook-timeout", help="End the command of --on-complete after this time, such as 10m."
)
@option(
    "--drop",
    default="0%",
    metavar="SHARE",
    help="Lose packets on purpose, such as 5%: for tests.",
)
@option("--seed", type=int, default=0, help="Seed of --drop.")
@option(
    "--base",
    "bases",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="A file that may have a part of what comes, such as an older version; repeatable. What is "
    "at PATH is one anyway.",
)
@option(
    "--verify-media",
    is_flag=True,
    help="Read everything back from the disk once more before it is put in place.",
)
@option(
    "--follow",
    is_flag=True,
    help="Stay, and take one object after another: the newest release, or what is new.",
)
@click.option(
    "--config",
    type=PATH,
    metavar="FILE",
    help="Take options from this file (TOML): a table for each output, all at once; keys are the "
    "long names of options, and service for NAME.",
)
@options.log_interval
@options.as_json
def recv(*, config: Path | None, log_interval: float | None, as_json: bool, **given: Any) -> None:
    """Receive a file into PATH: from the senders that DNS has for NAME, or those of a group.

    Join at any time: what comes past is kept in PATH.part, and PATH is put in place when
    every byte has been verified. A receiver that was stopped goes on where it was. What PATH has
    already is not fetched again; if it is what is sent, it stays as it is.

    With --key, which needs cryptography (pip install 'pgmlite[trust]'), the highest release of each
    stream that was put in place is remembered, in $PGMLITE_STATE, $STATE_DIRECTORY or
    ~/.local/state/pgmlite, and no lower one is taken.

    With --follow it stays, and takes one object after another: with a key the newest release of the
    stream, else what is announced and was never here; one that was is taken again when the one in
    place has not been announced for 60 s. SIGTERM ends it with 0, SIGHUP has it read its keys
    again. --config takes several at once from a file, a table each.
    """
    signals = Signals()
    signals.install()
    handles = {"": _receiver(**given)} if config is None else each_table(config, _receiver)
    handle = handles[""] if config is None else together(handles)
    stays = any(not isinstance(one, Receiving) for one in handles.values())
    shown = Output(as_json=as_json, log_interval=log_interval, is_quiet=stays)
    handle = told_of(handle, os.environ, tuple(handles))
    signals.stop(handle)
    if stays:
        signals.reload(handle)
    shown.follow(handle)


def _receiver(
    name: str | None,
    output: str | None,
    device: str | None,
    spool: str | None,
    keep: int,
    group: str,
    port: int,
    interface: str | None,
    sources: tuple[str, ...],
    oid: str | None,
    keys: tuple[Path, ...],
    stream: str | None,
    object_name: str | None,
    allow_rollback: bool,
    timeout: float | None,
    no_nak: bool,
    repairer: tuple[str, ...],
    channels: str,
    rate_limit: str | None,
    max_size: str | None,
    on_complete: str | None,
    hook_timeout: float | None,
    drop: str,
    seed: int,
    bases: tuple[Path, ...],
    verify_media: bool,
    follow: bool,
) -> Handle[Any]:
    """Return what receives as the options say.

    Raises:
        UsageError: One is wrong.
    """
    if hook_timeout is not None and on_complete is None:
        raise UsageError("--hook-timeout: needs --on-complete")
    where: dict[str, Any] = {"group": group, "port": port}
    if name is not None:
        # What the environment says is for receivers that are given no name.
        where = {key: value for key, value in where.items() if options.is_given(key)}
    receiving = receive(
        output,
        device=device,
        spool=spool,
        keep=keep,
        name=name,
        **where,
        interface=interface,
        sources=sources,
        oid=oid,
        keys=keys,
        stream=stream,
        object_name=object_name,
        allow_rollback=allow_rollback,
        timeout=timeout,
        naks=not no_nak,
        repairers=repairer,
        channels=channels,
        rate_limit=parse_rate_limit(rate_limit),
        max_size=parse_size("--max-size", max_size),
        on_complete=on_complete,
        hook_timeout=hook_timeout,
        bases=bases,
        verify_media=verify_media,
        loss=parse_share("--drop", drop),
        seed=seed,
    )
    return receiving.follow() if follow else receiving
