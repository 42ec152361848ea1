"""Signing and verifying from their arguments to their end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pgmlite.core.events import Tell
from pgmlite.core.events_signing import SignatureState, Signed, Verified
from pgmlite.core.machine import SECOND
from pgmlite.errors import DiskError, ObjectError, UsageError
from pgmlite.net.contents import open_content, open_path
from pgmlite.net.hashing import hash_beside, hash_signed
from pgmlite.net.planning import ObjectPlan, check_name, has_expired, name_ladder, unix_time
from pgmlite.net.waiting import Waits
from pgmlite.storage.keys import PrivateKey, generate, load_private_key, load_public_keys
from pgmlite.storage.signed import (
    SUFFIX,
    Fresh,
    SignedFile,
    content_path,
    is_signed_name,
    signed_name,
    write_signed,
)
from pgmlite.storage.system import STDIN, reason
from pgmlite.wire.control import Signature, message_of
from pgmlite.wire.layout import MAX_RELEASE, MAX_STREAM, SIGNATURE_SIZE
from pgmlite.wire.manifest import Manifest, Release

__all__ = ["AddSignatureJob", "SignJob", "VerifyJob", "generate"]


def sign_with(keys: Sequence[PrivateKey], manifest: Manifest) -> list[Signature]:
    """Return the signatures of a manifest by several keys."""
    message = message_of(manifest.raw)
    return [Signature(key.public.key_id, key.sign(message)) for key in keys]


def check_signed_name(path: Path, what: str = "signed object") -> Path:
    """Return the path of a FILE.pglm.

    Args:
        what: What the error calls it.

    Raises:
        UsageError: Its name does not end so: `send` would send it as any other file.
    """
    if not is_signed_name(path):
        raise UsageError(f"{what} {path}: its name has to end in {SUFFIX}")
    return path


def write_message(path: Path | None, manifest: Manifest) -> None:
    """Write the bytes that are signed elsewhere, if somebody wants them.

    Raises:
        DiskError: They can't be written.
    """
    if path is not None:
        with Fresh(path) as fresh:
            fresh.write(message_of(manifest.raw))
            fresh.publish()


def _signed(
    path: Path,
    manifest: Manifest,
    release: Release,
    signatures: Sequence[Signature],
    message: Path | None,
) -> Signed:
    return Signed(
        time.monotonic_ns(),
        str(path),
        manifest,
        release.created,
        release.expires,
        tuple(one.key_id for one in signatures),
        "" if message is None else str(message),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignJob:
    """Arguments as of `pgmlite.sign`; `expires` in ns."""

    file: Path
    keys: tuple[Path, ...]
    release: int
    stream: str
    expires: int | None
    output: Path | None
    message: Path | None
    plan: ObjectPlan
    channels: tuple[tuple[str, int | None], ...]
    port: int
    hops: int
    spool: Path | None

    def run(self, tell: Tell) -> Waits[Signed]:
        """
        Raises:
            UsageError: An argument is wrong, or `cryptography` is not installed.
            DiskError: A file can't be read or written, or the file changed.
            Interrupted: It was asked to stop.
        """
        if self.file == STDIN and self.output is None:
            raise UsageError("output: name it; standard input has no name", cause="output")
        path = check_signed_name(self.output or signed_name(self.file), "output")
        keys = [load_private_key(key) for key in self.keys]
        ladder = name_ladder(self.channels, self.port)
        release = self._release()
        with ExitStack() as opened:
            source = yield from open_path(opened, self.file, self.spool, tell)
            planned = self.plan.manifest(source, self.plan.size(self.hops), ladder, release=release)
            manifest, signatures = yield from hash_beside(
                partial(write_signed, path, source, planned, partial(sign_with, keys)), tell
            )
        write_message(self.message, manifest)
        signed = _signed(path, manifest, release, signatures, self.message)
        tell(signed)
        return signed

    def _release(self) -> Release:
        """
        Raises:
            UsageError: No object can have it.
        """
        if not 0 <= self.release <= MAX_RELEASE:
            raise UsageError(f"release {self.release}: must be 0 to {MAX_RELEASE}", cause="release")
        check_name(self.stream, "stream")
        if len(self.stream.encode()) > MAX_STREAM:
            raise UsageError(f"stream: at most {MAX_STREAM} bytes are allowed", cause="stream")
        created = unix_time()
        expires = 0
        if self.expires is not None:
            # Never before it was created, nor never.
            expires = created + max(1, self.expires // SECOND)
        return Release(self.stream, self.release, created, expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSignatureJob:
    """Arguments as of `pgmlite.add_signature`."""

    file: Path
    keys: tuple[Path, ...]
    public_key: Path | None
    signature: Path | None
    message: Path | None

    def run(self, tell: Tell) -> Waits[Signed]:
        """
        Raises:
            UsageError: An argument is wrong, or `cryptography` is not installed.
            ObjectError: The file is damaged, or the signature is none of its manifest.
            DiskError: A file can't be read or written.
            Interrupted: It was asked to stop.
        """
        check_signed_name(self.file)
        keys = [load_private_key(key) for key in self.keys]
        with ExitStack() as opened:
            signed = yield from hash_beside(partial(SignedFile, self.file), tell)
            opened.callback(signed.close)
            fresh = sign_with(keys, signed.manifest)
            if self.public_key and self.signature:
                fresh.append(self._made_elsewhere(self.public_key, self.signature, signed.manifest))
            signed.add(fresh)
            write_message(self.message, signed.manifest)
            done = _signed(
                self.file, signed.manifest, signed.release, signed.signatures, self.message
            )
        tell(done)
        return done

    @staticmethod
    def _made_elsewhere(public: Path, path: Path, manifest: Manifest) -> Signature:
        """
        Raises:
            UsageError: There is not one key, or `cryptography` is not installed.
            ObjectError: It is no signature of the manifest by that key.
            DiskError: A file can't be read.
        """
        keys = load_public_keys([public])
        if len(keys) != 1:
            raise UsageError(f"key {public}: has {len(keys)} keys; name the one", cause="key")
        try:
            with path.open("rb") as file:
                value = file.read(SIGNATURE_SIZE + 1)
        except OSError as error:
            raise DiskError(f"signature {path}: {reason(error)}") from error
        if len(value) != SIGNATURE_SIZE:
            raise ObjectError(
                f"signature {path}: has not the {SIGNATURE_SIZE} bytes that `openssl pkeyutl "
                "-sign -rawin` writes"
            )
        if not keys[0].verifies(value, message_of(manifest.raw)):
            raise ObjectError(f"signature {path}: is none of this object by the key {public}")
        return Signature(keys[0].key_id, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyJob:
    """Arguments as of `pgmlite.verify`."""

    file: Path
    keys: tuple[Path, ...]
    content: Path | None
    spool: Path | None

    def run(self, tell: Tell) -> Waits[Verified]:
        """
        Raises:
            UsageError: An argument is wrong, or `cryptography` is not installed.
            ObjectError: The file, its content or its signatures are not right.
            DiskError: A file can't be read.
            Interrupted: It was asked to stop.
        """
        check_signed_name(self.file)
        keys = {key.key_id: key for key in load_public_keys(self.keys)} if self.keys else {}
        with ExitStack() as opened:
            signed = yield from hash_beside(partial(SignedFile, self.file), tell)
            opened.callback(signed.close)
            manifest, release = signed.manifest, signed.release
            states = []
            for one in signed.signatures:
                key = keys.get(one.key_id)
                state = "unknown"
                if key:
                    is_right = key.verifies(one.value, message_of(manifest.raw))
                    state = "valid" if is_right else "wrong"
                states.append(SignatureState(one.key_id, key.name if key else "", state))
            content = content_path(self.file, self.content)
            error: ObjectError | None = None
            try:
                self._judge(states, release)
                yield from self._check_content(opened, signed, tell)
            except ObjectError as found:
                error = found
            verified = Verified(
                time.monotonic_ns(),
                str(self.file),
                str(content),
                manifest,
                release.created,
                release.expires,
                tuple(states),
                error,
            )
        tell(verified)
        if error:
            raise error
        return verified

    def _check_content(self, opened: ExitStack, signed: SignedFile, tell: Tell) -> Waits[None]:
        """
        Raises:
            ObjectError: The content is another one.
            DiskError: It can't be read, or changed meanwhile.
        """
        source = yield from open_content(opened, self.file, self.content, self.spool, tell)
        yield from hash_signed(source, signed, tell)

    def _judge(self, states: Sequence[SignatureState], release: Release) -> None:
        """
        Raises:
            ObjectError: No receiver with these keys takes it.
        """
        if not states:
            raise ObjectError(f"{self.file}: has no signature")
        if any(one.state == "wrong" for one in states):
            raise ObjectError(f"{self.file}: a signature is wrong")
        if self.keys and not any(one.state == "valid" for one in states):
            raise ObjectError(f"{self.file}: is signed by none of the keys")
        if has_expired(release):
            raise ObjectError(f"{self.file}: has expired")
