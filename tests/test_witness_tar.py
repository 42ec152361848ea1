"""The witness makes the archive of the vectors from their members, and so does `tar`."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

from tests import witness_tar
from tests.support.archive_vectors import MEMBERS
from tests.support.vectors import pattern

SPEC = Path(__file__).resolve().parents[1] / "spec"
FACTS = json.loads((SPEC / "vectors" / "archive.json").read_text())
RAW = bytes.fromhex("".join(FACTS["archive"]))


def test_the_witness_makes_the_same_archive() -> None:
    # spec: FLD-1
    contents = [pattern(one["size"]) for one in FACTS["members"]]
    assert witness_tar.archive(FACTS["members"], contents) == RAW


def test_the_standard_library_reads_what_was_written() -> None:
    # spec: FLD-1, FLD-2
    with tarfile.open(fileobj=BytesIO(RAW)) as archive:
        found = archive.getmembers()
        for one, made in zip(found, MEMBERS, strict=True):
            assert (one.name, one.type, one.linkname) == (made.name, made.kind.value, made.target)
            assert (one.mode, one.uid, one.gid) == (made.mode, made.uid, made.gid)
            assert (one.size, int(one.mtime)) == (made.size, made.mtime)
            assert one.uname == one.gname == ""
            if one.isfile() and not one.islnk():
                assert archive.extractfile(one).read() == pattern(one.size)
