"""``recv``: a receiver, until its file is verified and in place."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from random import Random, SystemRandom

import click

from pgmlite.cli import options
from pgmlite.cli.options import option
from pgmlite.cli.output import Output, ReceiveReport, oid_text
from pgmlite.cli.values import check_seconds, human_bytes, parse_oid, parse_repairer, parse_share
from pgmlite.core.config import ReceiverConfig
from pgmlite.core.impair import Loss
from pgmlite.core.receiver import Receiver
from pgmlite.errors import HookError, PgmliteError, UsageError
from pgmlite.net.address import resolve
from pgmlite.net.loop import Stop
from pgmlite.net.receiving import ReceiveLoop
from pgmlite.net.udp import ReceiverSocket
from pgmlite.storage.part import PartFile
from pgmlite.wire.control import Manifest

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
    help="Run CMD, with PATH as its last argument, once the file is in place.",
)
@option(
    "--drop",
    default="0%",
    metavar="SHARE",
    help="Lose packets on purpose, such as 5%: for tests.",
)
@option("--seed", type=int, default=0, help="Seed of --drop.")
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
    drop: str,
    seed: int,
    as_json: bool,
) -> None:
    """Receive a file into PATH.

    Join at any time: what comes past is kept in PATH.part, and PATH is put in place when
    every byte has been verified. A receiver that was stopped goes on where it was.
    """
    stop = Stop()
    stop.install()
    limit = check_seconds("--timeout", timeout)
    channel = resolve(group, port, interface)
    config = ReceiverConfig(
        oid=None if oid is None else parse_oid(oid),
        naks=not no_nak,
        repairers=frozenset(parse_repairer(text, channel) for text in repairer),
    )
    share = parse_share(drop)
    command = _command(on_complete)
    machine = Receiver(config, rng=SystemRandom())
    part = PartFile(output_path)
    try:
        socket = ReceiverSocket(channel)
        with Output(as_json=as_json) as output:
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
            report.complete(manifest, str(output_path))
            if command:
                _run_hook(command, output_path, manifest)
    finally:
        part.close()


def _command(text: str | None) -> list[str]:
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise UsageError(f"--on-complete {text}: {error}") from None


def _run_hook(command: list[str], path: Path, manifest: Manifest) -> None:
    """Run the user's command on the published file.

    Raises:
        HookError: It can't be started, or says that it failed.
    """
    facts = {
        "PGMLITE_PATH": str(path),
        "PGMLITE_NAME": manifest.name,
        "PGMLITE_SIZE": str(manifest.size),
        "PGMLITE_OBJECT_ID": oid_text(manifest.oid),
        "PGMLITE_INDEX_DIGEST": manifest.index_digest.hex(),
    }
    try:
        # Standard output is for our own events.
        code = subprocess.run(
            [*command, str(path)], env=os.environ | facts, stdout=sys.stderr, check=False
        ).returncode
    except OSError as error:
        raise HookError(
            f"--on-complete {command[0]}: {error.strerror}; {path} is in place"
        ) from error
    if code:
        raise HookError(f"--on-complete {command[0]}: exit code {code}; {path} is in place")
