"""Whose objects a receiver takes, and what it remembers of their releases: keys and floors."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from pgmlite.core.events import Warned
from pgmlite.core.receive.receiver import Receiver
from pgmlite.core.trust import Trust
from pgmlite.net.planning import unix_time
from pgmlite.storage.floors import FloorFiles, state_folder
from pgmlite.storage.keys import PublicKey, load_public_keys
from pgmlite.wire.manifest import Release


class Installing:
    """Keys and floors of one receiver.

    Attributes:
        trust: Judges what is announced; None: there are no keys, anybody's objects are taken.
    """

    def __init__(
        self,
        keys: Sequence[Path],
        *,
        stream: str = "",
        allow_rollback: bool = False,
        public: Sequence[PublicKey] = (),
    ) -> None:
        """
        Args:
            keys: Files, and folders of them; none: anybody's objects are taken.
            public: What was read from `keys`; none: that is done now.
            stream: The only one that is taken; empty: any.
            allow_rollback: Take releases that are older than what was installed.

        Raises:
            UsageError: A key is none, or `cryptography` is not installed.
            DiskError: A key or a floor can't be used, or no floor could be written.
        """
        self.trust: Trust | None = None
        self._allow_rollback = allow_rollback
        self._floors: FloorFiles | None = None
        if not keys:
            return
        public = public or load_public_keys(keys)
        ids = [key.key_id for key in public]
        self._floors = FloorFiles(state_folder(os.environ), ids)
        self.trust = Trust(
            public,
            unix_time=unix_time,
            floors=None if allow_rollback else self._floors,
            stream=stream,
        )

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Ids of the keys; none: anybody's objects are taken."""
        return self.trust.key_ids if self.trust else ()

    def installing(self, machine: Receiver) -> None:
        """Note for good that the current object is about to become the output.

        Raises:
            DiskError: It can't be, or another receiver has installed a higher release meanwhile.
        """
        if self._floors and (release := _release(machine)):
            self._floors.install(
                release, _oid(machine), machine.signers, may_fall=self._allow_rollback
            )

    def installed(self, machine: Receiver, *, is_new: bool) -> Warned | None:
        """Note for good that the current object is the output; return what is to be said of that.

        Args:
            is_new: False: it was before, and nothing was noted.

        Raises:
            DiskError: It can't be; the output is in place.
        """
        if not is_new:
            self.installing(machine)
        # Not before: until now the output may be the higher release.
        if self._floors and self._allow_rollback and (release := _release(machine)):
            was = self._floors.fall(release, _oid(machine))
            if was is not None:
                return Warned(
                    time.monotonic_ns(),
                    f"release {release.number} of {release.stream} takes the place of {was}, which "
                    "is higher, as --allow-rollback says; all above it are taken again from now on",
                    "rollback",
                    {"stream": release.stream, "release": release.number, "was": was},
                )
        return None


def _release(machine: Receiver) -> Release | None:
    manifest = machine.manifest
    return manifest.release if manifest and machine.signers else None


def _oid(machine: Receiver) -> int:
    return machine.current.oid if machine.current else 0
