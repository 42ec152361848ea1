"""Archives of folders, right ones and hostile ones, and a receiver of them without a network."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, cast

from pgmlite.core.config import ReceiverConfig
from pgmlite.core.machine import Action, Complete
from pgmlite.net.destinations.folder import FolderDestination
from pgmlite.net.waiting import Waits, block
from pgmlite.storage.record import Identity, Publication
from pgmlite.wire.manifest import Archive, Manifest
from tests.support.builders import Judging, Sample, batches, tree_of
from tests.support.loops import Heard, perform

SYMBOL, BLOCK = 1_024, 64
END = bytes(1_024)


class Tar:
    """An archive that is made member by member, of whatever headers can say."""

    def __init__(self, *, root: bool = True) -> None:
        self.data = bytearray()
        self.entries = self.size = 0
        if root:
            self.folder(".")

    def add(
        self,
        name: str,
        kind: bytes = tarfile.REGTYPE,
        content: bytes = b"",
        *,
        link: str = "",
        pax: dict[str, str] | None = None,
        size: int | None = None,
        change: Callable[[bytearray], None] | None = None,
        **fields: Any,
    ) -> Tar:
        """Add a member.

        Args:
            size: What the header says; None: what the content has.
            change: Spoils the header, whose checksum is right afterwards.
        """
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o755 if kind == b"5" else 0o644
        info.size = len(content) if size is None else size
        for key, value in fields.items():
            setattr(info, key, value)
        if pax is not None:
            self.extension(b"".join(record(key, value.encode()) for key, value in pax.items()))
        raw = bytearray(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        if change:
            header = raw[-512:]
            change(header)
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            raw[-512:] = header
        self.data += raw
        return self.raw(content, entries=1)

    def folder(self, name: str, **fields: Any) -> Tar:
        return self.add(name, tarfile.DIRTYPE, **fields)

    def link(self, name: str, target: str, **fields: Any) -> Tar:
        return self.add(name, tarfile.SYMTYPE, link=target, **fields)

    def same(self, name: str, target: str) -> Tar:
        return self.add(name, tarfile.LNKTYPE, link=target)

    def extension(self, payload: bytes, kind: bytes = tarfile.XHDTYPE) -> Tar:
        """Add an extended header."""
        info = tarfile.TarInfo("././@PaxHeader")
        info.type, info.size = kind, len(payload)
        self.data += info.tobuf(tarfile.USTAR_FORMAT)
        return self.raw(payload)

    def raw(self, content: bytes, *, entries: int = 0) -> Tar:
        """Add bytes, filled up."""
        self.data += content + bytes(-len(content) % 512)
        self.entries += entries
        self.size += len(content) if entries else 0
        return self

    def sample(self, *, end: bytes = END, archive: Archive | None = None, cut: int = 0) -> Sample:
        """Return the object.

        Args:
            archive: What is announced; None: what is in it.
            cut: Bytes that are cut off at the end.
        """
        data = bytes(self.data + end)
        return sample_of(data[: len(data) - cut], archive or Archive(self.entries, self.size))


def record(key: str, value: bytes) -> bytes:
    """Return a record of an extended header."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def sample_of(data: bytes, archive: Archive | None, name: str = "tree") -> Sample:
    """Return an object of these bytes."""
    tree = tree_of(data, SYMBOL, BLOCK)
    manifest = Manifest(SYMBOL, BLOCK, len(data), tree.root, name, archive=archive)
    return Sample(data, manifest, tree)


def version(number: int) -> Tar:
    """Return the archive of a small folder; each number has another one."""
    some = Random(number).randbytes(3_000)
    return (
        Tar()
        .add(f"only-{number}", content=b"x", mtime=1_000_000_000 + number)
        .folder("sub", mode=0o750, mtime=1_100_000_000)
        .add("sub/file", content=some, mode=0o640, mtime=1_200_000_000)
        .same("sub/twin", "sub/file")
        .link("to", "sub/file", mtime=1_300_000_000)
    )


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def holds_version(folder: Path, number: int) -> bool:
    """Whether a folder is `version`, all of it."""
    return (
        folder.is_dir()
        and names(folder) == [f"only-{number}", "sub", "to"]
        and (folder / "to").read_bytes() == Random(number).randbytes(3_000)
        and names(folder / "sub") == ["file", "twin"]
        and stat.S_IMODE((folder / "sub").stat().st_mode) == 0o750
        and int((folder / "sub/file").stat().st_mtime) == 1_200_000_000
    )


def everything(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return all that there is in a folder, by its path: looks, owners, times and content."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content: Any = None
        if path.is_symlink():
            content = os.readlink(path)  # noqa: PTH115
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (
            *(status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime)),
            *(status.st_nlink if path.is_file() else 0, content),
        )
    return found


