"""Keys as files, beside `openssl`."""

import shutil
import stat
import subprocess
import sys

import pytest

from pgmlite.errors import DiskError, UsageError
from pgmlite.storage.keys import generate, load_private_key, load_public_keys
from tests.support.signed import key_id, private_key

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def openssl(*words, **kwargs):
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, **kwargs)


def test_made_keys_sign_and_verify_and_are_the_owners_alone(tmp_path):
    public = generate(tmp_path / "k.pem")
    private = load_private_key(tmp_path / "k.pem")
    (read,) = load_public_keys([tmp_path / "k.pub.pem"])
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert public.key_id == private.public.key_id == read.key_id
    signature = private.sign(b"text")
    assert read.verifies(signature, b"text")
    assert not read.verifies(signature, b"texu")
    assert not read.verifies(signature[:-1] + bytes([signature[-1] ^ 1]), b"text")
    assert not read.verifies(b"", b"text")


@pytest.mark.parametrize("name", ["k.pem", "k.pub.pem"])
def test_no_key_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DiskError, match="is there already"):
        generate(tmp_path / "k.pem")
    assert (tmp_path / name).read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == [name]


@needs_openssl
def test_openssls_keys_are_ours_and_ours_are_openssls(tmp_path):
    theirs, public = tmp_path / "k.pem", tmp_path / "pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", theirs)
    openssl("pkey", "-in", theirs, "-pubout", "-out", public)
    (tmp_path / "text").write_bytes(b"text")
    sign = ("pkeyutl", "-sign", "-rawin", "-in", tmp_path / "text", "-inkey")
    (key,) = load_public_keys([public])
    assert key.verifies(openssl(*sign, theirs).stdout, b"text")
    assert load_private_key(theirs).public.key_id == key.key_id
    ours = generate(tmp_path / "ours.pem")
    assert ours.verifies(openssl(*sign, tmp_path / "ours.pem").stdout, b"text")


def test_key_ids_are_those_of_the_wire(tmp_path):
    from cryptography.hazmat.primitives import serialization as how

    key = private_key(3)
    pem = key.public_key().public_bytes(how.Encoding.PEM, how.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "a.pem").write_bytes(pem)
    assert load_public_keys([tmp_path / "a.pem"])[0].key_id == key_id(key)


def test_folders_are_all_keys_in_them_each_once(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("a", "b"):
        generate(tmp_path / f"{name}.pem")
        (tmp_path / f"{name}.pub.pem").rename(folder / f"{name}.pem")
    (folder / "notes.txt").write_text("no key")
    (folder / "again.pem").write_bytes((folder / "a.pem").read_bytes())
    assert len(load_public_keys([folder, folder / "a.pem"])) == 2


@needs_openssl
def test_what_is_no_key_is_refused_in_words(tmp_path):
    generate(tmp_path / "k.pem")
    openssl("genpkey", "-algorithm", "x25519", "-out", tmp_path / "x.pem")
    openssl("pkey", "-in", tmp_path / "x.pem", "-pubout", "-out", tmp_path / "x.pub.pem")
    encrypt = ("pkcs8", "-topk8", "-passout", "pass:word", "-in", tmp_path / "k.pem")
    openssl(*encrypt, "-out", tmp_path / "e.pem")
    pem = (tmp_path / "k.pub.pem").read_bytes()
    (tmp_path / "two.pem").write_bytes(pem * 2)
    (tmp_path / "cut.pem").write_bytes(pem[:60] + pem[-27:])
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "large.pem").write_bytes(bytes(1 << 20))
    (tmp_path / "none").mkdir()
    public = {
        "k.pem": "PRIVATE",
        "e.pem": "PRIVATE",
        "x.pub.pem": "Ed25519",
        "two.pem": "one `PUBLIC KEY`",
        "cut.pem": "does not parse",
        "text.pem": "no public key",
        "large.pem": "too large",
        "none": "without keys",
    }
    for name, words in public.items():
        with pytest.raises(UsageError, match=words) as caught:
            load_public_keys([tmp_path / name])
        assert caught.value.cause == "key"
    private = {"k.pub.pem": "public key", "e.pem": "encrypted", "x.pem": "Ed25519"}
    for name, words in (private | {"text.pem": "no private key"}).items():
        with pytest.raises(UsageError, match=words):
            load_private_key(tmp_path / name)
    for load in (load_private_key, lambda path: load_public_keys([path])):
        with pytest.raises(DiskError, match=r"gone\.pem: No such file"):
            load(tmp_path / "gone.pem")


@pytest.mark.parametrize(
    "call", [generate, load_private_key, lambda path: load_public_keys([path])]
)
def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch, call):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(UsageError, match=r"pip install 'pgmlite\[trust\]'"):
        call(tmp_path / "k.pem")
