"""``recv``: a receiver, until its file is verified and in place."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random, SystemRandom

import click

from pgmlite.cli import options
from pgmlite.cli.hook import CompletionHook
from pgmlite.cli.options import PATH, option
from pgmlite.cli.output import Output, ReceiveReport
from pgmlite.cli.values import check_seconds, parse_oid, parse_repairer, parse_share
from pgmlite.core.config import ReceiverConfig
from pgmlite.core.human import human_bytes
from pgmlite.core.impair import Loss
from pgmlite.core.receive.receiver import Receiver
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.address import resolve
from pgmlite.net.hook import find_command
from pgmlite.net.loop import Stop
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.udp import ReceiverSocket
from pgmlite.storage.part import PartFile
from pgmlite.storage.record import remove_record

EXAMPLES = """\b
Examples:
  pgmlite recv -o firmware.bin -i eth0
  pgmlite recv -o image.iso -g 239.1.2.3 -i eth0 --timeout 3600
  pgmlite recv -o fw.bin -i eth0 --on-complete 'rauc install'
"""


@click.command(epilog=EXAMPLES)
@options.output_path
@options.group
@options.port
@options.interface
@option("--object", "oid", metavar="ID", help="Take this object only, by the ID send prints.")
@option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="Give up after this time; what came is kept.",
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
    "--on-complete",
    metavar="CMD",
    help="Run CMD, with PATH as its last argument, once the file is in place; again, if a "
    "recv before this one could not.",
)
@option(
    "--hook-timeout",
    type=float,
    metavar="SECONDS",
    help="End the command of --on-complete after this time.",
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
@options.as_json
def recv(
    output_path: Path,
    group: str,
    port: int,
    interface: str | None,
    oid: str | None,
    timeout: float | None,
    no_nak: bool,
    repairer: tuple[str, ...],
    on_complete: str | None,
    hook_timeout: float | None,
    drop: str,
    seed: int,
    bases: tuple[Path, ...],
    verify_media: bool,
    as_json: bool,
) -> None:
    """Receive a file into PATH.

    Join at any time: what comes past is kept in PATH.part, and PATH is put in place when
    every byte has been verified. A receiver that was stopped goes on where it was. What PATH has
    already is not fetched again; if it is what is sent, it stays as it is.
    """
    stop = Stop()
    stop.install()
    limit = check_seconds("--timeout", timeout)
    wanted = None if oid is None else parse_oid(oid)
    share = parse_share("--drop", drop)
    if hook_timeout is not None and on_complete is None:
        raise UsageError("--hook-timeout: needs --on-complete")
    hook_limit = check_seconds("--hook-timeout", hook_timeout)
    command = None if on_complete is None else find_command(on_complete)
    output = Output(as_json=as_json)

    def before_rename(status: os.stat_result) -> None:
        if hook is None:
            remove_record(output_path)
        elif manifest := machine.manifest:
            hook.publishing(manifest, status)

    part = PartFile(
        output_path, bases=bases, verify_media=verify_media, before_rename=before_rename
    )
    hook = None
    try:
        if command:
            hook = CompletionHook(command, output_path, output, stop, timeout=hook_limit)
            hook.resume()  # before the network, which may not be there yet
        channel = resolve(group, port, interface)
        config = ReceiverConfig(
            oid=wanted,
            naks=not no_nak,
            repairers=frozenset(parse_repairer(text, channel) for text in repairer),
        )
        machine = Receiver(config, rng=SystemRandom())
        socket = ReceiverSocket(channel)
        with output:
            report = ReceiveReport(output, machine, socket)
            output.event(
                "start",
                f"waiting for {channel} (receive buffer {human_bytes(socket.granted)})",
                group=channel.group,
                port=channel.port,
                interface=channel.interface,
                buffer=socket.granted,
                output=str(output_path),
            )
            loop = ReceiveLoop(
                machine,
                socket,
                part,
                report,
                stop,
                timeout=limit,
                loss=Loss(share, Random(seed)) if share else None,
            )
            try:
                manifest = loop.run().manifest
            except PgmliteError as error:
                report.failed(error, str(part.path))
                raise
            report.complete(manifest, str(output_path), part, is_new=loop.is_new)
        if hook:
            hook.finish(manifest)
    finally:
        part.close()
        if hook:
            hook.close()
