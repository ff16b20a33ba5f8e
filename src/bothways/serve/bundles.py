"""The bundles that a server is started with: ``[NAME[@VERSION]=]PATH[:WEIGHT]``.

A path may be a reference to the Hugging Face Hub, which is downloaded here. Several versions of one model share its
requests by their weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bothways.bundle.hub import local_path
from bothways.bundle.manifest import MANIFEST_FILE
from bothways.errors import ConfigError, path_text, quoted
from bothways.serve.settings import BUNDLES_KEY
from bothways.toml_file import read_toml

FIRST_VERSION = "1"
"""The version of a model for which none is named."""
_SAGEMAKER = "serve"
"""The argument with which SageMaker starts a container."""
_FORM = "use NAME=PATH, or NAME@VERSION=PATH:WEIGHT for several versions of a model"


@dataclass(frozen=True)
class ModelVersion:
    """A bundle to serve.

    Attributes:
        name: The name by which clients select the model.
        version: The version by which clients can select this bundle among those of the same name.
        path: The path of the bundle.
        weight: The share of the requests that name no version, relative to the other versions of the model. With 0, it
            only answers requests that name its version.
    """

    name: str
    version: str
    path: Path
    weight: float = 1.0


def read_bundles(values: Sequence[str], config: Path | None) -> tuple[ModelVersion, ...]:
    """Return the bundles to serve, from the command line or from the key ``bundles`` of a TOML file.

    Args:
        values: The bundles of the command line, as ``parse_bundles`` reads them.
        config: The TOML file, if any. Its ``bundles`` are a list of such values.

    Raises:
        ConfigError: There are bundles in neither or in both, the file can't be read, or see ``parse_bundles``.
    """
    values = sagemaker_bundles(values)
    content = read_toml(config) if config is not None else {}
    if BUNDLES_KEY not in content:
        if not values:
            raise ConfigError(
                "no bundle, expected at least one: name them as arguments, or in the file of --config as "
                'bundles = ["reviews.bundle"]'
            )
        return parse_bundles(values)
    assert config is not None
    where = f"{BUNDLES_KEY} in {path_text(config)}"
    listed = content[BUNDLES_KEY]
    if values:
        raise ConfigError(f"bundles are named both as arguments and by {where}: name them in one place")
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) for item in listed):
        raise ConfigError(
            f'{where} must be a list of strings, such as ["reviews@v1=a.bundle:90", "reviews@v2=b.bundle:10"]'
        )
    try:
        return parse_bundles(listed)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def sagemaker_bundles(values: Sequence[str], environment: Mapping[str, str] = os.environ) -> Sequence[str]:
    """Return the bundles in SageMaker's folder for models if the only value is ``serve``, or else the values.

    SageMaker starts a container as ``docker run IMAGE serve``, after it has unpacked ``model.tar.gz`` into
    ``/opt/ml/model``. The archive contains the files of a bundle, or folders with bundles.

    Args:
        values: The bundles of the command line.
        environment: The environment variables. ``SM_MODEL_DIR`` is another folder.

    Raises:
        ConfigError: There is no bundle in the folder.
    """
    if [*values] != [_SAGEMAKER] or os.path.lexists(_SAGEMAKER):
        return values
    folder = Path(environment.get("SM_MODEL_DIR", "/opt/ml/model"))
    if (folder / MANIFEST_FILE).exists():
        return [f"model={folder}"]
    found = sorted(str(path.parent) for path in folder.glob(f"*/{MANIFEST_FILE}"))
    if not found:
        raise ConfigError(
            f"bundle not found: {_SAGEMAKER}, and no bundle in {path_text(folder)} either, where SageMaker unpacks "
            "model.tar.gz. Name the path of a bundle"
        )
    return found


def parse_bundles(values: Sequence[str]) -> tuple[ModelVersion, ...]:
    """Parse the bundles to serve.

    Args:
        values: Each either a ``PATH``, a ``NAME=PATH`` or a ``NAME@VERSION=PATH:WEIGHT``. A path that exists is always
            taken as a path. A reference such as ``hf://user/name@revision`` can be in place of a path. Its model is
            named after the last part of the path as it is written, without its suffix.

    Returns:
        The bundles in the order of the values.

    Raises:
        ConfigError: A name, version, path or weight is missing or invalid, two bundles have the same name and version,
            some versions of a model have a weight and others don't, or all of them have the weight 0.
        BothwaysError: A reference can't be downloaded, see ``local_path``.
    """
    parsed = [_parsed(value) for value in values]
    found: dict[tuple[str, str], ModelVersion] = {}
    for name, version, path, weight in parsed:
        if (name, version) in found:
            raise ConfigError(
                f"two bundles are named {quoted(name)}: use NAME=PATH to give them different names"
                if version == FIRST_VERSION
                else f"two bundles are the version {quoted(version)} of {quoted(name)}: name another version"
            )
        found[name, version] = ModelVersion(name, version, path, 1.0 if weight is None else weight)
    for model in dict.fromkeys(name for name, *_ in parsed):
        _check_weights(model, [weight for name, _, _, weight in parsed if name == model])
    return tuple(found.values())


def _check_weights(name: str, weights: Sequence[float | None]) -> None:
    given = [weight for weight in weights if weight is not None]
    if given and len(given) < len(weights):
        raise ConfigError(
            f"some versions of {quoted(name)} have a weight and others don't: give each one a weight, or none"
        )
    if given and not any(given):
        raise ConfigError(f"the weights of {quoted(name)} are all 0: at least one must be greater than 0")


def _parsed(value: str) -> tuple[str, str, Path, float | None]:
    """Return the name, the version, the path and the weight in a value. The weight is None if there is none."""
    left, equals, right = value.partition("=")
    if not equals or "/" in left or os.path.lexists(value):
        path, weight = _path_and_weight(value, value)
        # As written: the target of a symbolic link changes with each release.
        name = Path(os.path.abspath(path)).stem  # noqa: PTH100  (resolve() would follow the link)
        if not name:
            raise ConfigError(f"{quoted(value)} has no last part to name the model after: use NAME=PATH")
        return name, FIRST_VERSION, path, weight
    name, at, version = left.rpartition("@")
    if not at:
        name, version = left, FIRST_VERSION
    for part, content in (("name", name), ("version", version)):
        if not content.strip():
            raise ConfigError(f"the {part} of the bundle {quoted(value)} is empty: {_FORM}")
    path, weight = _path_and_weight(right, value)
    return name, version, path, weight


def _path_and_weight(text: str, value: str) -> tuple[Path, float | None]:
    """Split ``PATH:WEIGHT``. A path that exists, or does not end in a number, has no weight."""
    path, colon, number = text.rpartition(":")
    if not colon or os.path.lexists(text):
        path, number = text, ""
    elif not _is_number(number):
        if os.path.lexists(path):
            raise ConfigError(f"the weight of the bundle {quoted(value)} is {quoted(number)}, expected a number")
        path, number = text, ""
    if not path:
        raise ConfigError(f"the path of the bundle {quoted(value)} is empty: {_FORM}")
    if not number:
        return local_path(path), None
    weight = float(number)
    if not 0 <= weight < math.inf:
        raise ConfigError(f"the weight of {path_text(path)} is {quoted(number)}, expected 0 or more")
    return local_path(path), weight


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
