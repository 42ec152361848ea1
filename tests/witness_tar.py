"""The archive of a folder, written from spec/ alone as tests/witness.py is: FLD-1."""

FIELDS = (("mode", 8), ("uid", 8), ("gid", 8), ("size", 12), ("mtime", 12))
ZERO = dict.fromkeys((name for name, _ in FIELDS), 0)


def short(text):
    """Return what a header has of a name."""
    return "".join(one if ord(one) < 128 else "?" for one in text[:100]).encode()


def block(name, kind, numbers, target=""):
    """Return a header."""
    digits = b"".join(b"%0*o\0" % (width - 1, numbers[field]) for field, width in FIELDS)
    before = short(name).ljust(100, b"\0") + digits
    after = kind.encode() + short(target).ljust(100, b"\0") + b"ustar\x0000"
    total = sum(before) + 8 * 32 + sum(after)
    return (before + b"%06o\0 " % total + after).ljust(512, b"\0")


def record(key, value):
    """Return a record of an extended header: its length counts its own digits."""
    body = b" " + key.encode() + b"=" + value.encode() + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def filled(content):
    """Return bytes, and zeros to a multiple of 512."""
    return content + bytes(-len(content) % 512)


def member(one, content):
    """Return a member of an archive, as the vectors describe it, with its content."""
    name = one["name"] + "/" * (one["kind"] == "5")
    records, numbers = b"", {field: one[field] for field, _ in FIELDS}
    for key, text in (("path", name), ("linkpath", one["target"])):
        if len(text) > 100 or not text.isascii():
            records += record(key, text)
    for field, width in FIELDS[1:]:
        if not 0 <= numbers[field] < 8 ** (width - 1):
            records += record(field, str(numbers[field]))
            numbers[field] = 0
    extended = b""
    if records:
        extended = block("././@PaxHeader", "x", ZERO | {"size": len(records)}) + filled(records)
    return extended + block(name, one["kind"], numbers, one["target"]) + filled(content)


def archive(members, contents):
    """Return the archive of members with their contents."""
    return b"".join(map(member, members, contents)) + bytes(1_024)