def drive(work: Waits[Any]) -> Any:
    """Do work to its end; return what it returns."""
    try:
        while True:
            block(next(work))
    except StopIteration as end:
        return end.value


class Receiving:
    """A receiver whose output is a folder: the product but its sockets.

    Attributes:
        is_new: Of what was received last.
    """

    def __init__(self, output: Path, keep: int = 0, **options: Any) -> None:
        self.heard = Heard()
        self.is_new: bool | None = None
        self.place = FolderDestination(output, keep, self._before, self.heard, **options)
        self.machine = Judging(ReceiverConfig(naks=False), rng=Random(0), place=self.place)

    def _before(self, identity: Identity | None) -> None:
        assert identity
        assert self.machine.manifest
        self.place.record.write(Publication.of(self.machine.manifest, identity))

    @property
    def warnings(self) -> list[str]:
        return [*self.heard.warnings, *self.place.part.warnings]

    def take(self, sample: Sample) -> Receiving:
        """Hear an object, once; put it in place if it is taken."""
        if complete := self.collect(sample):
            self.publish(complete)
        return self

    def collect(self, sample: Sample) -> Complete | None:
        """Hear an object, once; None: it is not taken."""
        for batch in batches([sample.spm(), *sample.nodes(), *sample.all_odata()]):
            if complete := self._perform(self.machine.receive(0, batch)) or self._settle():
                return complete
        return None

    def publish(self, complete: Complete | None) -> None:
        """Put it in place."""
        assert complete
        self.is_new = cast("bool", drive(self.place.publish(complete)))

    def _settle(self) -> Complete | None:
        while self.machine.deadline == 0:
            if done := self._perform(self.machine.tick(0)):
                return done
        return None

    def _perform(self, actions: list[Action]) -> Complete | None:
        return perform(actions, self.machine, self.place.part, self.heard)

    def close(self) -> None:
        self.place.close()


def receive(output: Path, sample: Sample, keep: int = 0, **options: Any) -> Receiving:
    """Run a receiver to its end."""
    with closing(Receiving(output, keep, **options)) as receiving:
        return receiving.take(sample)


