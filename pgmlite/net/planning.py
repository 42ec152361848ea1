"""What a caller says of an object, and the manifest that comes of it: of sending and of signing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations

from pgmlite.core.config import DEFAULT_BLOCK_SYMBOLS
from pgmlite.core.reach import is_near
from pgmlite.errors import UsageError
from pgmlite.net.address import Channel
from pgmlite.net.arguments import DEFAULT_FEC, MAX_MTU, choose_symbol_size, name_repairers
from pgmlite.net.groups import check_group, check_port, parse_group
from pgmlite.storage.source import SourceFile
from pgmlite.wire.endpoint import Endpoint, ip_version
from pgmlite.wire.geometry import Geometry, most_tile_blocks
from pgmlite.wire.layout import DIGEST_SIZE, MAX_BLOCK_SYMBOLS, MAX_FEC_BLOCK_SYMBOLS
from pgmlite.wire.manifest import Manifest, Release, Rung, object_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPlan:
    """Arguments that go into a manifest, as of `pgmlite.send`; its ladder aside."""

    name: str | None = None
    mtu: int | None = None
    symbol_size: int | None = None
    block_symbols: int | None = None
    fec: float | None = None
    repairers: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """Which of them were said, by the names that errors have."""
        said = (field.name for field in fields(self) if getattr(self, field.name) not in (None, ()))
        return tuple("repairer" if name == "repairers" else name for name in said)

    def size(self, hops: int, interface_mtu: int = MAX_MTU) -> int:
        """Return the bytes of a symbol.

        Raises:
            UsageError: As of `choose_symbol_size`.
        """
        return choose_symbol_size(
            self.symbol_size, self.mtu, hops=hops, interface_mtu=interface_mtu
        )

    def check(self, channel: Channel | None = None) -> None:
        """Look at what can be wrong whatever the content is.

        Args:
            channel: Where it goes; None: that is not known.

        Raises:
            UsageError: Something is.
        """
        most = MAX_BLOCK_SYMBOLS if self.fec == 0 else MAX_FEC_BLOCK_SYMBOLS
        block = self._block_symbols
        if not 1 <= block <= most:
            raise UsageError(f"block_symbols {block}: must be 1 to {most}", cause="block_symbols")
        check_name(self.name)
        name_repairers(self.repairers, channel)

    @property
    def _block_symbols(self) -> int:
        return DEFAULT_BLOCK_SYMBOLS if self.block_symbols is None else self.block_symbols

    def manifest(
        self,
        source: SourceFile,
        symbol_size: int,
        ladder: tuple[Rung, ...] = (),
        *,
        release: Release | None = None,
        channel: Channel | None = None,
    ) -> Manifest:
        """Return the manifest of a file, without the digests that it will have.

        Args:
            channel: Where it goes; None: that is not known.

        Raises:
            UsageError: No object can be so.
        """
        self.check(channel)
        is_signed = release is not None
        if is_signed and not most_tile_blocks(symbol_size):
            raise UsageError(
                f"symbol size {symbol_size}: too small for an object that is signed: its leaves "
                "need 160 bytes"
            )
        sizes = source.size, symbol_size, self._block_symbols
        if self.fec is None and len(ladder) > 1:
            geometry = Geometry.laddered(*sizes, len(ladder), is_signed=is_signed)
        else:
            fec = DEFAULT_FEC if self.fec is None else self.fec
            geometry = Geometry.planned(*sizes, fec, is_signed=is_signed)
        return Manifest(
            geometry.symbol_size,
            geometry.block_symbols,
            source.size,
            bytes(DIGEST_SIZE),
            check_name(self.name) or object_name(source.name),
            name_repairers(self.repairers, channel),
            geometry.repair_symbols,
            geometry.tile_blocks,
            ladder,
            release,
            bytes(DIGEST_SIZE) if is_signed else None,
            source.archive,
        )


def check_name(name: str | None, what: str = "name") -> str:
    """Return a name that a manifest may have; empty: there is none.

    Raises:
        UsageError: It may not be one (spec: MAN-5).
    """
    if name is not None and object_name(name) != name:
        raise UsageError(
            f"{what}: is empty, too long or has characters that are refused", cause=what
        )
    return name or ""


def check_ladder(groups: Sequence[Endpoint]) -> None:
    """
    Raises:
        UsageError: They can't be the channels of one object.
    """
    for one, other in combinations(groups, 2):
        if ip_version(one.address) != ip_version(other.address):
            raise UsageError(
                f"channel {other.address}: {one.address} is of the other kind of IP addresses",
                cause="channel",
            )
        if one == other:
            raise UsageError(
                f"channel {other.address}: twice; each needs a group of its own", cause="channel"
            )
        # spec: RTE-13
        if not is_near(other, one):
            raise UsageError(
                f"channel {other.address}: is assigned to others, or not of the same scope as "
                f"{one.address}: receivers would not follow",
                cause="channel",
            )


def name_ladder(channels: Sequence[tuple[str, int | None]], port: int) -> tuple[Rung, ...]:
    """Return the ladder of an object whose sender is elsewhere; none for one channel.

    Args:
        channels: Group and rate of each, at rising rates.

    Raises:
        UsageError: They can't be the channels of one object, or one names an interface.
    """
    check_port(port)
    rungs = []
    for group, rate in channels:
        address, interface = parse_group(group, None)
        if interface:
            raise UsageError(
                f"channel {group}: interfaces are the sender's; leave %{interface} out",
                cause="channel",
            )
        if not address.is_multicast:
            raise UsageError(f"channel {group}: not a multicast address", cause="channel")
        check_group(address, is_loopback=False)
        rungs.append(Rung(rate or 0, Endpoint(str(address), port)))
    check_ladder([rung.group for rung in rungs])
    return tuple(rungs) if len(rungs) > 1 else ()


def unix_time() -> int:
    """Return seconds since 1970, by this machine's clock."""
    return int(time.time())


def has_expired(release: Release) -> bool:
    """Whether receivers take it no more, by this machine's clock."""
    return 0 < release.expires <= unix_time()
