"""What happens where objects are signed and looked at (`pgmlite.core.events`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pgmlite.core.events import Event
from pgmlite.errors import PgmliteError
from pgmlite.wire.manifest import Manifest


@dataclass(frozen=True, slots=True)
class SignatureState:
    """One signature, and what keys say of it."""

    key: bytes
    """Id of the key that it says it is of."""

    file: str
    """Of the public key; empty: no such key is known here."""

    state: str
    """``valid``, ``wrong``, or ``unknown``: there is no key to check it."""


@dataclass(frozen=True, slots=True)
class Signed(Event):
    """The end of ``sign``: a FILE.pglm was written."""

    NAME: ClassVar[str] = "signed"

    path: str
    manifest: Manifest
    created: int
    """When it was signed first, seconds since 1970."""

    expires: int
    """Likewise; 0: never."""

    signed_by: tuple[bytes, ...]
    """Ids of the keys that signed it; none: it has no signature yet."""

    message: str
    """The file with the bytes to be signed elsewhere; empty: none was asked for."""


@dataclass(frozen=True, slots=True)
class Verified(Event):
    """The end of ``verify``: whether signatures, trees and content are right."""

    NAME: ClassVar[str] = "verified"

    path: str
    content: str
    manifest: Manifest
    created: int
    """When it was signed first, seconds since 1970."""

    expires: int
    """Likewise; 0: never."""

    signatures: tuple[SignatureState, ...]
    error: PgmliteError | None
    """None: they are."""
