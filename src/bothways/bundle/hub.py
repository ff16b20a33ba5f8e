"""Find a bundle by its path or by a reference to a repository of the Hugging Face Hub, ``hf://user/name@revision``.

In: a path or a reference. Out: a local directory. A repository contains a bundle in its folder ``bundle``, byte for
byte, beside the card that the Hub shows. huggingface_hub downloads and caches it, and is imported when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args

from bothways.bundle import format_1
from bothways.bundle.manifest import MANIFEST_FILE, FileName
from bothways.bundle.signature import SIGNATURE_FILE
from bothways.errors import BothwaysError, BundleMissing, ConfigError, DependencyMissing, HubError, quoted, shown
from bothways.version import __version__

HUB_FOLDER: Final = "bundle"
"""The folder of a repository that contains the bundle."""
LIBRARY: Final = {"library_name": "bothways", "library_version": __version__}
"""How requests name this library, and the name of its folder in the cache."""
_SCHEME = "hf:/"
"""How a reference begins. ``Path`` turns ``hf://`` into it."""
_REFERENCE = re.compile(r"hf://?(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^\s:]+))?", re.ASCII)
_FILES = (*get_args(FileName), *format_1.FILE_NAMES.values(), SIGNATURE_FILE, MANIFEST_FILE)


@dataclass(frozen=True)
class HubReference:
    """A bundle in a repository of the Hugging Face Hub.

    Attributes:
        repository: Owner and name, such as ``user/name``.
        revision: A branch, tag or commit; None for the default branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_reference(path: str | os.PathLike[str]) -> HubReference | None:
    """Return the reference that a path is, or None if it is a path.

    Raises:
        ConfigError: It begins like a reference but is none.
    """
    text = os.fspath(path)
    if not text.startswith(_SCHEME):
        return None
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ConfigError(f"{quoted(text)} is not a reference, expected hf://USER/NAME or hf://USER/NAME@REVISION")
    return HubReference(found["repository"], found["revision"])


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return the local path of a bundle. One that a reference names is downloaded, unless it is in the cache.

    Args:
        path: A path, which is returned as it is, or a reference.

    Raises:
        BundleMissing: There is no such repository or revision, or it contains no bundle.
        HubError: The Hub can't be reached, or it refuses the request.
        ConfigError: It begins like a reference but is none.
        DependencyMissing: It is a reference, and huggingface_hub is not installed.
    """
    reference = hub_reference(path)
    return Path(path) if reference is None else _downloaded(reference)


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a path as an absolute one, and a reference as it is."""
    reference = hub_reference(path)
    return os.path.abspath(path) if reference is None else str(reference)  # noqa: PTH100


def pinned(path: str | os.PathLike[str], folder: Path) -> str:
    """Return a path as it is, and a reference as one to the commit that was downloaded.

    Args:
        path: The path or reference of a bundle.
        folder: Its local path, see ``local_path``.
    """
    reference = hub_reference(path)
    return os.fspath(path) if reference is None else str(HubReference(reference.repository, folder.parent.name))


def cached_bundles() -> Iterator[tuple[HubReference, Path]]:
    """Yield the bundles and packs that were downloaded, each with a reference to its commit.

    Raises:
        DependencyMissing: huggingface_hub is not installed.
    """
    root = Path(import_hub().constants.HF_ASSETS_CACHE, LIBRARY["library_name"])
    for manifest in sorted(root.glob(f"*/*/*/{MANIFEST_FILE}")):
        path = manifest.parent
        yield HubReference(path.parents[1].name.replace("--", "/", 1), path.parent.name), path


def import_hub() -> ModuleType:
    """Return the library huggingface_hub.

    Raises:
        DependencyMissing: It is not installed.
    """
    try:
        import huggingface_hub  # noqa: PLC0415  (an extra)
        import huggingface_hub.constants  # noqa: PLC0415
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.utils  # noqa: PLC0415
    except ImportError:
        raise DependencyMissing("the Hugging Face Hub needs huggingface_hub: pip install 'bothways[hub]'") from None
    return huggingface_hub


@contextlib.contextmanager
def hub_errors(reference: HubReference) -> Iterator[None]:
    """Turn the errors of huggingface_hub in a block into one of ours, whose message never contains a token.

    Progress bars are shown in a terminal only, unless the user has decided otherwise.

    Args:
        reference: What is downloaded, or where to upload to.

    Raises:
        BundleMissing: There is no such repository or revision.
        HubError: The Hub can't be reached, or it refuses the request.
    """
    hub = import_hub()
    is_decided = hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or hub.utils.are_progress_bars_disabled()
    is_quiet = not (sys.stderr.isatty() or is_decided)
    if is_quiet:
        hub.utils.disable_progress_bars()
    try:
        yield
    except BothwaysError:
        raise
    except (OSError, ValueError, RuntimeError, hub.errors.HTTPError) as error:
        # A failed upload of a large file is a RuntimeError whose cause says why.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise _error_of(cause, reference, hub) from None
    finally:
        if is_quiet:
            hub.utils.enable_progress_bars()


def _error_of(error: BaseException, reference: HubReference, hub: ModuleType) -> BothwaysError:
    """Return our error for one of huggingface_hub."""
    errors = hub.errors
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error, reference, hub)
    if hub.constants.HF_HUB_OFFLINE:
        return HubError(f"{reference} is not in the cache, and HF_HUB_OFFLINE is set. Unset it to download")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.HTTPError):
        return HubError(
            f"{reference} is not in the cache, and the Hugging Face Hub can't be reached ({_reason(error)}). Check the "
            "network, and HF_ENDPOINT if it is set"
        )
    if isinstance(error, OSError):
        return HubError(f"{reference} can't be stored or read: {_reason(error)}")
    return HubError(f"{reference} can't be used: {shown(' '.join(str(error).split()))}")


def _refusal(error: Any, reference: HubReference, hub: ModuleType) -> BothwaysError:
    """Return the error for a response of the Hub with an error status."""
    errors, repository, has_token = hub.errors, reference.repository, hub.get_token() is not None
    if isinstance(error, errors.GatedRepoError):
        return HubError(f"access to {repository} is restricted. Request it on its page, and set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        private = "the token may not read it" if has_token else "HF_TOKEN is not set"
        return BundleMissing(f"no {repository} on the Hugging Face Hub: it does not exist, or is private and {private}")
    if isinstance(error, errors.RevisionNotFoundError):
        revision = quoted(reference.revision)
        return BundleMissing(f"{repository} has no revision {revision}. Name a branch, a tag or a commit")
    status = error.response.status_code
    if status == 401:
        what = "the token" if has_token else "a request without a token"
        return HubError(f"the Hugging Face Hub refused {what}. Set HF_TOKEN to a valid one, or run hf auth login")
    if status == 403:
        return HubError(f"the token may not write to {repository}. Use one with write permission for it")
    message = shown(" ".join((error.server_message or "no reason given").split()))
    return HubError(f"the Hugging Face Hub refused a request for {repository} with status {status}: {message}")


def _reason(error: BaseException | None) -> str:
    """Return why an operation failed: the error of the system, or the status of a response.

    Other messages are not used, because they may contain a token.
    """
    names = []
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return shown(error.strerror)
        if status := getattr(getattr(error, "response", None), "status_code", None):
            return f"status {status}"
        names.append(type(error).__name__)
        error = error.__cause__ or error.__context__
    return names[-1]


def _downloaded(reference: HubReference) -> Path:
    """Return the directory of a bundle, with regular files, and with the commit as the name of its parent."""
    hub = import_hub()
    with hub_errors(reference):
        snapshot = Path(
            hub.snapshot_download(
                reference.repository,
                revision=reference.revision,
                # Each repository has .gitattributes. Without a match, huggingface_hub would log a warning.
                allow_patterns=[".gitattributes", *(f"{HUB_FOLDER}/{name}" for name in _FILES)],
                **LIBRARY,
            )
        )
        source = snapshot / HUB_FOLDER
        if not (source / MANIFEST_FILE).exists():
            raise BundleMissing(
                f"{reference} contains no bundle: expected {HUB_FOLDER}/{MANIFEST_FILE}, as bothways push uploads it"
            )
        # The files of a snapshot are links, which a bundle must not contain.
        name = reference.repository.partition("/")[2]
        folder = Path(hub.cached_assets_path(LIBRARY["library_name"], reference.repository, snapshot.name), name)
        folder.mkdir(exist_ok=True)
        for file in _FILES:  # the manifest is last, so that a directory with one is complete
            if (source / file).exists():
                _link((source / file).resolve(), folder / file)
    return folder


def _link(source: Path, target: Path) -> None:
    """Make a file appear at a second path: a hard link, or a copy where that is impossible."""
    wanted = source.stat()
    with contextlib.suppress(FileNotFoundError):
        found = target.stat()
        if (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copy2(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
