"""C3: a signature proves who published a bundle. Keys are made with OpenSSL, as users make them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.bundle.signature import SIGNATURE_FILE
from bothways.errors import BundleBroken, BundleUntrusted, ConfigError, DependencyMissing, OutputExists
from bothways.runtime.verify import load_verified
from tests.bundles import edit_manifest, run_python
from tests.keys import HAS_OPENSSL, key_pair, openssl

GOLDEN = Path(__file__).parents[2] / "golden"
needs_openssl = pytest.mark.skipif(not HAS_OPENSSL, reason="OpenSSL is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "signed.bundle"))


def test_c3_a_signed_bundle_is_verified_loaded_and_read_with_the_public_key(
    bundle: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    digest = bothways.load(bundle).digest
    signature = bothways.sign(bundle, key=private)
    stored = json.loads((bundle / SIGNATURE_FILE).read_bytes())
    assert stored == signature.model_dump()
    assert stored["algorithm"] == "ed25519"
    assert bothways.verify(bundle, key=public).passed
    assert bothways.load(bundle, key=public).digest == digest  # the signature is not part of the bundle's identity
    assert load_verified(bundle, key=str(public))[1].passed
    assert bothways.verify(bundle).passed  # without a key, nobody asks for a signature


def test_c3_packs_and_bundles_of_format_1_can_be_signed_too(
    pack_path: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    for source in (pack_path, GOLDEN / "topics.bundle", GOLDEN / "tiny.pack"):
        copy = Path(shutil.copytree(source, tmp_path / f"{source.parent.name} {source.name}"))
        bothways.sign(copy, key=keys[0])
        assert bothways.verify(copy, key=keys[1]).passed


@needs_openssl
def test_openssl_agrees_with_the_signature(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """What docs/supply-chain.md says is signed can be checked without bothways."""
    signature = bothways.sign(bundle, key=keys[0])
    digest = json.loads((bundle / "bundle.json").read_bytes())["digest"]
    (tmp_path / "message").write_text(f"bothways bundle {digest}")
    (tmp_path / "signature").write_bytes(bytes.fromhex(signature.signature))
    files = ["-in", tmp_path / "message", "-sigfile", tmp_path / "signature"]
    openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys[1], *files)


def test_a_signature_is_never_overwritten(bundle: Path, keys: tuple[Path, Path]) -> None:
    bothways.sign(bundle, key=keys[0])
    before = (bundle / SIGNATURE_FILE).read_bytes()
    with pytest.raises(OutputExists, match=r"signature\.json exists: the bundle is signed\. Remove that file"):
        bothways.sign(bundle, key=keys[0])
    assert (bundle / SIGNATURE_FILE).read_bytes() == before


def test_a_broken_bundle_is_not_signed(bundle: Path, keys: tuple[Path, Path]) -> None:
    (bundle / "README.md").write_text("changed")
    with pytest.raises(BundleBroken, match=r"README\.md"):
        bothways.sign(bundle, key=keys[0])
    assert not (bundle / SIGNATURE_FILE).exists()


def refuse(bundle: Path, key: Path, problem: str, error: type[Exception] = BundleUntrusted) -> None:
    """Check that everything that takes a key refuses the bundle with one line."""
    reading: list[Any] = [
        bothways.verify,
        bothways.load,
        load_verified,
        lambda b, key: read_bundle(b, Kind.CLASSIFIER, key),
    ]
    for function in reading:
        with pytest.raises(error, match=problem) as caught:
            function(bundle, key=key)
        assert "\n" not in str(caught.value)


def test_c3_what_is_not_signed_with_the_key_is_refused(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    refuse(bundle, public, r"signed\.bundle is not signed, expected a signature of .*public\.pem")
    other_private, other_public = key_pair(tmp_path)
    bothways.sign(bundle, key=other_private)
    refuse(bundle, public, r"is signed with the key [0-9a-f]{16}\.\.\., expected a signature of .*public\.pem")
    assert bothways.verify(bundle, key=other_public).passed

    path = bundle / SIGNATURE_FILE
    of_other = json.loads(path.read_bytes())
    path.unlink()
    of_ours = bothways.sign(bundle, key=private).model_dump()
    for key, value in (("signature", of_other["signature"]), ("signature", "0" * 128)):
        path.write_text(json.dumps({**of_ours, key: value}))
        refuse(bundle, public, "does not match its signature: it was changed after it was signed")
    path.write_text(json.dumps({**of_other, "public_key": of_ours["public_key"]}))  # claims to be of our key
    refuse(bundle, public, "does not match its signature")


def test_c3_a_signature_does_not_cover_other_content(bundle: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    bothways.sign(bundle, key=private)
    edit_manifest(bundle, lambda fields: fields["training"].update(about="changed, with a correct digest"))
    assert bothways.verify(bundle).passed
    refuse(bundle, public, "does not match its signature: it was changed after it was signed")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff" * 99, b" " * 5000, b'{"algorithm": "none", "public_key": "", "signature": ""}'],
    ids=repr,
)
def test_a_file_that_is_not_a_signature_is_refused(bundle: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (bundle / SIGNATURE_FILE).write_bytes(content)
    refuse(bundle, keys[1], r"signature\.json (is not a signature|has 5000 bytes)", BundleBroken)


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_signature_that_is_not_a_plain_file_is_refused(bundle: Path, keys: tuple[Path, Path], kind: str) -> None:
    path = bundle / SIGNATURE_FILE
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/dev/zero")
        case _:
            os.mkfifo(path)
    refuse(
        bundle, keys[1], r"signature\.json (is not a regular file|can't be opened: it is a symbolic link)", BundleBroken
    )


@needs_openssl
def test_keys_of_another_kind_are_refused_in_one_line(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    rsa, rsa_public = tmp_path / "rsa.pem", tmp_path / "rsa.public.pem"
    openssl("genpkey", "-algorithm", "RSA", "-out", rsa)
    openssl("pkey", "-in", rsa, "-pubout", "-out", rsa_public)
    encrypted = tmp_path / "encrypted.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", encrypted)
    openssl("pkey", "-in", private, "-outform", "DER", "-out", tmp_path / "der.pem")
    (tmp_path / "broken.pem").write_bytes(private.read_bytes()[:60])
    (tmp_path / "empty.pem").touch()
    (tmp_path / "large.pem").write_bytes(b"-" * 100_000)
    for name, problem in {
        str(public): "holds no private key in PEM format. Make one with openssl genpkey -algorithm ed25519",
        str(rsa): "is not an Ed25519 key. Make one with openssl",
        str(encrypted): "is encrypted, expected a key without a password. Decrypt it with openssl pkey",
        "der.pem": "holds no private key in PEM format",
        "broken.pem": "holds no readable private key",
        "empty.pem": "holds no private key in PEM format",
        "large.pem": "has more than 65,536 bytes",
        "nowhere.pem": "can't be read: No such file",
        "": "can't be read: Is a directory",
        "\x00": "expected a path",
    }.items():
        with pytest.raises(ConfigError) as caught:
            bothways.sign(bundle, key=tmp_path / name)
        assert problem in str(caught.value)
        assert str(caught.value).isprintable()
    assert not (bundle / SIGNATURE_FILE).exists()
    for name, problem in {
        str(private): "is a private key, expected the public one: openssl pkey -in private.pem -pubout",
        str(rsa_public): "is not an Ed25519 key",
        "broken.pem": "is a private key, expected the public one",
        "empty.pem": "holds no public key in PEM format",
        "nowhere.pem": "can't be read",
    }.items():
        refuse(bundle, tmp_path / name, problem, ConfigError)


def test_a_key_may_be_a_link_as_mounted_secrets_are(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    for number, key in enumerate(keys):
        (tmp_path / f"{number}.pem").symlink_to(key)
    bothways.sign(bundle, key=tmp_path / "0.pem")
    assert bothways.verify(bundle, key=tmp_path / "1.pem").passed


def test_without_the_library_only_signatures_are_missing(
    bundle: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(DependencyMissing, match=r"signatures need cryptography: pip install 'bothways\[sign\]'"):
        bothways.sign(bundle, key=keys[0])
    refuse(bundle, keys[1], "signatures need cryptography", DependencyMissing)
    assert bothways.verify(bundle).passed


def test_loading_without_a_key_does_not_import_the_library(bundle_path: Path) -> None:
    code = "import sys, bothways; bothways.load(sys.argv[1]); print('cryptography' in sys.modules)"
    finished = run_python(code, str(bundle_path))
    assert finished.stdout == "False\n", finished.stderr


@pytest.mark.parametrize("key", [b"x", 3, "", ["a"]], ids=repr)
def test_what_is_not_a_path_of_a_key_is_refused_in_one_line(bundle: Path, key: Any) -> None:
    functions: list[Any] = [bothways.sign, bothways.verify, bothways.load]
    for function in functions:
        with pytest.raises(ConfigError, match=r"key is .*, expected a path"):
            function(bundle, key=key)
