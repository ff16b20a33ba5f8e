"""Bundles go to the Hub and come back byte for byte, with the real client and a server on a real socket."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from huggingface_hub import ModelCard, constants

import bothways
from bothways.bundle import packs
from bothways.bundle.hub import HubReference, hub_reference, local_path
from bothways.bundle.read import read_manifest
from bothways.cli.app import app
from bothways.errors import BothwaysError, BundleBroken, BundleMissing, ConfigError, DependencyMissing, HubError
from bothways.runtime.classifier import Classifier
from bothways.serve.bundles import parse_bundles
from bothways.training.start import read_start
from tests.console import run_bothways
from tests.hub.server import Hub
from tests.keys import key_pair

pytestmark = MARKS = [
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # huggingface_hub uploads to Git LFS so
]
TEXTS = ["a lovely film", "dull"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files_of(hub: Hub, name: str) -> dict[str, bytes]:
    repository = hub.repositories[name]
    return repository.commits[repository.refs["main"]]


def card_of(hub: Hub, name: str) -> tuple[dict[str, object], str]:
    """Return the metadata and the text of a card, as the library reads them."""
    card = ModelCard(files_of(hub, name)["README.md"].decode())
    return card.data.to_dict(), card.text  # type: ignore[no-untyped-call]


def test_a_bundle_comes_back_byte_for_byte(hub: Hub, bundle_path: Path, model: Classifier) -> None:
    reference = bothways.push_to_hub(bundle_path, "ann/reviews")
    assert re.fullmatch("hf://ann/reviews@[0-9a-f]{40}", reference)
    found = bothways.load("hf://ann/reviews")
    assert found.digest == model.digest
    assert (found.predict_proba(TEXTS) == model.predict_proba(TEXTS)).all()
    folder = local_path(reference)
    assert contents(folder) == contents(bundle_path)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert bothways.verify(reference).passed
    assert hub.tokens_of_files == []  # the token went to the Hub only
    uploaded = files_of(hub, "ann/reviews")
    assert {name.removeprefix("bundle/"): data for name, data in uploaded.items() if name.startswith("bundle/")} == (
        contents(bundle_path)
    )


def test_the_card_has_metadata_and_says_how_to_use_the_bundle(hub: Hub, bundle_path: Path, pack_path: Path) -> None:
    bothways.push_to_hub(bundle_path, "ann/reviews", license="mit", language=["en", "de"])
    fields, text = card_of(hub, "ann/reviews")
    assert fields == {
        "language": ["en", "de"],
        "license": "mit",
        "library_name": "bothways",
        "pipeline_tag": "text-classification",
        "tags": ["bothways", "ulmfit", "lstm", "single-label"],
    }
    assert read_manifest(bundle_path).digest in text
    assert "bothways predict hf://ann/reviews texts.csv" in text
    assert "| forward | reading-order |" in text  # the bundle's own card
    bothways.push_to_hub(pack_path, "ann/words")
    fields, text = card_of(hub, "ann/words")
    assert fields == {"library_name": "bothways", "tags": ["bothways", "ulmfit", "lstm", "language-model"]}
    assert "--pretrained hf://ann/words" in text


def test_the_card_has_the_results_of_an_evaluation(
    hub: Hub, bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    labels = [model.labels[number % 3] for number in range(30)]
    evaluation = bothways.evaluate(model, ([f"text {number}" for number in range(30)], labels))
    (tmp_path / "e.json").write_text(json.dumps(evaluation.to_dict()))
    bothways.push_to_hub(bundle_path, "ann/reviews", evaluation=tmp_path / "e.json")
    fields, text = card_of(hub, "ann/reviews")
    assert fields["metrics"] == ["accuracy", "macro_f1"]
    (entry,) = cast("list[dict[str, Any]]", fields["model-index"])
    assert entry["name"] == "reviews"
    (result,) = entry["results"]
    assert result["task"] == {"type": "text-classification"}
    assert result["dataset"]["split"] == "test"
    accuracy = next(metric for metric in result["metrics"] if metric["type"] == "accuracy")
    assert accuracy["value"] == pytest.approx(evaluation.summary["ensemble"]["accuracy"], abs=1e-6)
    assert "**Evaluated on 30 rows of the table:** accuracy" in text


def test_a_second_upload_replaces_the_first_and_the_same_again_changes_nothing(
    hub: Hub, bundle_path: Path, linear_bundle_path: Path
) -> None:
    first = bothways.push_to_hub(linear_bundle_path, "ann/reviews")
    second = bothways.push_to_hub(bundle_path, "ann/reviews")
    assert "bundle/linear.safetensors" not in files_of(hub, "ann/reviews")
    assert bothways.push_to_hub(bundle_path, "ann/reviews") == second
    digests = [read_manifest(path).digest for path in (linear_bundle_path, bundle_path, bundle_path)]
    assert [bothways.load(path).digest for path in (first, second, "hf://ann/reviews@main")] == digests


def test_a_signed_bundle_is_checked_with_the_key(hub: Hub, bundle_path: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    signed = Path(shutil.copytree(bundle_path, tmp_path / "signed.bundle"))
    bothways.sign(signed, key=private)
    reference = bothways.push_to_hub(signed, "ann/signed")
    assert bothways.verify(reference, key=public).passed
    with pytest.raises(ConfigError, match=r"is on the Hub\. Sign the local bundle"):
        bothways.sign(reference, key=private)


def test_a_commit_is_downloaded_once_and_works_offline(
    hub: Hub, bundle_path: Path, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = bothways.push_to_hub(bundle_path, "ann/reviews")
    bothways.load(reference)
    hub.requests.clear()
    bothways.load(reference)
    assert hub.requests == []
    bothways.load("hf://ann/reviews")  # a branch is looked up each time
    assert [request for request in hub.requests if "revision" not in request] == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert bothways.load(reference).digest == bothways.load("hf://ann/reviews").digest == model.digest
    with pytest.raises(HubError, match="hf://ann/other is not in the cache, and HF_HUB_OFFLINE is set"):
        bothways.load("hf://ann/other")


def test_a_pickled_model_names_the_commit(hub: Hub, bundle_path: Path, linear_bundle_path: Path) -> None:
    first = bothways.push_to_hub(bundle_path, "ann/reviews")
    pickled = pickle.dumps(bothways.load("hf://ann/reviews"))
    bothways.push_to_hub(linear_bundle_path, "ann/reviews")
    assert first.encode() in pickled
    assert pickle.loads(pickled).digest == read_manifest(bundle_path).digest


def test_engines_get_the_commit(hub: Hub, bundle_path: Path) -> None:
    from bothways.arrow import Scorer

    reference = bothways.push_to_hub(bundle_path, "ann/reviews")
    scorer = Scorer("hf://ann/reviews", text="review")
    assert scorer.bundle == reference
    batch = pa.RecordBatch.from_pydict({"review": TEXTS})
    (scored,) = pickle.loads(pickle.dumps(scorer))([batch])
    assert scored.num_rows == 2


def test_a_private_bundle_needs_the_token(hub: Hub, bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bothways.push_to_hub(bundle_path, "ann/secret", private=True)
    assert hub.repositories["ann/secret"].private
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert bothways.load("hf://ann/secret").labels
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path(constants.HF_HUB_CACHE) / "empty"))
    for token, reason in (("hf_stranger", "the token may not read it"), ("", "HF_TOKEN is not set")):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(BundleMissing, match=f"no ann/secret on the Hugging Face Hub: .* private and {reason}"):
            bothways.load("hf://ann/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"refused the token\. Set HF_TOKEN to a valid one") as caught:
        bothways.load("hf://ann/secret")
    assert "hf_wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "kind", "message"),
    [
        ("hf://ann", ConfigError, "'hf://ann' is not a reference, expected hf://USER/NAME or hf://USER/NAME@REVISION"),
        ("hf://ann/nothing", BundleMissing, "no ann/nothing on the Hugging Face Hub: it does not exist"),
        ("hf://ann/reviews@v9", BundleMissing, "ann/reviews has no revision 'v9'. Name a branch, a tag or a commit"),
        (f"hf://ann/reviews@{'0' * 40}", BundleMissing, f"ann/reviews has no revision '{'0' * 40}'"),
        ("hf://ann/empty", BundleMissing, "hf://ann/empty contains no bundle: expected bundle/bundle.json"),
        ("hf://ann/gated", HubError, "access to ann/gated is restricted. Request it on its page, and set HF_TOKEN"),
        ("hf://ann/broken", HubError, "is not in the cache, and the Hugging Face Hub can't be reached (status 500)"),
    ],
)
def test_what_cannot_be_downloaded_is_one_clear_line(
    reference: str, kind: type[BothwaysError], message: str, hub: Hub, bundle_path: Path
) -> None:
    bothways.push_to_hub(bundle_path, "ann/reviews")
    for name, blocked in (("empty", ""), ("gated", "gated"), ("broken", "500")):
        bothways.push_to_hub(bundle_path, f"ann/{name}")
        hub.repositories[f"ann/{name}"].blocked = blocked
    hub.repositories["ann/empty"].commit({".gitattributes": b"", "README.md": b"a model"})
    with pytest.raises(kind) as caught:
        bothways.load(reference)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "hf_writer" not in str(caught.value)


def test_without_network_the_error_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubError, match=r"Hub can't be reached \(Connection refused\). Check the network"):
        bothways.load("hf://ann/reviews")


def test_what_cannot_be_uploaded_is_one_clear_line(
    hub: Hub, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bothways.push_to_hub(bundle_path, "ann/reviews")
    cases: list[tuple[str, str, dict[str, object], type[BothwaysError], str]] = [
        ("hf_writer", "reviews", {}, ConfigError, "the repository is 'reviews', expected USER/NAME"),
        ("hf_writer", "bob/reviews", {}, HubError, "the token may not write to bob/reviews"),
        ("hf_reader", "ann/reviews", {}, HubError, "the token may not write to ann/reviews"),
        ("hf_wrong", "ann/reviews", {}, HubError, "refused the token. Set HF_TOKEN to a valid one"),
        ("", "ann/reviews", {}, HubError, "uploading needs a token of the Hugging Face Hub. Set HF_TOKEN"),
        ("hf_writer", "ann/reviews", {"private": True}, ConfigError, "ann/reviews exists and is public"),
        ("hf_writer", "ann/reviews", {"license": "none of these"}, HubError, '"license" must be one of'),
        ("hf_writer", "ann/reviews", {"language": "English"}, HubError, '"language" must only contain lowercase'),
    ]
    for token, name, options, kind, message in cases:
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(kind) as caught:
            bothways.push_to_hub(bundle_path, name, **options)  # type: ignore[arg-type]
        assert type(caught.value) is kind
        assert message in str(caught.value)
        assert not token or token not in str(caught.value)
    damaged = Path(shutil.copytree(bundle_path, tmp_path / "damaged.bundle"))
    (damaged / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleBroken):
        bothways.push_to_hub(damaged, "ann/damaged")
    assert "ann/damaged" not in hub.repositories


def test_a_changed_file_on_the_hub_is_noticed(hub: Hub, bundle_path: Path) -> None:
    bothways.push_to_hub(bundle_path, "ann/reviews")
    files = files_of(hub, "ann/reviews")
    hub.repositories["ann/reviews"].commit({**files, "README.md": b"edited on the Hub"})
    assert bothways.load("hf://ann/reviews").labels
    hub.repositories["ann/reviews"].commit({**files, "bundle/tokenizer.json": files["bundle/tokenizer.json"] + b" "})
    with pytest.raises(BundleBroken, match=r"tokenizer\.json has \d+ bytes, expected at most"):
        bothways.load("hf://ann/reviews")


def test_an_interrupted_download_is_completed(hub: Hub, bundle_path: Path) -> None:
    reference = bothways.push_to_hub(bundle_path, "ann/reviews")
    folder = local_path(reference)
    (folder / "forward.safetensors").unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text("{}")  # a file of its own: before, it was that of the cache
    assert bothways.load(reference).digest == read_manifest(bundle_path).digest


def test_where_hard_links_are_impossible_files_are_copied(
    hub: Hub, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    reference = bothways.push_to_hub(bundle_path, "ann/reviews")
    assert bothways.load(reference).digest == read_manifest(bundle_path).digest
    assert bothways.load(reference).labels


def test_references_have_one_form() -> None:
    assert hub_reference("reviews.bundle") is None
    assert hub_reference("hf://ann/reviews") == HubReference("ann/reviews")
    assert hub_reference(Path("hf://ann/reviews.v2@refs/pr/1")) == HubReference("ann/reviews.v2", "refs/pr/1")
    for wrong in ("hf://", "hf://ann/reviews/bundle", "hf://ann/reviews@", "hf://ann/re views", "hf://ann/a@main:1"):
        with pytest.raises(ConfigError, match="is not a reference"):
            hub_reference(wrong)


def test_a_server_takes_references(hub: Hub, bundle_path: Path) -> None:
    reference = bothways.push_to_hub(bundle_path, "ann/reviews")
    plain, named = parse_bundles([reference, f"other@v2={reference}:1"])
    assert (plain.name, named.name, named.version, named.weight) == ("reviews", "other", "v2", 1.0)
    assert read_manifest(plain.path).digest == read_manifest(named.path).digest == read_manifest(bundle_path).digest


def test_packs_are_found_by_reference_and_by_name(
    hub: Hub, pack_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = bothways.push_to_hub(pack_path, "ann/en-tiny")
    digest = read_manifest(pack_path).digest
    published = bothways.Pack("en-tiny", ("en",), 1_500_000, digest, reference, None)
    monkeypatch.setattr(packs, "PUBLISHED_PACKS", (published,))
    assert [pack.name for pack in bothways.list_packs()] == ["en-small", "en-tiny"]
    assert bothways.list_packs()[1].path is None
    with pytest.raises(BundleMissing, match=r"the pack en-tiny is not downloaded\. .* bothways packs en-tiny"):
        read_start("en-tiny", None)
    app(["packs"], standalone_mode=False)
    assert "not downloaded: bothways packs en-tiny" in capsys.readouterr().out
    app(["packs", "en-tiny"], standalone_mode=False)
    start = read_start("en-tiny", None)
    assert start.pack is not None
    assert start.pack.digest == digest
    assert bothways.list_packs()[1].path == Path(start.pack.name)
    monkeypatch.setattr(packs, "PUBLISHED_PACKS", ())
    assert [pack.name for pack in bothways.list_packs()] == ["en-small", reference]
    by_reference = read_start("hf://ann/en-tiny", None)
    assert by_reference.pack is not None
    assert Path(by_reference.pack.name).name == "en-tiny"  # what a run reports and records
    monkeypatch.setattr(packs, "PUBLISHED_PACKS", (bothways.Pack("en-tiny", ("en",), 1, "0" * 64, reference, None),))
    with pytest.raises(BundleBroken, match=f"has the digest {digest}, expected 0000"):
        bothways.download_pack("en-tiny")
    bothways.push_to_hub(bundle_path, "ann/reviews")
    with pytest.raises(BundleBroken, match="is a classifier, expected a language-model"):
        bothways.download_pack("hf://ann/reviews")
    with pytest.raises(BundleMissing, match=r"pack not found: nope\. Pass hf://USER/NAME or one of en-small"):
        bothways.download_pack("nope")


def test_commands_take_references(
    hub: Hub, bundle_path: Path, model: Classifier, tmp_path: Path, process_environment: dict[str, str]
) -> None:
    pushed = run_bothways(
        "push", str(bundle_path), "ann/reviews", "--private", "--language", "en", env=process_environment
    )
    assert (pushed.returncode, pushed.stderr.count("\n")) == (0, 0), pushed.stderr
    reference = pushed.stdout.split()[2]
    assert hub.repositories["ann/reviews"].private
    (tmp_path / "new.csv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    bothways.score(model, tmp_path / "new.csv", tmp_path / "expected.csv")
    arguments = [str(tmp_path / "new.csv"), "--out", str(tmp_path / "scored.csv"), "--text", "text"]
    scored = run_bothways("predict", reference, *arguments, env=process_environment)
    assert scored.stderr.startswith("2 rows written to "), scored.stderr
    assert (tmp_path / "scored.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    offline = {**process_environment, "HF_HUB_OFFLINE": "1", "HF_TOKEN": ""}
    listed = run_bothways("packs", env=offline)
    assert "en-small" in listed.stdout, listed.stderr
    shown = run_bothways("info", reference, env=offline)
    assert model.digest in shown.stdout, shown.stderr
    refused = run_bothways("info", "hf://ann/other", env=offline)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("bothways: error: hf://ann/other is not in the cache, and HF_HUB_OFFLINE is set")
    for token in ("hf_a secret", "hf_ä", "hf_\x01"):  # such a header cannot be sent, and its error shows it
        failed = run_bothways("info", "hf://ann/new", env={**process_environment, "HF_TOKEN": token})
        assert failed.returncode == 1
        assert failed.stderr.count("\n") == 1, failed.stderr
        assert token[3:] not in failed.stderr


def test_files_are_scored_with_a_reference(
    hub: Hub, bundle_path: Path, tmp_path: Path, process_environment: dict[str, str]
) -> None:
    bothways.push_to_hub(bundle_path, "ann/reviews")
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / "in" / f"{number}.csv").write_text("text\na lovely film\n")
    arguments = [f"{tmp_path}/in/*.csv", "--out", str(tmp_path / "out"), "--text", "text", "--workers", "1"]
    scored = run_bothways("predict", "hf://ann/reviews", *arguments, env=process_environment)
    assert scored.stderr.startswith("2 rows in 2 files written"), scored.stderr


def test_the_library_is_imported_on_request(bundle_path: Path) -> None:
    code = "import sys, bothways; bothways.load(sys.argv[1]); print('huggingface_hub' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code, str(bundle_path)], capture_output=True, text=True, check=True
    )
    assert finished.stdout == "False\n"


def test_without_the_library_the_error_names_the_extra(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'bothways\[hub\]'"):
        bothways.load("hf://ann/reviews")
    with pytest.raises(DependencyMissing, match=r"pip install 'bothways\[hub\]'"):
        bothways.push_to_hub(bundle_path, "ann/reviews")
    assert [pack.name for pack in bothways.list_packs()] == ["en-small"]