def read_by_tarfile(data: bytes) -> list[str]:
    """Return the names that the standard library finds in an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return found.getnames()


def hostile() -> Iterator[tuple[str, Sample, str]]:
    """Yield what is wrong with archives, the archives, and what is said of them."""
    yield from _hostile_names()
    yield from _hostile_places()
    yield from _hostile_links()
    yield from _hostile_kinds()
    yield from _hostile_headers()
    yield from _hostile_ends()
    yield from _announced_less()


def _hostile_names() -> Iterator[tuple[str, Sample, str]]:
    plain = "is no plain name"
    bad = {
        "absolute": ("/tmp/x", plain),
        "absolute and outside": ("//etc/passwd", plain),
        "parent": ("../x", plain),
        "parent in the middle": ("sub/../../x", plain),
        "parent at the end": ("sub/..", plain),
        "here": ("./x", plain),
        "double slash": ("sub//x", plain),
        "slash at the end of a file": ("x/", plain),
        "a long name": ("x" * 256, "more than 255 bytes"),
        "a long name in few characters": ("ü" * 128, "more than 255 bytes"),
        "the folder itself again": (".", plain),
    }
    for what, (name, words) in bad.items():
        yield what, Tar().folder("sub").add(name, content=b"x").sample(), words
    deep = Tar().add("x", pax={"path": "a/" * 2_100 + "x"})
    yield "longer than a path", deep.sample(), "more than 4095 bytes"
    yield "deep", Tar().add("x", pax={"path": "a/" * 5_000}).sample(), "an extended header has"
    yield "NUL", Tar().add("x", pax={"path": "a\0b"}).sample(), "no file can have"
    yield "no name", Tar().add("x", pax={"path": ""}).sample(), "no file can have"
    raw = Tar().add("x", change=lambda header: header.__setitem__(slice(0, 2), b"\xff\xfe"))
    yield "no UTF-8", raw.sample(), "no header"
    raw = Tar().extension(record("path", b"\xff\xfe")).add("x")
    yield "no UTF-8 beside", raw.sample(), "no UTF-8"


def _hostile_places() -> Iterator[tuple[str, Sample, str]]:
    yield "no folder", Tar(root=False).add("x").sample(), "before the folder itself"
    yield "a file is the folder", Tar(root=False).add(".").sample(), "before the folder itself"
    yield "a link is the folder", Tar(root=False).link(".", "x").sample(), "before the folder"
    yield "twice", Tar().add("x").add("x").sample(), "twice"
    yield "a folder twice", Tar().folder("x").folder("x").sample(), "twice"
    yield "a file, then a folder", Tar().add("x").folder("x").sample(), "twice"
    yield "a folder, then a link", Tar().folder("x").link("x", "y").sample(), "twice"
    yield "in a file", Tar().add("x").add("x/y").sample(), "is no folder of the archive"
    yield "in nothing", Tar().add("x/y").sample(), "is no folder of the archive"
    through = Tar().link("x", "sub").folder("sub").add("x/y")
    yield "through a link", through.sample(), "is no folder of the archive"
    replaced = Tar().folder("x").link("x/y", ".").add("x/y/z")
    yield "through a link in a folder", replaced.sample(), "is no folder of the archive"


def _hostile_links() -> Iterator[tuple[str, Sample, str]]:
    out = "leads out of the folder"
    for what, target in {
        "absolute": "/etc/passwd",
        "out": "../x",
        "out by a way inside": "sub/../../x",
        "out at the end": "sub/../..",
    }.items():
        yield f"a link {what}", Tar().folder("sub").link("x", target).sample(), out
    yield "a link to nothing", Tar().link("x", "").sample(), "no file can have"
    chain = Tar().folder("a").folder("a/b").link("a/b/c", "../..").link("d", "a/b/c/../x")
    yield "a chain of links", chain.sample(), out
    later = Tar().link("d", "e/../x").folder("f").folder("f/g").link("e", ".")
    yield "through a link that comes later", later.sample(), out
    circle = Tar().link("x", "y").link("y", "x")
    yield "a circle", circle.sample(), "more than 40 links"
    long = Tar().folder("l0")
    for number in range(1, 60):
        long.link(f"l{number}", f"l{number - 1}")
    yield "a long chain", long.sample(), "more than 40 links"
    bomb = Tar().folder("b0")
    for number in range(1, 30):
        bomb.link(f"b{number}", f"b{number - 1}/../b{number - 1}")
    yield "a bomb of links", bomb.sample(), "more than 40 links"
    wide = Tar().link("x", "y/" * 2_000 + "z").link("y", "./" * 1_500)
    yield "many folders", wide.sample(), "through"
    none = "is none"
    yield "a hard link out", Tar().same("x", "../../etc/passwd").sample(), none
    yield "an absolute hard link", Tar().same("x", "/etc/passwd").sample(), none
    yield "a hard link to nothing", Tar().same("x", "y").sample(), none
    yield "a hard link to what comes later", Tar().same("x", "y").add("y").sample(), none
    yield "a hard link to itself", Tar().same("x", "x").sample(), none
    yield "a hard link to a link", Tar().link("x", "y").same("z", "x").sample(), none
    yield "a hard link to a folder", Tar().folder("x").same("y", "x").sample(), none


def _hostile_kinds() -> Iterator[tuple[str, Sample, str]]:
    kinds = {
        "a character device": (tarfile.CHRTYPE, "is a device"),
        "a block device": (tarfile.BLKTYPE, "is a device"),
        "a FIFO": (tarfile.FIFOTYPE, "is a FIFO"),
        "a contiguous file": (tarfile.CONTTYPE, "is of a type"),
        "a long name of GNU": (tarfile.GNUTYPE_LONGNAME, "is of a type"),
        "a long link of GNU": (tarfile.GNUTYPE_LONGLINK, "is of a type"),
        "something else": (b"Q", "is of a type"),
    }
    for what, (kind, words) in kinds.items():
        yield what, Tar().add("x", kind).sample(), words
    sparse = Tar().add("x", tarfile.GNUTYPE_SPARSE, change=lambda header: _sparse(header, 1 << 40))
    yield "sparse", sparse.sample(), "is sparse"
    for key in ("GNU.sparse.major", "GNU.sparse.map", "SCHILY.xattr.security.capability", "atime"):
        yield key, Tar().add("x", pax={key: "1"}).sample(), "what no sender writes"
    yield "a folder of 9 bytes", Tar().folder("x", content=b"contained").sample(), "has 9 bytes"
    link = Tar().link("x", "y", content=b"contained")
    yield "a link of 9 bytes", link.sample(), "has 9 bytes"


def _sparse(header: bytearray, size: int) -> None:
    header[257:265] = b"ustar  \0"
    header[483:495] = b"%011o\0" % size


def _number(at: int, digits: int, value: int) -> Callable[[bytearray], None]:
    """Return what puts a number of many bits in a header."""

    def change(header: bytearray) -> None:
        header[at : at + digits] = bytes([0x80 if value >= 0 else 0xFF]) + (
            value & (1 << 8 * (digits - 1)) - 1
        ).to_bytes(digits - 1)

    return change


def _hostile_headers() -> Iterator[tuple[str, Sample, str]]:
    extended = "extended header"
    huge = Tar().add("x", tarfile.XHDTYPE, change=_number(124, 12, 1 << 30))
    yield "an extended header of 1 GB", huge.sample(), extended
    yield "an empty one", Tar().extension(b"").add("x").sample(), extended
    two = Tar().extension(record("path", b"y")).extension(record("path", b"z")).add("x")
    yield "two extended headers", two.sample(), "is of a type"
    many = Tar()
    for _ in range(2_000):
        many.extension(record("path", b"y"))
    yield "thousands of extended headers", many.add("x").sample(), "is of a type"
    alone = Tar().extension(record("path", b"y"))
    yield "an extended header of nothing", alone.sample(), "cut off"
    general = Tar().extension(record("path", b"y"), tarfile.XGLTYPE).add("x")
    yield "a global header", general.sample(), "is of a type"
    for what, payload in {
        "no length": b"path=x\n",
        "a length of 0": b"0 path=x\n",
        "a length beyond": b"99 path=x\n",
        "a short length": b"5 path=x\n",
        "no end": b"9 path=xy",
        "twice the same": record("path", b"x") * 2,
        "no field": b"5 ab\n",
        "zeros": bytes(512),
    }.items():
        yield f"{extended}: {what}", Tar().extension(payload).add("x").sample(), extended
    for key, value in (("size", "nan"), ("mtime", "1.5"), ("uid", "0x1"), ("size", "1" * 400)):
        yield f"{key} {value[:9]}", Tar().add("x", pax={key: value}).sample(), "is no number"
    yield "negative", Tar().add("x", pax={"size": "-5"}).sample(), "has -5 bytes"
    negative = Tar().add("x", change=_number(124, 12, -512))
    yield "negative in binary", negative.sample(), "bytes"
    beyond = Tar().add("x", change=_number(124, 12, 1 << 62))
    yield "larger than the archive", beyond.sample(), "cut off"
    yield "a user of -1", Tar().add("x", pax={"uid": "-1"}).sample(), "belongs to -1"
    yield "a group of 2^32", Tar().add("x", pax={"gid": str(1 << 32)}).sample(), "belongs to"
    late = Tar().add("x", change=_number(136, 12, 1 << 60))
    yield "a time beyond all", late.sample(), "was changed"
    yield "a time before all", Tar().add("x", pax={"mtime": "-" + "9" * 18}).sample(), "was changed"
    strange = Tar().add("x", change=_number(100, 8, 0o100_0644))
    yield "strange permissions", strange.sample(), "has the permissions"
    wrong = Tar().add("x")
    wrong.data[-1] ^= 1
    yield "a wrong checksum", wrong.sample(), "no header"
    letters = Tar().add("x", change=lambda header: header.__setitem__(slice(100, 108), b"letters "))
    yield "letters for numbers", letters.sample(), "no header"


def _hostile_ends() -> Iterator[tuple[str, Sample, str]]:
    some = Tar().add("x", content=bytes(range(250)) * 8)
    yield "cut off in a file", some.sample(end=b"", cut=700, archive=Archive(1, 0)), "cut off"
    yield (
        "cut off in a header",
        Tar().add("x").sample(end=b"", cut=100, archive=Archive(1, 0)),
        "cut off",
    )
    yield "without an end", some.sample(end=b""), "cut off"
    yield "half an end", some.sample(end=bytes(512)), "cut off"
    yield "a byte too few", some.sample(cut=1), "cut off"
    yield "something behind it", some.sample(end=END + b"x" * 512), "after its end"
    hidden = Tar().add("y")
    yield "an archive behind it", some.sample(end=END + bytes(hidden.data)), "after its end"
    yield "a gap", some.sample(end=bytes(512) + bytes(hidden.data) + END), "after its end"
    yield "zeros behind it", some.sample(end=bytes(2 << 20)), "after its end"
    yield "nothing", Tar(root=False).sample(end=END, archive=Archive(1, 0)), "no folder in it"
    noise = Random(0).randbytes(5_000)
    yield "noise", sample_of(noise, Archive(1, 100)), "no header"
    yield "an archive in another way", sample_of(b"PK\x03\x04" * 500, Archive(1, 9)), "no header"


def _announced_less() -> Iterator[tuple[str, Sample, str]]:
    words = "more in it than was announced"
    tar = Tar().add("x", content=b"0123456789").add("y")
    yield "more members", tar.sample(archive=Archive(2, 10)), words
    yield "more bytes", tar.sample(archive=Archive(3, 9)), words
    yield "much more", tar.sample(archive=Archive(1, 0)), words
