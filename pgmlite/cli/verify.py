"""``verify``: is a signed object right?"""

from __future__ import annotations

from pathlib import Path

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals

EXAMPLES = """\b
Examples:
  pgmlite verify firmware.bin.pglm --key k.pub.pem
  pgmlite verify firmware.bin.pglm --key /etc/pgmlite/keys    (a folder: all *.pem)
"""


@click.command(epilog=EXAMPLES, short_help="Check the signatures and the content of FILE.pglm.")
@click.argument("file", metavar="FILE.pglm", type=options.PATH, callback=options.named)
@options.key_files(
    metavar="PUB.pem|FOLDER",
    help="Public key, of which one has to have signed; repeatable. Without one, who signed is not "
    "checked.",
)
@options.content
@options.spool
@options.as_json
def verify(
    file: Path,
    keys: tuple[Path, ...],
    content: Path | None,
    spool: Path | None,
    as_json: bool,
) -> None:
    """Check FILE.pglm as receivers with these keys do, and that FILE is its content.

    Exit code 0: signed by one of the keys, not expired, complete and of this content; 4: not so.
    """
    signals = Signals()
    signals.install()
    handle = api.verify(file, keys=keys, content=content, spool=spool)
    signals.stop(handle)
    Output(as_json=as_json).follow(handle)
