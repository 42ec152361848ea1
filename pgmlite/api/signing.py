"""Keys, and what is signed by them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pgmlite.core.events_signing import Signed, Verified
from pgmlite.errors import UsageError
from pgmlite.net.arguments import (
    DEFAULT_PORT,
    check_channels,
    check_fec,
    check_hops,
    check_seconds,
    source_path,
)
from pgmlite.net.handle import Handle
from pgmlite.wire.layout import Order

StrPath = str | os.PathLike[str]


def keygen(path: StrPath) -> bytes:
    """Make an Ed25519 key: ``K.pem``, for its owner alone, and its public half ``K.pub.pem``.

    Needs cryptography (``pip install 'pgmlite[trust]'``), as all that signs and checks signatures.

    Returns:
        Its id, 8 bytes.

    Raises:
        UsageError: cryptography is not installed.
        DiskError: One of the files is there already, or can't be written.
    """
    from pgmlite.net.job_sign import generate

    return generate(Path(path)).key_id


def sign(
    file: StrPath,
    *,
    keys: Iterable[StrPath],
    release: int,
    stream: str,
    expires: float | None = None,
    output: StrPath | None = None,
    message: StrPath | None = None,
    name: str | None = None,
    fec: float | None = None,
    block_symbols: int | None = None,
    mtu: int | None = None,
    symbol_size: int | None = None,
    hops: int = 1,
    channels: Iterable[tuple[str, int]] = (),
    port: int = DEFAULT_PORT,
    repairers: Iterable[str] = (),
    spool: StrPath | None = None,
) -> Handle[Signed]:
    """Write ``FILE.pglm``: what `send` needs beside a file, so that receivers know who made it.

    Args:
        keys: Private keys; none: a signature is to be added later (`add_signature`).
        release: Receivers take no lower one of a stream, once they have it.
        stream: Name of the product or branch that it is a release of.
        expires: Seconds after which receivers take it no more; None: never.
        output: None: ``FILE.pglm`` beside the file.
        message: Where the bytes that are signed are written as well, for keys that live elsewhere.
        hops: As of `send`: what `symbol_size` is chosen by, if nothing else is said.
        channels: Group and rate of each of several; the others are as of `send`.
        spool: As of `send`.

    Raises:
        UsageError: An argument is wrong on any machine.
    """
    from pgmlite.net.job_sign import SignJob
    from pgmlite.net.planning import ObjectPlan

    job = SignJob(
        file=source_path(file),
        keys=tuple(map(Path, keys)),
        release=release,
        stream=stream,
        expires=check_seconds("expires", expires),
        output=None if output is None else Path(output),
        message=None if message is None else Path(message),
        plan=ObjectPlan(
            name=name,
            mtu=mtu,
            symbol_size=symbol_size,
            block_symbols=block_symbols,
            fec=check_fec(fec),
            repairers=tuple(repairers),
        ),
        channels=check_channels(channels, Order.ROUNDS),
        port=port,
        hops=check_hops(hops),
        spool=None if spool is None else Path(spool),
    )
    return Handle(job.run)


def add_signature(
    file: StrPath,
    *,
    keys: Iterable[StrPath] = (),
    public_key: StrPath | None = None,
    signature: StrPath | None = None,
    message: StrPath | None = None,
) -> Handle[Signed]:
    """Sign a ``FILE.pglm`` once more, or add a signature that was made elsewhere.

    The object stays the same, and so do the signatures of other keys.

    Args:
        keys: Private keys.
        public_key: The key of `signature`, which is checked with it.
        signature: A file of 64 bytes, as ``openssl pkeyutl -sign -rawin`` makes it of `message`.
        message: Where the bytes that are signed are written.

    Raises:
        UsageError: Half of what goes together is there.
    """
    from pgmlite.net.job_sign import AddSignatureJob

    if (public_key is None) != (signature is None):
        raise UsageError("signature: goes with the public key that it is of", cause="signature")
    job = AddSignatureJob(
        file=Path(file),
        keys=tuple(map(Path, keys)),
        public_key=None if public_key is None else Path(public_key),
        signature=None if signature is None else Path(signature),
        message=None if message is None else Path(message),
    )
    return Handle(job.run)


def verify(
    file: StrPath,
    *,
    keys: Iterable[StrPath] = (),
    content: StrPath | None = None,
    spool: StrPath | None = None,
) -> Handle[Verified]:
    """Check a ``FILE.pglm``: its signatures, its trees and its content.

    Args:
        keys: Public keys, or folders of them (``*.pem``): one of them has to have signed it; none:
            who signed it is not checked.
        content: None: ``FILE`` beside it.
        spool: As of `send`.
    """
    from pgmlite.net.job_sign import VerifyJob

    job = VerifyJob(
        file=Path(file),
        keys=tuple(map(Path, keys)),
        content=None if content is None else source_path(content),
        spool=None if spool is None else Path(spool),
    )
    return Handle(job.run)
