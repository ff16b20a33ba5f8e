"""Find packs of pretrained language models by name: those that are part of the package, and those of the Hub.

The card of each pack describes its training data and training.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bothways.arguments import as_text, checked
from bothways.bundle.hub import cached_bundles, hub_reference, local_path
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_manifest
from bothways.errors import BundleBroken, BundleError, BundleMissing, DependencyMissing, path_text

SHIPPED_PACKS = {"en-small": ("en",)}
"""The packs that are part of the package, with their languages."""
NO_PACK = "none"
"""The name that stands for training from scratch."""
_FOLDER = Path(__file__).parents[1] / "packs"


@dataclass(frozen=True)
class Pack:
    """A pack of language models.

    Attributes:
        name: The name by which ``train(pretrained=...)`` finds it.
        languages: Codes of the languages of its corpus; empty if it is not known.
        size_bytes: Size of its files.
        digest: Its identity, a SHA-256.
        reference: Where it is on the Hugging Face Hub, at a commit; None for a pack that is part of the package.
        path: Its local path; None if it is not downloaded.
    """

    name: str
    languages: tuple[str, ...]
    size_bytes: int
    digest: str
    reference: str | None
    path: Path | None


PUBLISHED_PACKS: tuple[Pack, ...] = ()
"""The packs that the project has published on the Hub. docs/decisions/046-hub.md has the commands that publish one."""


def list_packs() -> list[Pack]:
    """Return the known packs: those of the package, the published ones, and others that were downloaded."""
    found = [_pack(name, languages, None, _FOLDER / name) for name, languages in SHIPPED_PACKS.items()]
    cached = _cached_packs()
    for pack in PUBLISHED_PACKS:
        here = next((each for each in cached if each.digest == pack.digest), None)
        found.append(pack if here is None else Pack(**{**vars(pack), "path": here.path}))
    known = {pack.digest for pack in found}
    return [*found, *(pack for pack in cached if pack.digest not in known)]


@checked(name=as_text)
def download_pack(name: str) -> Path:
    """Return the local path of a pack. It is downloaded if it is not in the cache.

    Args:
        name: The name of a published pack, or a reference such as ``hf://user/name@revision``.

    Raises:
        BundleMissing: There is no such pack.
        BundleBroken: It is not a pack, or not the one that was published.
        HubError: The Hugging Face Hub can't be reached, or it refuses the request.
        DependencyMissing: huggingface_hub is not installed.
    """
    if name in SHIPPED_PACKS:
        return _FOLDER / name
    published = _published(name)
    if published is None and hub_reference(name) is None:
        raise BundleMissing(f"pack not found: {name}. Pass hf://USER/NAME or one of {_names()}")
    path = local_path(published.reference if published is not None and published.reference else name)
    manifest = read_manifest(path)
    if manifest.kind is not Kind.LANGUAGE_MODEL:
        raise BundleBroken(f"{name} is a {manifest.kind}, expected a {Kind.LANGUAGE_MODEL}")
    if published is not None and manifest.digest != published.digest:
        raise BundleBroken(f"{name} has the digest {manifest.digest}, expected {published.digest}. Do not use it")
    return path


def pack_path(pack: str | os.PathLike[str]) -> Path:
    """Return the local path of a pack.

    Args:
        pack: The name of a pack in ``list_packs``, a path, or a reference such as ``hf://user/name``. Names take
            precedence: ``./en-small`` is a path.

    Raises:
        BundleMissing: The path does not exist and no pack has that name, or it is not downloaded.
        BothwaysError: It is a reference that can't be downloaded, see ``local_path``.
    """
    if pack in SHIPPED_PACKS:
        return _FOLDER / pack
    published = _published(pack)
    if published is not None:
        here = next((each.path for each in _cached_packs() if each.digest == published.digest), None)
        if here is None:
            raise BundleMissing(
                f"the pack {published.name} is not downloaded. Download it with bothways packs {published.name}"
            )
        return here
    path = local_path(pack)
    if not os.path.exists(path):  # noqa: PTH110  (Path.exists raises if the path is too long)
        raise BundleMissing(f"pack not found: {path_text(path)}. Pass a path, hf://USER/NAME or one of {_names()}")
    return path


def _published(name: str | os.PathLike[str]) -> Pack | None:
    return next((pack for pack in PUBLISHED_PACKS if pack.name == name), None)


def _names() -> str:
    return ", ".join([*SHIPPED_PACKS, *(pack.name for pack in PUBLISHED_PACKS)])


def _cached_packs() -> list[Pack]:
    """Return the packs that were downloaded. Without huggingface_hub there are none."""
    found = []
    try:
        for reference, path in cached_bundles():
            try:
                if read_manifest(path).kind is Kind.LANGUAGE_MODEL:
                    found.append(_pack(str(reference), (), str(reference), path))
            except BundleError:
                continue  # whoever names it gets the error
    except DependencyMissing:
        return []
    return found


def _pack(name: str, languages: tuple[str, ...], reference: str | None, path: Path) -> Pack:
    manifest = read_manifest(path)
    size = sum(record.size_bytes for record in manifest.files.values())
    return Pack(name, languages, size, manifest.digest, reference, path)
