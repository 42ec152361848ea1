"""``keygen``: a key for signing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.options import option
from pgmlite.storage.keys import public_path

EPILOG = """\b
The same with openssl:
  openssl genpkey -algorithm ed25519 -out k.pem
  openssl pkey -in k.pem -pubout -out k.pub.pem
"""


@click.command(epilog=EPILOG, short_help="Make a key for signing.")
@click.argument("key", metavar="K.pem", type=options.PATH, callback=options.named)
@option("--json", "as_json", is_flag=True, help="Print JSON.")
def keygen(key: Path, as_json: bool) -> None:
    """Make an Ed25519 key: K.pem to sign with, and K.pub.pem for `recv --key`.

    K.pem is for its owner alone: it belongs on the machine where objects are signed, and on no
    sender or receiver. No file is ever overwritten.
    """
    made, public = api.keygen(key).hex(), public_path(key)
    if as_json:
        print(json.dumps({"key": made, "private": str(key), "public": str(public)}))
    else:
        print(f"key {made}: {key} signs, {public} is for receivers")
