"""``sign``: objects with an origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pgmlite import api
from pgmlite.cli import options
from pgmlite.cli.options import option
from pgmlite.cli.output import Output
from pgmlite.cli.signals import Signals
from pgmlite.errors import UsageError
from pgmlite.storage.signed import is_signed_name

EXAMPLES = """\b
Examples:
  pgmlite sign firmware.bin --key k.pem --release 17 --stream acme/x1 --expires 90d
  pgmlite send firmware.bin.pglm -i eth0       (on any machine that has both files)
  pgmlite recv -o firmware.bin -i eth0 --key k.pub.pem
One more signature, of the next key:
  pgmlite sign firmware.bin.pglm --key k2.pem
With a key that lives elsewhere:
  pgmlite sign firmware.bin --release 17 --stream acme/x1 --message m
  openssl pkeyutl -sign -rawin -in m -inkey k.pem -out m.sig
  pgmlite sign firmware.bin.pglm --public-key k.pub.pem --signature m.sig
"""

OF_SIGNED = frozenset({"file", "keys", "public_key", "signature", "message", "as_json"})
"""Parameters that go with FILE.pglm."""


@click.command(epilog=EXAMPLES, short_help="Sign FILE, or FILE.pglm once more.")
@options.file
@options.key_files(metavar="K.pem", help="Private key to sign with (PEM, Ed25519); repeatable.")
@option(
    "--release",
    type=int,
    metavar="N",
    help="Number of the release: receivers take no lower one of the stream, once they have it.",
)
@option("--stream", metavar="NAME", help="Product or branch that it is a release of.")
@options.duration(
    "--expires", help="When receivers take it no more, from now: 90d, 12h, 8w. Default: never."
)
@option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="PATH.pglm",
    help="What to write; default: FILE.pglm.",
)
@option(
    "--message",
    type=options.PATH,
    metavar="PATH",
    help="Write the bytes that are signed, for a key that lives elsewhere.",
)
@option(
    "--public-key",
    type=options.PATH,
    metavar="PUB.pem",
    help="With FILE.pglm: the key of --signature.",
)
@option(
    "--signature",
    type=options.PATH,
    metavar="PATH",
    help="With FILE.pglm: a signature to add, 64 bytes as of `openssl pkeyutl -sign -rawin`.",
)
@options.of_manifest
@options.port
@options.hops
@options.spool
@options.as_json
def sign(
    file: Path,
    keys: tuple[Path, ...],
    release: int | None,
    stream: str | None,
    expires: float | None,
    output: Path | None,
    message: Path | None,
    public_key: Path | None,
    signature: Path | None,
    plan: dict[str, Any],
    port: int,
    hops: int,
    spool: Path | None,
    as_json: bool,
) -> None:
    """Sign FILE: write FILE.pglm, which `send` takes; or add a signature to FILE.pglm.

    FILE may be a folder. FILE.pglm has the manifest, its signatures and the digests of all packets,
    and needs FILE beside it. The private key stays here: senders need none. --channel, -p and
    --hops are what will be sent to, and are signed; -i, -r, --order and --start are the sender's.

    Needs cryptography: pip install 'pgmlite[trust]'.
    """
    signals = Signals()
    signals.install()
    if is_signed_name(file):
        options.refuse_others(OF_SIGNED, f"is in {file} already; leave it out")
        if not (keys or signature or message):
            raise UsageError(f"{file}: give --key, or --signature, or --message")
        handle = api.add_signature(
            file, keys=keys, public_key=public_key, signature=signature, message=message
        )
    else:
        if public_key or signature:
            raise UsageError("--signature: goes with FILE.pglm, see --message")
        if release is None or stream is None:
            raise UsageError("--release, --stream: give both")
        if not (keys or message):
            raise UsageError("--key: give one; or --message, for a key that lives elsewhere")
        handle = api.sign(
            file,
            keys=keys,
            release=release,
            stream=stream,
            expires=expires,
            output=output,
            message=message,
            port=port,
            hops=hops,
            spool=spool,
            **plan,
        )
    signals.stop(handle)
    Output(as_json=as_json).follow(handle)
