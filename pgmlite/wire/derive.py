"""From the construct declaration to numpy types, Markdown tables and JSON (spec section 3)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from construct import SizeofError, Struct

from pgmlite.wire import layout


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a declared struct.

    Attributes:
        size: Bytes; None if the field's length varies.
        offset: Bytes from the start of the struct; None behind a field of varying length.
        constant: The only value allowed, or None.
    """

    name: str
    size: int | None
    offset: int | None
    constant: int | bytes | None
    doc: str


def fields(struct: Any) -> Iterator[Field]:
    """Yield the fields of a construct ``Struct`` in wire order."""
    offset: int | None = 0
    for member in struct.subcons:
        if not member.name:
            continue  # a check, such as Terminated, has no bytes
        try:
            size: int | None = member.sizeof()
        except SizeofError:
            size = None
        constant = getattr(member.subcon, "value", None)
        yield Field(member.name, size, offset, constant, str(member.docs))
        offset = None if offset is None or size is None else offset + size


def numpy_dtype(
    struct: Any, overlays: dict[str, tuple[str, int]] | None = None
) -> np.dtype[np.void]:
    """Return the structured dtype of a fixed-size struct of integers.

    Args:
        overlays: Further names for the same bytes: name -> (numpy format, offset).

    Raises:
        ValueError: A field is not a naturally aligned integer of 1, 2, 4 or 8 bytes.
    """
    names, formats, offsets = [], [], []
    for field in fields(struct):
        if field.size not in (1, 2, 4, 8) or field.offset is None or field.offset % field.size:
            raise ValueError(f"{field.name}: not a naturally aligned integer")
        names.append(field.name)
        formats.append(f">u{field.size}")
        offsets.append(field.offset)
    for name, (form, offset) in (overlays or {}).items():
        names.append(name)
        formats.append(form)
        offsets.append(offset)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": struct.sizeof()}
    )


class Integers:
    """Reads and checks the integers with which a struct begins, sooner than construct does.

    Attributes:
        size: Their bytes.
    """

    def __init__(self, declaration: Any) -> None:
        """
        Raises:
            KeyError: A field of fixed size is not an integer of 1, 2, 4 or 8 bytes.
        """
        declared = [field for field in fields(declaration) if field.size is not None]
        codes = {1: "B", 2: "H", 4: "I", 8: "Q"}
        self._struct = struct.Struct(">" + "".join(codes[field.size or 0] for field in declared))
        self._names = [field.name for field in declared]
        self._constants = [
            (place, field.constant)
            for place, field in enumerate(declared)
            if field.constant is not None
        ]
        self.size = self._struct.size

    def read(self, octets: bytes, offset: int = 0) -> dict[str, int] | None:
        """Return the fields by name; None: bytes are missing, or a constant is another one."""
        if len(octets) < offset + self.size:
            return None
        values = self._struct.unpack_from(octets, offset)
        if any(values[place] != constant for place, constant in self._constants):
            return None
        return dict(zip(self._names, values, strict=True))


def markdown_table(struct: Any) -> str:
    """Return the struct as a Markdown table: offset, size, field, meaning."""
    lines = ["| offset | bytes | field | meaning |", "|---:|---:|---|---|"]
    for field in fields(struct):
        offset = "" if field.offset is None else field.offset
        size = "varies" if field.size is None else field.size
        lines.append(f"| {offset} | {size} | `{field.name}` | {field.doc} |")
    return "\n".join(lines)


STRUCTS: dict[str, Struct] = {
    "header": layout.HEADER,
    "spm": layout.SPM_BODY,
    "option": layout.OPTION,
    "position": layout.POSITION,
    "repairs": layout.REPAIRS,
    "signature": layout.SIGNATURE,
    "manifest": layout.MANIFEST,
    "release": layout.RELEASE,
    "archive": layout.ARCHIVE,
    "request": layout.REQUEST,
    "range": layout.RANGE,
    "count": layout.COUNT,
    "nak": layout.NAK_BODY,
}
"""Every declared struct by the name of its table in the spec."""


def fill(text: str, kind: str, render: Callable[[str], str]) -> str:
    """Return `text` with each ``<!-- kind: NAME -->`` ... ``<!-- end -->`` filled anew.

    Args:
        render: Gives what stands between the marks, from NAME.

    Raises:
        ValueError: A mark has no end.
    """
    out, rest = [], text
    while True:
        before, mark, rest = rest.partition(f"<!-- {kind}: ")
        out.append(before)
        if not mark:
            return "".join(out)
        name, _, rest = rest.partition(" -->")
        _, end, rest = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"{kind} {name}: no end mark")
        out.append(f"<!-- {kind}: {name} -->\n{render(name)}\n<!-- end -->")


def fill_tables(text: str) -> str:
    """Return `text` with each ``<!-- table: NAME -->`` ... ``<!-- end -->`` filled anew.

    Raises:
        KeyError: A name is not in STRUCTS.
        ValueError: A table has no end.
    """
    return fill(text, "table", lambda name: markdown_table(STRUCTS[name]))


def values(struct: Any, parsed: Any) -> dict[str, Any]:
    """Return the fields of a parsed struct as JSON shows them.

    64-bit numbers are 16 hexadecimal digits, since not every JSON reader keeps them whole; bytes
    are hexadecimal too. Nested structs become objects, lists of structs lists of objects.
    """
    found: dict[str, Any] = {}
    for field in fields(struct):
        value = parsed[field.name]
        if isinstance(value, bytes):
            found[field.name] = value.hex()
        elif isinstance(value, list):
            found[field.name] = [
                {
                    name: part.hex() if isinstance(part, bytes) else part
                    for name, part in item.items()
                    if not name.startswith("_")
                }
                for item in value
            ]
        elif field.size == 8:
            found[field.name] = f"{value:016x}"
        else:
            found[field.name] = value
    return found
