"""What the manifest of an archive says of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmlite.errors import ObjectError
from pgmlite.wire.manifest import MAX_OBJECT_SIZE, Archive, parse_manifest
from tests.support.invalid_vectors import archive_option, bad_archives
from tests.support.vectors import FOLDER, SMALL

BAD = dict(bad_archives())


@st.composite
def archives(draw: st.DrawFn) -> tuple[int, Archive]:
    """Draw the size of an object, and an archive that fits."""
    entries = draw(st.integers(1, (1 << 32) - 1))
    size = draw(st.integers(0, MAX_OBJECT_SIZE - 512 * entries))
    return draw(st.integers(512 * entries + size, MAX_OBJECT_SIZE)), Archive(entries, size)


@given(archives())
def test_what_is_written_is_read(drawn: tuple[int, Archive]) -> None:
    # spec: MAN-9
    size, archive = drawn
    manifest = replace(SMALL.manifest, size=size, archive=archive)
    parsed = parse_manifest(manifest.raw)
    assert (parsed, parsed.raw) == (manifest, manifest.raw)
    assert parsed.oid != replace(manifest, archive=None).oid


def test_an_archive_may_be_full() -> None:
    full = FOLDER.manifest
    assert full.archive == Archive(3, 512)
    assert parse_manifest(full.raw).archive == full.archive
    with pytest.raises(ObjectError, match="no archive of 2048 bytes has 3 members of 513 bytes"):
        parse_manifest(replace(full, archive=Archive(3, 513)).raw)


@pytest.mark.parametrize("name", BAD)
def test_what_no_archive_can_be_is_refused(name: str) -> None:
    # spec: MAN-9
    good = parse_manifest(SMALL.manifest.raw + archive_option(1, 488))
    assert good.archive == Archive(1, 488)
    with pytest.raises(ObjectError, match=r"archive|option 0x0005 2 times"):
        parse_manifest(SMALL.manifest.raw + BAD[name])
