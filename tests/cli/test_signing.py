"""keygen, sign, verify, and sending what was signed; keys of `openssl` among them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pgmlite
from pgmlite.errors import DiskError, ObjectError, UsageError
from pgmlite.net import planning
from pgmlite.storage.signed import SignedFile
from pgmlite.wire.control import parse_spm
from pgmlite.wire.geometry import most_tile_blocks
from pgmlite.wire.manifest import parse_manifest
from tests.support.loopback import (
    HEADER,
    SPM,
    TREE,
    Ended,
    Inside,
    Running,
    drain,
    endpoint,
    make_file,
    raw_receiver,
    sending,
)

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")

RELEASE = ("--release", "17", "--stream", "acme/x1")


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command line in this process."""
    return Inside(monkeypatch, capfd)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file beside the keys k.pem and k2.pem."""
    for name in ("k", "k2"):
        pgmlite.keygen(tmp_path / f"{name}.pem")
    return make_file(tmp_path / "source", 150_000)


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def signed(source: Path, *names: str, **more: Any) -> Path:
    """Return the FILE.pglm of a source, signed by some keys beside it."""
    keys = [source.parent / f"{name}.pem" for name in names]
    given = {"release": 17, "stream": "acme/x1"} | more
    return Path(pgmlite.sign(source, keys=keys, **given).run().path)


def verify(inside: Inside, file: Path, *names: str, **options: object) -> Ended:
    keys = [word for name in names for word in ("--key", file.parent / name)]
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    return inside("verify", file, *keys, *more, "--json")


def words_of(ended: Ended) -> str:
    """Return what a command said to people."""
    return "\n".join(ended.stderr)


def states(ended: Ended) -> list[str]:
    return [one["state"] for one in ended.event("verified")["signatures"]]


# Round trips.


def test_what_was_signed_verifies_and_says_what_it_is(inside: Inside, source: Path) -> None:
    made = inside("sign", source, "--key", source.parent / "k.pem", *RELEASE, "--expires", "90d")
    assert made.code == 0, made.stderr
    file = source.parent / "source.pglm"
    ended = verify(inside, file, "k.pub.pem")
    said = ended.event("verified")
    assert (ended.code, states(ended)) == (0, ["valid"])
    assert (said["stream"], said["release"], said["exit_code"]) == ("acme/x1", 17, 0)
    assert said["expires"] - said["created"] == 90 * 86_400
    text = " ".join(inside("info", file).lines)
    assert "release 17 of acme/x1" in text
    assert f"signed by {said['signatures'][0]['key']}" in text
    facts = json.loads(inside("info", file, "--json").lines[0])
    assert facts["oid"] == said["oid"]
    assert facts["signed_by"] == [said["signatures"][0]["key"]]
    assert inside("verify", file).code == 0
    assert "no key given: who signed it was not checked" in words_of(inside("verify", file))
    # A folder of keys, in which one is.
    (source.parent / "keys").mkdir()
    for name in ("k", "k2"):
        shutil.copy(source.parent / f"{name}.pub.pem", source.parent / "keys")
    assert verify(inside, file, "keys").code == 0


def test_keys_are_rotated_without_another_object(inside: Inside, source: Path) -> None:
    # spec: SIG-6
    file = signed(source, "k")
    before = SignedFile(file)
    before.close()
    assert inside("sign", file, "--key", source.parent / "k2.pem").code == 0
    after = SignedFile(file)
    after.close()
    assert after.manifest.raw == before.manifest.raw
    for key in ("k.pub.pem", "k2.pub.pem"):
        ended = verify(inside, file, key)
        assert (ended.code, sorted(states(ended))) == (0, ["unknown", "valid"])
    assert states(verify(inside, file, "k.pub.pem", "k2.pub.pem")) == ["valid", "valid"]
    # Both at once is the same.
    assert len(SignedFile(signed(source, "k", "k2")).signatures) == 2


@needs_openssl
def test_openssl_alone_makes_a_key_and_a_signature(inside: Inside, source: Path) -> None:
    # spec: SIG-1, SIG-5
    folder = source.parent
    key, public = folder / "o.pem", folder / "o.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    message, value = folder / "message", folder / "message.sig"
    file = folder / "source.pglm"
    assert inside("sign", source, *RELEASE, "--message", message).code == 0
    assert "has no signature" in words_of(verify(inside, file))
    assert "no signature yet" in words_of(inside("send", file, *endpoint().flags))
    openssl("pkeyutl", "-sign", "-rawin", "-in", message, "-inkey", key, "-out", value)
    add = ("sign", file, "--signature", value, "--public-key")
    wrong = inside(*add, folder / "k.pub.pem")
    assert (wrong.code, "none of this object" in words_of(wrong)) == (4, True)
    assert inside(*add, public).code == 0
    assert verify(inside, file, "o.pub.pem").code == 0
    value.write_bytes(b"short")
    assert inside(*add, public).code == 4
    assert verify(inside, file, "k.pub.pem").code == 4


@pytest.mark.slow
@needs_openssl
def test_receivers_take_what_openssl_alone_signed_and_the_next_key_too(
    inside: Inside, source: Path
) -> None:
    folder, place = source.parent, endpoint()
    openssl("genpkey", "-algorithm", "ed25519", "-out", folder / "o.pem")
    openssl("pkey", "-in", folder / "o.pem", "-pubout", "-out", folder / "o.pub.pem")
    file, message, value = (folder / name for name in ("source.pglm", "message", "value"))
    inside("sign", source, *RELEASE, "--message", message)
    sign = ("pkeyutl", "-sign", "-rawin", "-inkey", folder / "o.pem")
    openssl(*sign, "-in", message, "-out", value)
    inside("sign", file, "--public-key", folder / "o.pub.pem", "--signature", value)
    inside("sign", file, "--key", folder / "k.pem")
    state = {"PGMLITE_STATE": str(folder / "state")}
    with sending(file, place, rate="20M") as sender:
        oid = sender.event("start")["oid"]
        for key in ("o.pub.pem", "k.pub.pem"):
            out, keys = folder / f"{key}.out", ("--key", folder / key, "--stream", "acme/x1")
            with Running("recv", "-o", out, *place.flags, *keys, "--json", env=state) as receiver:
                ended = receiver.end()
            assert ended.code == 0, ended.stderr
            assert ended.event("complete")["oid"] == oid
            assert out.read_bytes() == source.read_bytes()


# What is not right.


def test_each_thing_that_is_wrong_has_its_words(
    inside: Inside, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = signed(source, "k")
    ended = verify(inside, file, "k2.pub.pem")
    assert (ended.code, states(ended)) == (4, ["unknown"])
    assert "by none of the keys" in words_of(ended)
    # The private key has no place here.
    ended = verify(inside, file, "k.pem")
    assert (ended.code, "PRIVATE" in words_of(ended)) == (2, True)
    other = make_file(source.parent / "other", 150_000, seed=1)
    ended = verify(inside, file, "k.pub.pem", content=other)
    assert (ended.code, "1 of 1 blocks differ" in words_of(ended)) == (4, True)
    other.write_bytes(b"short")
    assert "has 5 bytes" in words_of(verify(inside, file, content=other))
    other.unlink()
    assert verify(inside, file, content=other).code == 7
    file = signed(source, "k", expires=60)
    monkeypatch.setattr(planning, "unix_time", lambda: 4_000_000_000)
    ended = verify(inside, file, "k.pub.pem")
    assert (ended.code, "has expired" in words_of(ended)) == (4, True)


def test_a_wrong_signature_beside_a_right_one_is_wrong(inside: Inside, source: Path) -> None:
    file = signed(source, "k", "k2")
    opened = SignedFile(file)
    bad = opened.signatures[0]
    opened.add([type(bad)(bad.key_id, bytes(64))])
    opened.close()
    ended = verify(inside, file, "k.pub.pem", "k2.pub.pem")
    assert (ended.code, states(ended)) == (4, ["wrong", "valid"])


def test_every_damaged_file_is_refused_in_words(inside: Inside, source: Path) -> None:
    file = signed(source, "k")
    whole = file.read_bytes()
    for at in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for words in (("verify", file), ("info", file), ("send", file, *endpoint().flags)):
            ended = inside(*words)
            assert ended.code == 4, (at, words)
            assert "source.pglm" in words_of(ended)
            assert "Traceback" not in words_of(ended)


@pytest.mark.parametrize("verb", ["keygen", "sign", "verify"])
def test_without_the_library_the_extra_is_named(
    inside: Inside, source: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    file, key = signed(source, "k"), source.parent / "k.pem"
    monkeypatch.setitem(sys.modules, "cryptography", None)
    words: dict[str, tuple[object, ...]] = {
        "keygen": (source.parent / "new.pem",),
        "sign": (source, "--key", key, *RELEASE),
        "verify": (file, "--key", source.parent / "k.pub.pem"),
    }
    ended = inside(verb, *words[verb])
    assert (ended.code, "pip install 'pgmlite[trust]'" in words_of(ended)) == (2, True)


# Options.


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--key", "K", "--stream", "x"), "--release"),
        (("--key", "K", "--release", "1"), "--stream"),
        (("--release", "1", "--stream", "x"), "--key"),
        (("--key", "K", *RELEASE, "--symbol-size", "156"), "160 bytes"),
        (("--key", "K", *RELEASE, "--stream", "s" * 65), "--stream"),
        (("--key", "K", *RELEASE, "--stream", "a\nb"), "--stream"),
        (("--key", "K", *RELEASE, "--name", ""), "--name"),
        (("--key", "K", *RELEASE, "--block-symbols", "1025"), "--block-symbols 1025"),
        (("--key", "K", *RELEASE, "--expires", "soon"), "--expires soon"),
        (("--key", "K", *RELEASE, "-o", "x"), ".pglm"),
        (("--key", "K", *RELEASE, "--signature", "K"), "goes with FILE.pglm"),
        (("--key", "K", *RELEASE, "--channel", "ff15::1%lo,1M"), "leave %lo out"),
        (("--key", "K", *RELEASE, "--channel", "fd01::1,1M"), "not a multicast"),
        (
            ("--key", "K", *RELEASE, "--channel", "ff15::1,1M", "--channel", "ff15::1,2M"),
            "twice",
        ),
        (("--key", "K", *RELEASE, "--repairer", "[fe80::1]:9"), "link-local"),
    ],
    ids=str,
)
def test_what_can_not_be_signed(
    inside: Inside, source: Path, words: tuple[str, ...], named: str
) -> None:
    key = str(source.parent / "k.pem")
    ended = inside("sign", source, *(key if word == "K" else word for word in words))
    assert (ended.code, named in words_of(ended)) == (2, True), ended.stderr
    assert not (source.parent / "source.pglm").exists()


def test_what_is_signed_is_not_said_again(inside: Inside, source: Path) -> None:
    file, flags = signed(source, "k"), endpoint().flags
    for words in (
        ("--fec", "off"),
        ("--symbol-size", "160"),
        ("--mtu", "600"),
        ("--name", "x"),
        ("--block-symbols", "8"),
        ("--repairer", "192.0.2.1:9"),
        ("--channel", "239.7.7.1,1M", "--channel", "239.7.7.2,2M"),
    ):
        where = flags[2:] if words[0] == "--channel" else flags
        ended = inside("send", file, *where, *words)
        assert (ended.code, f"{words[0]}: is in {file}" in words_of(ended)) == (2, True)
        again = inside("sign", file, "--key", source.parent / "k.pem", *words)
        assert (again.code, "is in" in words_of(again)) == (2, True)
    ended = inside("send", source, *flags, "--content", source)
    assert (ended.code, "--content: goes with FILE.pglm" in words_of(ended)) == (2, True)
    assert inside("sign", file).code == 2


def test_options_that_go_into_a_manifest_do(source: Path) -> None:
    more = {
        "name": "firmware",
        "fec": 0.25,
        "block_symbols": 20,
        "symbol_size": 800,
        "repairers": ["192.0.2.1:9"],
        "channels": [("ff15::1", 1_000_000), ("ff15::2", 3_000_000)],
    }
    file = SignedFile(signed(source, "k", **more))
    manifest = file.manifest
    assert (manifest.name, manifest.symbol_size, manifest.block_symbols) == ("firmware", 800, 20)
    assert manifest.repair_symbols == 64
    assert manifest.tile_blocks == most_tile_blocks(800) < 8
    assert [str(one) for one in manifest.repairers] == ["192.0.2.1:9"]
    assert [rung.rate for rung in manifest.ladder] == [1_000_000, 3_000_000]
    file.close()
    plain = SignedFile(signed(source, "k", fec=0, block_symbols=20, hops=8))
    assert (plain.manifest.symbol_size, plain.manifest.repair_symbols) == (1_184, 0)
    assert plain.manifest.tile_blocks == plain.manifest.blocks == 7
    plain.close()


# Sending.


def test_every_sender_of_one_file_sends_one_object(inside: Inside, source: Path) -> None:
    # spec: SIG-5
    file = signed(source, "k")
    elsewhere = source.parent / "elsewhere"
    elsewhere.mkdir()
    copy = shutil.copy(file, elsewhere)
    oids = set()
    for path, options in ((file, ()), (copy, ("--content", source, "--start", "1/2"))):
        place = endpoint()
        with raw_receiver(place) as tap:
            ended = inside(
                "send", path, *place.flags, "--cycles", 1, "-r", "50M", "--json", *options
            )
            packets = drain(tap)
        assert ended.code == 0, ended.stderr
        oids.add(ended.event("start")["oid"])
        spms = [one for one in packets if HEADER.unpack_from(one)[2] == SPM]
        known = SignedFile(file)
        for one in spms:
            spm = parse_spm(one[HEADER.size :])
            assert spm.signatures == known.signatures
            assert parse_manifest(spm.manifest) == known.manifest
        leaves = [
            one
            for one in packets
            if HEADER.unpack_from(one)[2] == TREE and HEADER.unpack_from(one)[11] == 1
        ]
        assert leaves
        for one in leaves:
            assert one[HEADER.size :] == known.tiles.node(HEADER.unpack_from(one)[9])
        known.close()
    assert len(oids) == 1


def test_another_content_is_not_sent(inside: Inside, source: Path) -> None:
    # spec: SIG-5
    file, place = signed(source, "k"), endpoint()
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    with raw_receiver(place) as tap:
        ended = inside("send", file, *place.flags)
        assert drain(tap) == []
    assert (ended.code, "blocks differ" in words_of(ended)) == (4, True)
    source.unlink()
    for verb in (("send", file, *place.flags), ("repair", file, *place.flags), ("verify", file)):
        ended = inside(*verb)
        assert (ended.code, words_of(ended).startswith("pgmlite: --content")) == (7, True)
        assert f"is not there, beside {file}" in words_of(ended)


def test_the_environment_gives_way_to_what_is_signed(
    inside: Inside, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGMLITE_MTU", "600")
    ended = inside("send", signed(source, "k"), *endpoint().flags, "--duration", "0.1")
    assert ended.code == 0, ended.stderr


def test_a_ladder_is_the_objects(inside: Inside, source: Path) -> None:
    place, port = endpoint(), endpoint().port
    channels = [("239.7.7.1", 2_000_000), ("239.7.7.2", 6_000_000)]
    file = signed(source, "k", channels=channels, port=port)
    ended = inside("send", file, "-i", "lo", "--duration", "0.2", "--json")
    assert ended.code == 0, ended.stderr
    assert [(one["group"], one["port"]) for one in ended.event("start")["channels"]] == [
        ("239.7.7.1", port),
        ("239.7.7.2", port),
    ]
    refused = inside("send", file, *place.flags)
    assert (refused.code, "has its channels" in words_of(refused)) == (2, True)
    assert inside("send", file, "-i", "lo", "--order", "blocks").code == 2


@pytest.mark.slow
def test_a_repairer_repairs_what_was_signed(source: Path) -> None:
    # spec: SIG-5
    file, place = signed(source, "k"), endpoint()
    listen = f"127.0.0.1:{place.port + 1}"
    with sending(file, place, rate="4M") as sender:
        oid = sender.event("start")["oid"]
        with Running("repair", file, *place.flags, "--listen", listen, "--json") as right:
            assert right.event("start")["oid"] == oid
        # The same content, signed otherwise, is another object.
        other = signed(source, "k", release=18, output=source.parent / "other.pglm")
        with Running(
            "repair", other, "--content", source, *place.flags, "--listen", listen, "--json"
        ) as wrong:
            assert "it was signed otherwise" in wrong.event("warning")["warning"]
        with Running("repair", source, *place.flags, "--listen", listen, "--json") as plain:
            assert "give its .pglm" in plain.event("warning")["warning"]


def test_who_sends_what_has_expired_is_told(
    inside: Inside, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = signed(source, "k", expires=60)
    monkeypatch.setattr(planning, "unix_time", lambda: 4_000_000_000)
    ended = inside("send", file, *endpoint().flags, "--duration", "0.1")
    assert "has expired" in words_of(ended)
    assert ended.code == 0


# From a program.


def test_programs_sign_and_verify(source: Path) -> None:
    done = pgmlite.sign(source, keys=[source.parent / "k.pem"], release=1, stream="s").run()
    (state,) = pgmlite.verify(done.path, keys=[source.parent / "k.pub.pem"]).run().signatures
    assert (state.key, state.state) == (done.signed_by[0], "valid")
    with pytest.raises(ObjectError, match="none of the keys"):
        pgmlite.verify(done.path, keys=[source.parent / "k2.pub.pem"]).run()
    with pytest.raises(UsageError, match="goes with the public key"):
        pgmlite.add_signature(done.path, signature="x")
    with pytest.raises(DiskError, match="never overwritten"):
        pgmlite.keygen(source.parent / "k.pem")
