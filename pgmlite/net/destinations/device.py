"""An object on a block device, written as it comes, but for its last block (spec: RCV-28, RCV-29).

That one is the block at byte 0, so that nothing starts from a device that is half written. Where it
is there already it is another one: until the object may be in place something of it is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pgmlite.core.events import Tell, Warned
from pgmlite.core.machine import Complete
from pgmlite.errors import DiskError
from pgmlite.net.destinations.contract import Before
from pgmlite.net.destinations.spooled import SPOILT, Spooled
from pgmlite.net.hashing import hash_beside
from pgmlite.net.waiting import Waits
from pgmlite.storage.device import BlockDevice
from pgmlite.storage.floors import state_folder
from pgmlite.storage.part import PartFile
from pgmlite.storage.pump import Pump, right_bytes
from pgmlite.storage.record import Identity, PublishedRecord
from pgmlite.storage.seeds import Block
from pgmlite.storage.spool import PlaceSeed, SpoolPart, blocks_of
from pgmlite.storage.system import reason
from pgmlite.wire.manifest import Manifest


class _AllButOne(Spooled):
    """Has blocks written as they come, but for one that the device has not.

    Attributes:
        held: That one, at byte 0 if it can be; None: there was none yet.
    """

    def __init__(self, device: BlockDevice, tell: Tell) -> None:
        super().__init__(Pump(self._give, in_order=False), tell)
        self._device = device
        self._part: PartFile | None = None
        self.held: Block | None = None

    def _give(self, block: Block, data: memoryview) -> bool:
        self._device.put(block, data)
        return True

    def place(self) -> PlaceSeed:
        """Return the device.

        Raises:
            DiskError: It can't be used.
        """
        return self._device.place()

    def begin(self, part: PartFile) -> None:
        """Write the object of a partial file."""
        super().begin(part)
        self._part, self.held = part, None

    def expect(self, manifest: Manifest) -> None:
        """Take an object that is no larger than the device.

        Raises:
            DiskError: It is.
        """
        self._device.check_size(manifest.size)

    def verified(self, block: Block, *, is_there: bool) -> None:
        """Write a block, or hold it back, unless it is there already."""
        if is_there:
            return
        if self.held is None:
            # An earlier run may have written it, and kept it in the partial file.
            self.held = None if self._device.has(block) else block
            return
        if not block.offset:
            block, self.held = self.held, block
        self._pump.add(block)

    def read(self, buffer: bytearray, block: Block) -> memoryview | None:
        """Return the verified bytes of a block that was received; None: they are not there.

        Raises:
            DiskError: They can't be read.
        """
        part = self._part
        try:
            return right_bytes(part.fd, block, buffer) if part else None
        except OSError as error:
            raise DiskError(f"partial file {part.path if part else ''}: {reason(error)}") from error

    def close(self) -> None:
        """End."""
        self._pump.close()


class DeviceDestination:
    """A block device; what lies behind the object's end is left alone."""

    is_begun = False
    """Another object may take its place: it is written over what there is of this one."""

    is_choosy = True
    """An object that is larger is refused by its manifest: nothing of it is stored before."""

    needs_record = False

    def __init__(
        self,
        path: Path,
        spool: Path,
        before: Before,
        tell: Tell,
        *,
        bases: Sequence[Path] = (),
        verify_media: bool = False,
    ) -> None:
        """
        Args:
            spool: As of `spool_folder`.
            before: Called before the block is written that was held back.
            bases: Files that may have a part of the object, beside the device itself.
            verify_media: Read everything back, even if nothing had to be written.

        Raises:
            DiskError: The device, the folder for state or a base can't be used.
        """
        self._path = path
        self._before = before
        self._tell = tell
        self._verify_media = verify_media
        self._size: int | None = None
        """Bytes of the object that was published, as far as that is known."""

        with ExitStack() as opened:
            self._device = BlockDevice(path)
            opened.callback(self._device.release)
            number = self._device.number
            self.record = PublishedRecord(
                path,
                lambda text: tell(Warned(time.monotonic_ns(), text)),
                elsewhere=state_folder(os.environ)
                / f"device-{os.major(number)}-{os.minor(number)}",
            )
            opened.callback(self.record.close)
            self._passing = _AllButOne(self._device, tell)
            opened.callback(self._passing.close)
            self.part = SpoolPart(spool, self._passing, bases=bases)
            opened.callback(self.part.close)
            self._opened = opened.pop_all()

    @property
    def name(self) -> str:
        """The device, as the user names it."""
        return str(self._path)

    def identity(self) -> Identity | None:
        """Return that of what was published there last, as samples of it tell."""
        size = self._size
        if size is None and (latest := self.record.latest):
            size = latest.size
        if size is None:
            return None
        try:
            return self._device.identity(size)
        except DiskError:
            return None

    def refuses(self, manifest: Manifest) -> str:
        """Refuse what is larger than the device, and what the spool has no room for."""
        if manifest.size > self._device.size:
            return "device"
        return "" if self.part.has_room_for(manifest) else "disk"

    def holds(self, manifest: Manifest) -> bool:
        """Leave it to the partial file, which compares bytes."""
        return False

    def publish(self, complete: Complete) -> Waits[bool]:
        """Write what is left, read all back from the medium, and write what was held back.

        Raises:
            DiskError: The device refuses, or does not keep what is written.
            Interrupted: It was asked to stop.
        """
        device, size, held = self._device, complete.manifest.size, self._passing.held
        yield from self._passing.drain(size)
        if held is None:
            if self._verify_media:
                yield from self._read_back(lambda: blocks_of(complete), size)
        else:
            data = self._passing.read(bytearray(), held)
            if data is None:
                raise DiskError(SPOILT.format(at=held.offset))
            yield from self._read_back(
                lambda: (one for one in blocks_of(complete) if one != held), size - held.length
            )
            self._before(device.identity(size, (held, data)))
            device.put_last(held, data)
            yield from self._read_back(lambda: (held,), held.length)
        self._size = size
        self.part.remove()
        device.release()
        return held is not None

    def _read_back(self, blocks: Callable[[], Iterable[Block]], total: int) -> Waits[None]:
        """Read blocks from the medium; what is not right is written again.

        Raises:
            DiskError: The device does not keep what is written.
            Interrupted: It was asked to stop.
        """
        again = partial(self._passing.read, bytearray())
        yield from hash_beside(partial(self._device.read_back, blocks, total, again), self._tell)

    def close(self) -> None:
        """Close it; what came stays for the next run."""
        self._opened.close()
