"""Ed25519 keys in PEM files, as `openssl` writes and reads them (spec: SIG-1).

Needs `cryptography`, which is imported when the first key is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgmlite.errors import DiskError, UsageError
from pgmlite.storage.system import close_quietly, reason, sync_all, sync_folder, write_all
from pgmlite.wire.digests import digest
from pgmlite.wire.layout import KEY_ID_SIZE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MAX_PEM = 16 << 10
"""Bytes of a file with one key, at most: one of Ed25519 has about 120."""

BEGIN = b"-----BEGIN "
PUBLIC = BEGIN + b"PUBLIC KEY-----"
PRIVATE = BEGIN + b"PRIVATE KEY-----"
ENCRYPTED = BEGIN + b"ENCRYPTED PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What signatures are checked with.

    Attributes:
        key_id: What signatures say of their key (`KEY_ID_SIZE` bytes).
        name: The file that it came from.
    """

    key_id: bytes
    name: str
    _key: Ed25519PublicKey

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether a signature is one of `message` by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What signs.

    Attributes:
        public: Its public half.
    """

    public: PublicKey
    _key: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`, 64 bytes."""
        return self._key.sign(message)


def check_library() -> None:
    """
    Raises:
        UsageError: `cryptography` is not installed.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UsageError(
            "keys and signatures need cryptography: pip install 'pgmlite[trust]'"
        ) from None


def public_path(path: Path) -> Path:
    """Return where `generate` puts the public half of a private key."""
    return path.with_name(path.name.removesuffix(".pem") + ".pub.pem")


def generate(path: Path) -> PublicKey:
    """Make a key: the private half goes to `path`, for its owner alone, the public half beside it.

    Raises:
        UsageError: `cryptography` is not installed.
        DiskError: One of the files is there already, or can't be written.
    """
    check_library()
    from cryptography.hazmat.primitives import serialization as how
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(how.Encoding.PEM, how.PrivateFormat.PKCS8, how.NoEncryption())
    public = key.public_key().public_bytes(how.Encoding.PEM, how.PublicFormat.SubjectPublicKeyInfo)
    beside = public_path(path)
    _write_new(beside, public, 0o644)
    try:
        _write_new(path, private, 0o600)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return _public(key.public_key(), beside)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet.

    Raises:
        DiskError: It is there, or can't be written.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise DiskError(f"key {path}: is there already; keys are never overwritten") from None
    except OSError as error:
        raise DiskError(f"key {path}: {reason(error)}") from error
    try:
        write_all(fd, data)
        sync_all(fd)
        sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DiskError(f"key {path}: {reason(error)}") from error
    finally:
        close_quietly(fd)


def load_private_key(path: Path) -> PrivateKey:
    """Read a private key (PKCS #8, as `openssl genpkey -algorithm ed25519` writes it).

    Raises:
        UsageError: It is none of Ed25519, is encrypted, or `cryptography` is not installed.
        DiskError: It can't be read.
    """
    check_library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read(path)
    if ENCRYPTED in pem:
        raise _wrong(
            path, "is encrypted: sign with `openssl pkeyutl` (--message), or decrypt it first"
        )
    if PUBLIC in pem:
        raise _wrong(path, "is a public key: signing needs the private one")
    if pem.count(PRIVATE) != 1:
        raise _wrong(path, "is no private key (PEM, one `PRIVATE KEY`)")
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _wrong(path, "does not parse as a private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong(path, "is no key of Ed25519")
    return PrivateKey(_public(key.public_key(), path), key)


def load_public_keys(paths: Iterable[Path]) -> tuple[PublicKey, ...]:
    """Read public keys (SubjectPublicKeyInfo, as `openssl pkey -pubout` writes it), each once.

    Args:
        paths: Files, and folders of which every ``*.pem`` is one.

    Raises:
        UsageError: One is none of Ed25519 or is private, a folder has none, or `cryptography` is
            not installed.
        DiskError: One can't be read.
    """
    check_library()
    found: dict[bytes, PublicKey] = {}
    for path in paths:
        for file in _files(path):
            key = _load_public(file)
            found.setdefault(key.key_id, key)
    return tuple(found.values())


def _files(path: Path) -> Iterator[Path]:
    """
    Raises:
        UsageError: It is a folder without keys.
        DiskError: It can't be read.
    """
    if not path.is_dir():
        yield path
        return
    try:
        # Not by glob, which says nothing of folders that it can't read.
        # Not a FIFO, which nobody may ever write to.
        files = sorted(file for file in path.iterdir() if file.suffix == ".pem" and file.is_file())
    except OSError as error:
        raise DiskError(f"key {path}: {reason(error)}") from error
    if not files:
        raise _wrong(path, "a folder without keys (*.pem)")
    yield from files


def _load_public(path: Path) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = _read(path)
    if b"PRIVATE KEY-----" in pem:
        raise _wrong(
            path,
            "is a PRIVATE key, which belongs where is signed and nowhere else: give its public "
            "half (openssl pkey -pubout)",
        )
    if pem.count(PUBLIC) != 1:
        raise _wrong(path, "is no public key (PEM, one `PUBLIC KEY`)")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(path, "does not parse as a public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong(path, "is no key of Ed25519")
    return _public(key, path)


def _public(key: Ed25519PublicKey, path: Path) -> PublicKey:
    from cryptography.hazmat.primitives import serialization as how

    der = key.public_bytes(how.Encoding.DER, how.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(digest(der)[:KEY_ID_SIZE], str(path), key)


def _read(path: Path) -> bytes:
    """
    Raises:
        UsageError: It is too large for a key.
        DiskError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_PEM + 1)
    except OSError as error:
        raise DiskError(f"key {path}: {reason(error)}") from error
    if len(pem) > MAX_PEM:
        raise _wrong(path, "is too large for a key")
    return pem


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(f"key {path}: {what}", cause="key")
