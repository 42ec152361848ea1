"""What the DNS records of a service say: its groups, as text (spec/protocol.md section 10.1)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from pgmlite.core.config import MAX_RATE, MIN_RATE
from pgmlite.errors import PgmliteError, UsageError
from pgmlite.net.groups import check_group, is_source_specific
from pgmlite.wire.endpoint import Endpoint, ip_version
from pgmlite.wire.layout import MOST_CHANNELS
from pgmlite.wire.manifest import Rung

PREFIX = "_pgmlite._udp"
"""What a name is looked up under (RFC 2782)."""

VERSION = "txtvers=1"
KEYS = {6: "c", 4: "d"}
"""What the keys of channels begin with, by the version of IP; their numbers follow."""

SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


class BadRecords(PgmliteError):
    """Records of a service can't be used.

    Attributes:
        cause: A word of `pgmlite.core.machine.FAILURES`.
    """


def read_txt(records: Iterable[Sequence[bytes]], version: int, port: int) -> tuple[Rung, ...]:
    """Return the channels that TXT records name, at rising rates (spec: DNS-3).

    Args:
        records: Each as its strings.
        version: Of IP: 6 or 4.
        port: UDP port of the groups.

    Raises:
        BadRecords: There is no such record, or it says what can't be.
    """
    ours = [strings for strings in records if strings and strings[0].lower() == VERSION.encode()]
    if not ours:
        raise BadRecords(f"no TXT record of it begins with {VERSION}", cause="no_txt")
    if len(ours) > 1:
        raise BadRecords(f"{len(ours)} TXT records of it begin with {VERSION}", cause="malformed")
    values = _read_pairs(ours[0])
    channels: list[Rung] = []
    for number in range(MOST_CHANNELS):
        key = f"{KEYS[version]}{number}"
        if key not in values:
            break
        channels.append(_read_channel(key, values[key], version, port))
    if any(low.rate >= high.rate for low, high in pairwise(channels)):
        raise BadRecords("the rates in its TXT record do not rise", cause="malformed")
    if len({rung.group for rung in channels}) < len(channels):
        raise BadRecords("two channels in its TXT record are one group", cause="malformed")
    return tuple(channels)


def _read_pairs(strings: Sequence[bytes]) -> dict[str, bytes]:
    """Return the values of keys, as RFC 6763 section 6.4 takes them: the first of a key counts."""
    values: dict[str, bytes] = {}
    for string in strings:
        key, equals, value = string.partition(b"=")
        if key and equals and all(0x20 <= octet <= 0x7E for octet in key):
            values.setdefault(key.decode("ascii").lower(), value)
    return values


def _read_channel(key: str, value: bytes, version: int, port: int) -> Rung:
    """Return a channel.

    Raises:
        BadRecords: It is none that can be received.
    """
    text = value.decode("ascii", "replace")
    found = re.fullmatch(r"([0-9a-fA-F:.]{1,45}),([0-9]{1,12})([kMG]?)", text)
    if not found:
        raise BadRecords(f"{key} in its TXT record is not GROUP,RATE", cause="malformed")
    rate = int(found[2]) * SUFFIXES[found[3]]
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadRecords(f"the rate of {key} in its TXT record can't be", cause="malformed")
    try:
        group = ipaddress.ip_address(found[1])
    except ValueError:
        raise BadRecords(f"{key} in its TXT record has no address", cause="malformed") from None
    if group.version != version:
        raise BadRecords(f"{key} in its TXT record is not of IPv{version}", cause="group")
    if not is_source_specific(group):
        why = f"group {group} is not source-specific"
        raise BadRecords(f"{key} in its TXT record: {why}", cause="group")
    try:
        check_group(group, is_loopback=False)
    except UsageError as error:
        raise BadRecords(f"{key} in its TXT record: {error}", cause="group") from None
    return Rung(rate, Endpoint(str(group), port))


# Writing.


def rate_text(rate: int) -> str:
    """Return bit/s as `read_txt` takes it: exactly, and short."""
    for suffix in ("G", "M", "k"):
        if rate % SUFFIXES[suffix] == 0:
            return f"{rate // SUFFIXES[suffix]}{suffix}"
    return str(rate)


def txt_strings(channels: Sequence[tuple[str, int]]) -> list[str]:
    """Return the strings of the TXT record of a service.

    Args:
        channels: (group, bit/s) of each, at rising rates; those of one kind of IP in a row.
    """
    strings, numbers = [VERSION], dict.fromkeys(KEYS, 0)
    for group, rate in channels:
        version = ip_version(group)
        strings.append(f"{KEYS[version]}{numbers[version]}={group},{rate_text(rate)}")
        numbers[version] += 1
    return strings
