"""Upload a bundle to a repository of the Hugging Face Hub, with a card that the Hub shows.

In: a local bundle and the name of a repository. Out: a commit with the files of the bundle, byte for byte, in the
folder ``bundle``, and ``README.md``: metadata, how to use the bundle, and the bundle's own card.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bothways.arguments import as_flag, as_names, as_path, as_text, checked, optional
from bothways.bundle.card_results import Evaluated, compute_text, evaluated_text, read_evaluated, results
from bothways.bundle.hub import HUB_FOLDER, LIBRARY, HubReference, hub_errors, hub_reference, import_hub
from bothways.bundle.manifest import CARD_FILE, Kind, Manifest
from bothways.bundle.read import read_bundle, read_manifest
from bothways.errors import ConfigError, HubError, path_text, quoted

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_CARD = """\
# {name}

{kind} made with bothways, which reads texts forward and backward.

```
pip install 'bothways[hub]'
{command}
```

The model is the folder `{folder}`, a bundle with the digest `{digest}`. bothways checks it whenever it reads the files.

{results}{card}"""


@checked(
    bundle=as_path,
    repository=as_text,
    private=as_flag,
    license=optional(as_text),
    language=optional(as_names),
    evaluation=optional(as_path),
)
def push_to_hub(
    bundle: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    license: str | None = None,  # noqa: A002  (as the metadata)
    language: str | Sequence[str] | None = None,
    evaluation: str | os.PathLike[str] | None = None,
) -> str:
    """Upload a bundle or pack to the Hugging Face Hub, and return a reference to the commit.

    The repository is created if it does not exist. A bundle and a card that it contains are replaced, in one commit.
    The token is that of ``HF_TOKEN`` or of ``hf auth login``. The card has the metrics of training, and its duration if
    the run's ``metrics.jsonl`` is in ``BUNDLE.run``.

    Args:
        bundle: Directory of a bundle or pack. It is read and checked completely before.
        repository: Owner and name, such as ``user/name``.
        private: Create a private repository. Defaults to a public one.
        license: The license, as the Hub abbreviates it, such as ``mit``. Defaults to none in the metadata.
        language: Code of the language of the texts, such as ``en``, or several. Defaults to none in the metadata.
        evaluation: JSON file of ``bothways evaluate --out``, whose metrics and intervals the card shows. Defaults to
            none.

    Returns:
        A reference that ``load`` takes, such as ``hf://user/name@6f1c...``.

    Raises:
        BundleError: There is no bundle at the path, or it can't be read.
        DataError: The evaluation can't be read, or it is that of another bundle.
        ConfigError: The name of the repository is not one, the bundle is on the Hub, or the repository is public though
            ``private`` is requested.
        HubError: There is no token, the Hub can't be reached, or it refuses the request.
        DependencyMissing: huggingface_hub is not installed.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"the repository is {quoted(repository)}, expected USER/NAME")
    if hub_reference(bundle) is not None:
        raise ConfigError(f"{path_text(bundle)} is on the Hub, expected a local bundle")
    folder = Path(bundle)
    manifest = read_bundle(folder, read_manifest(folder).kind).manifest
    evaluated = None if evaluation is None else read_evaluated(evaluation, manifest.digest)
    languages = [language] if isinstance(language, str) else list(language or ())
    hub = import_hub()
    if hub.get_token() is None:
        raise HubError("uploading needs a token of the Hugging Face Hub. Set HF_TOKEN, or run hf auth login")
    with hub_errors(HubReference(repository)):
        api = hub.HfApi(**LIBRARY)
        api.create_repo(repository, private=private or None, exist_ok=True)
        found = api.model_info(repository)
        if private and not found.private:
            raise ConfigError(f"{repository} exists and is public. Make it private on its page, or drop --private")
        files = {f"{HUB_FOLDER}/{path.name}": path for path in sorted(folder.iterdir())}
        present = {each.rfilename for each in found.siblings or []}
        stale = sorted(name for name in present - set(files) if name.startswith(f"{HUB_FOLDER}/"))
        card = hub_card(hub, folder, manifest, repository, license, languages, evaluated)
        commit = api.create_commit(
            repository,
            [
                hub.CommitOperationAdd(CARD_FILE, card.encode()),
                *(hub.CommitOperationAdd(name, path) for name, path in files.items()),
                *(hub.CommitOperationDelete(name) for name in stale),
            ],
            commit_message=f"Upload a bundle with digest {manifest.digest[:16]}",
        )
    return str(HubReference(repository, commit.oid))


def hub_card(
    hub: Any,
    folder: Path,
    manifest: Manifest,
    repository: str,
    license_name: str | None,
    languages: Sequence[str],
    evaluated: Evaluated | None = None,
) -> str:
    """Return the ``README.md`` of a repository: metadata, how to use the bundle, and the bundle's own card.

    Args:
        hub: The library huggingface_hub.
        folder: The bundle.
        manifest: Its manifest.
        repository: Owner and name of the repository.
        license_name: The license as the Hub abbreviates it; None for no license in the metadata.
        languages: Codes of languages; empty for none in the metadata.
        evaluated: An evaluation of the bundle on other rows, if there is one.
    """
    is_classifier = manifest.kind is Kind.CLASSIFIER
    kinds = sorted({member.architecture.kind for member in manifest.members})
    name = repository.partition("/")[2]
    found = results(hub, manifest, evaluated)
    metadata = hub.ModelCardData(
        model_name=name if found else None,
        eval_results=found or None,
        metrics=sorted({result.metric_type for result in found}) or None,
        language=list(languages) or None,
        license=license_name,
        library_name=LIBRARY["library_name"],
        pipeline_tag="text-classification" if is_classifier else None,
        tags=["bothways", "ulmfit", *kinds, manifest.task if is_classifier else str(manifest.kind)],
    )
    reference = HubReference(repository)
    own = folder / CARD_FILE
    text = _CARD.format(
        name=name,
        results=evaluated_text(evaluated) + compute_text(folder, manifest.training),
        kind="A text classifier" if is_classifier else "Language models",
        command=f"bothways predict {reference} texts.csv --out scored.csv"
        if is_classifier
        else f"bothways train DATA --text COLUMN --label COLUMN --out BUNDLE --pretrained {reference}",
        folder=HUB_FOLDER,
        digest=manifest.digest,
        # The bundle was read before, so that this file is a regular one that the manifest records.
        card=own.read_text(encoding="utf-8").replace("# ", "## ", 1) if CARD_FILE in manifest.files else "",
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"
