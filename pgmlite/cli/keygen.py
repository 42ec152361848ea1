"""``keygen``: a key for signing."""

from __future__ import annotations

from pathlib import Path

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.storage.keys import public_path

EPILOG = """\b
The same with openssl:
  openssl genpkey -algorithm ed25519 -out k.pem
  openssl pkey -in k.pem -pubout -out k.pub.pem
"""


@click.command(epilog=EPILOG, short_help="Make a key for signing.")
@click.argument("key", metavar="K.pem", type=options.PATH, callback=options.named)
def keygen(key: Path) -> None:
    """Make an Ed25519 key: K.pem to sign with, and K.pub.pem for `recv --key`.

    K.pem is for its owner alone: it belongs on the machine where objects are signed, and on no
    sender or receiver. No file is ever overwritten.
    """
    made = api.keygen(key)
    print(f"key {made.hex()}: {key} signs, {public_path(key)} is for receivers")
