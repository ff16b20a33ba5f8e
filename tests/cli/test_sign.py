"""C3: signatures on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.bundles import edit_manifest
from tests.cli.conftest import cells
from tests.keys import key_pair
from tests.processes import CommandServer


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "copy.bundle"))


def test_c3_a_bundle_is_signed_and_verified_with_the_public_key(
    cli: CommandServer, bundle: Path, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path)
    finished = cli.run("sign", bundle, "--key", private)
    assert (finished.status, finished.err) == (0, "")
    key = json.loads((bundle / "signature.json").read_bytes())["public_key"]
    assert finished.out.decode().splitlines() == [
        f"Signed {bundle} with the public key {key}.",
        f"Next: bothways verify {bundle} --key public.pem",
    ]
    finished = cli.run("verify", bundle, "--key", public)
    assert (finished.status, finished.err) == (0, "")
    assert f"Signed with the private key of {public}.\nPassed: " in finished.out.decode()
    assert cells(cli.run("info", bundle).out)["signed"] == [
        f"with public key {key}, not checked here: bothways verify --key"
    ]


def test_c3_what_is_not_signed_or_was_changed_fails(cli: CommandServer, bundle: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    finished = cli.run("verify", bundle, "--key", public)
    assert (finished.status, finished.out) == (1, b"")
    assert finished.error_line.startswith(f"bothways: error: {bundle} is not signed, expected a signature of {public}")
    assert cli.run("sign", bundle, "--key", private).status == 0
    finished = cli.run("sign", bundle, "--key", private)
    assert (finished.status, finished.out) == (2, b"")
    assert "signature.json exists: the bundle is signed. Remove that file to sign it again" in finished.error_line
    edit_manifest(bundle, lambda fields: fields["labels"].reverse())
    finished = cli.run("verify", bundle, "--key", public)
    assert finished.status == 1
    assert "does not match its signature: it was changed after it was signed" in finished.error_line


@pytest.mark.parametrize("command", ["sign", "verify"])
def test_a_wrong_key_is_one_line(cli: CommandServer, bundle: Path, tmp_path: Path, command: str) -> None:
    private, public = key_pair(tmp_path)
    for key in (tmp_path / "nowhere.pem", public if command == "sign" else private):
        finished = cli.run(command, bundle, "--key", key)
        assert (finished.status, finished.out) == (2, b"")
        assert finished.error_line.startswith("bothways: error: ")
    assert cli.run("sign", bundle).status == 2  # no key


def test_info_shows_the_type_of_labels_and_all_columns(cli: CommandServer) -> None:
    golden = Path(__file__).parents[1] / "golden" / "format_2"
    found = cells(cli.run("info", golden / "numbers.bundle").out)
    assert found["labels"] == ["1, 2, 10 (integer)"]
    assert found["columns"] == ["text 'text', label 'stars', weight 'weight'"]
    found = cells(cli.run("info", golden / "topics.bundle").out)
    assert found["columns"] == ["text 'title', 'body', labels 'acting', 'music', 'plot', 'price'"]
