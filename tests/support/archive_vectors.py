"""What ``spec/vectors/archive.json`` has: the archive of a folder, made without one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pgmlite.storage.tar import END, Member, MemberKind, header, padding
from tests.support.vectors import pattern

CREATED = 1_700_000_000
OWNER = 1_000, 100
FILE, FOLDER, LINK, SAME = MemberKind.FILE, MemberKind.FOLDER, MemberKind.LINK, MemberKind.SAME

MEMBERS = (
    Member(".", FOLDER, 0o755, *OWNER, 0, CREATED),
    Member("a", FILE, 0o644, *OWNER, 5, CREATED + 1),
    Member("a-link", LINK, 0o777, *OWNER, 0, CREATED, "b/../a"),
    Member("b", FOLDER, 0o2750, 0, 0, 0, CREATED),
    Member("b/empty", FILE, 0o4755, 0, 0, 0, -1),
    Member("b/same", SAME, 0o644, *OWNER, 0, CREATED + 1, "a"),
    Member("b/whole", FILE, 0o600, 1 << 21, (1 << 32) - 2, 512, 1 << 33),
    Member("l" * 100, FILE, 0o400, *OWNER, 1, CREATED),
    Member("l" * 101, LINK, 0o777, *OWNER, 0, CREATED, "x" * 101),
    Member("m" * 100, FOLDER, 0o700, *OWNER, 0, CREATED),
    Member("m" * 100 + "/\N{GREEK SMALL LETTER MU}\n", FILE, 0o644, *OWNER, 3, CREATED),
)
"""Names that just fit and that don't, what is not ASCII, numbers that have no room."""


def contents() -> bytes:
    """Return the archive."""
    parts = []
    for one in MEMBERS:
        parts += [header(one), pattern(one.size), padding(one.size)]
    return b"".join(parts) + END


def archive_file() -> dict[str, Any]:
    """Return ``archive.json``."""
    return {
        "about": "The archive of a folder whose files have bytes that count from 0 to 250 over and "
        "over. kind: the type in the header. target: of a link, or the name of the file that is "
        "the same. archive: the bytes in pieces of 512.",
        "members": [asdict(one) | {"kind": one.kind.value.decode()} for one in MEMBERS],
        "archive": [piece.hex() for piece in _pieces(contents())],
    }


def _pieces(raw: bytes) -> list[bytes]:
    return [raw[at : at + 512] for at in range(0, len(raw), 512)]
