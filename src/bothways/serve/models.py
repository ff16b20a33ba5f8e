"""Load the models of a server, choose one per request, and replace them by newer ones while they answer.

Only models that replayed their parity record on this machine answer requests. Models are loaded one after the other,
and each replaces its predecessor at once, so that no more than one additional model is in memory.
"""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bothways.bundle.read import read_manifest
from bothways.errors import BundleError, ModelUnknown, Unavailable, path_text, quoted, shown
from bothways.runtime.allocator import return_freed_memory
from bothways.runtime.classifier import Classifier
from bothways.runtime.verify import Verification, load_verified
from bothways.serve.batching import Batcher
from bothways.serve.bundles import ModelVersion
from bothways.serve.log import log_error, log_message
from bothways.serve.metrics import ServerMetrics
from bothways.serve.settings import Settings

_LONGEST_PAUSE_S = 60.0
"""The longest time between two attempts to load a bundle that could not be served."""
_LONGEST_FREEING_S = 10.0
"""The longest time to wait until nothing refers to a replaced model any more."""
_PAUSE_OF_FREEING_S = 0.01
_Key = tuple[str, str]
_Files = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version of a model that is being served.

    Attributes:
        source: The bundle as it was named by the operator.
        model: The classifier loaded from the bundle.
        batcher: The running batch of this model.
        verification: The result of replaying the parity record on this machine.
        loaded_at_s: The time of loading, in seconds since 1970.
    """

    source: ModelVersion
    model: Classifier
    batcher: Batcher
    verification: Verification
    loaded_at_s: float

    @property
    def name(self) -> str:
        """The name by which clients select the model."""
        return self.source.name

    @property
    def version(self) -> str:
        """The version by which clients can select this one among the versions of the model."""
        return self.source.version


@dataclass(frozen=True)
class _Failure:
    """Why a bundle could not be loaded, and when to try again.

    Attributes:
        problem: The message of the error.
        files: The files of the bundle at that time.
        pause_s: Seconds until the next attempt if the files stay as they are.
        retry_at_s: The time of the next attempt on the monotonic clock.
    """

    problem: str
    files: _Files
    pause_s: float
    retry_at_s: float


class Models:
    """The models of a server. Reloading is done by one thread at a time; everything else may be called by any thread.

    Attributes:
        bundles: The bundles to serve. The model of the first one is the default.
    """

    def __init__(self, bundles: Sequence[ModelVersion], settings: Settings, metrics: ServerMetrics) -> None:
        self.bundles = tuple(bundles)
        self._settings, self._metrics = settings, metrics
        self._served: dict[str, tuple[ServedModel, ...]] = {}  # by name; replaced as a whole, never changed
        self._failures: dict[_Key, _Failure] = {}
        self._files: dict[_Key, _Files] = {}  # when the watch looked last
        self._is_started = False

    @property
    def served(self) -> list[ServedModel]:
        """All versions of all models that answer requests, in the order in which they were named."""
        served = self._served
        names = dict.fromkeys([*(source.name for source in self.bundles), *served])
        return [version for name in names for version in served.get(name, ())]

    @property
    def problem(self) -> str:
        """Why bundles could not be reloaded. Empty if all that are named answer."""
        failures = dict(self._failures)
        return ". ".join(f"{name} version {version}: {found.problem}" for (name, version), found in failures.items())

    @property
    def is_started(self) -> bool:
        """Whether every bundle that the server was started with has been verified. From then on, models answer."""
        return self._is_started

    def choose(self, name: str | None, version: str | None) -> ServedModel:
        """Return a version of a model: the named one, or one chosen at random by the weights of the versions.

        Args:
            name: The name of the model. Defaults to the first one.
            version: The version. Defaults to a random choice.

        Raises:
            ModelUnknown: No model has this name, or it has no such version.
            Unavailable: The model is still loading.
        """
        served = self._served
        if not served:
            raise Unavailable("the models are still loading: retry later")
        if name is None:
            name = next((source.name for source in self.bundles if source.name in served), next(iter(served)))
        versions = served.get(name, ())
        named = [source for source in self.bundles if source.name == name]
        if not versions and not named:
            available = ", ".join(dict.fromkeys(found.name for found in self.served))
            raise ModelUnknown(f"model not found: {quoted(name, 100)}. Available models: {shown(available)}")
        if version is None and len(versions) == 1:
            return versions[0]
        if version is None and versions:
            return random.choices(versions, [found.source.weight for found in versions])[0]  # noqa: S311  (no secret)
        if found := next((found for found in versions if found.version == version), None):
            return found
        if version is None or version in [source.version for source in named]:
            raise Unavailable(f"the model {quoted(name, 100)} is still loading: retry later")
        available = ", ".join(found.version for found in versions)
        raise ModelUnknown(
            f"the model {quoted(name, 100)} has no version {quoted(version, 100)}. Available versions: "
            f"{shown(available)}"
        )

    def load_all(self) -> None:
        """Load and verify every bundle. A model answers as soon as all its versions are verified.

        Raises:
            BothwaysError: One of the bundles can't be served.
        """
        for name, sources in _by_name(self.bundles).items():
            self._served = {**self._served, name: tuple([self._load(source) for source in sources])}
        self._is_started = True

    def reload(self, bundles: Sequence[ModelVersion], *, only_changed: bool) -> None:
        """Load and verify bundles again, and serve those that can be served. The others are reported by ``problem``.

        A version whose bundle changed is replaced as soon as the new one is verified. Other versions of a model, other
        weights and the removal of versions take effect together, once all versions of the model are verified. Requests
        that a replaced model has accepted are answered by it.

        Args:
            bundles: The bundles to serve from now on.
            only_changed: Whether to load only bundles that differ from the ones that are served. A bundle that could
                not be served is tried again when its files change, and otherwise after a pause that grows.
        """
        self.bundles = tuple(bundles)
        keys = set(map(_key, self.bundles))
        self._failures = {key: failure for key, failure in self._failures.items() if key in keys}
        for name, sources in _by_name(self.bundles).items():
            self._reload_model(name, sources, only_changed=only_changed)
        if not self._failures:  # a model that is named no longer may be the only one that answers
            for name in self._served.keys() - {source.name for source in self.bundles}:
                self._serve(name, ())

    def _reload_model(self, name: str, sources: Sequence[ModelVersion], *, only_changed: bool) -> None:
        self._serve_if_complete(name, sources, {})  # other weights need not wait for the bundles to load
        due = [source for source in sources if not only_changed or self._is_due(source)]
        added: dict[str, ServedModel] = {}
        # What is added takes effect together. So nothing is added while another new bundle waits to be tried again.
        new_ones = [source for source in sources if not self._has(source)]
        is_blocked = any(_key(source) in self._failures and source not in due for source in new_ones)
        for source in sorted(due, key=lambda source: _key(source) not in self._failures):
            served = self._version(source)
            if served is None and is_blocked:
                continue
            new = self._reloaded(source)
            if new is None:
                is_blocked = is_blocked or source in new_ones
            elif served is None:
                added[source.version] = new
            else:
                new = replace(new, source=replace(source, weight=served.source.weight))
                versions = tuple(new if found is served else found for found in self._served[name])
                del served  # a name would keep the old model in memory
                self._serve(name, versions)
        if not self._serve_if_complete(name, sources, added):
            for new in added.values():
                new.batcher.close()

    def _version(self, source: ModelVersion) -> ServedModel | None:
        return next((found for found in self._served.get(source.name, ()) if found.version == source.version), None)

    def _has(self, source: ModelVersion) -> bool:
        """Return whether a version is served from its path, with the present files or with earlier ones."""
        served = self._version(source)
        return served is not None and served.source.path == source.path

    def _serve_if_complete(self, name: str, sources: Sequence[ModelVersion], added: dict[str, ServedModel]) -> bool:
        """Serve the versions of a model with their weights if all of them are loaded.

        A version is not loaded while the bundle of another path answers for it: that one must not get the weight which
        is meant for its successor.
        """
        old = {found.version: found for found in self._served.get(name, ())}
        loaded = {**old, **added}
        if any(source.version not in added and not self._has(source) for source in sources):
            return False
        weights = {version: found.source.weight for version, found in old.items()}
        if weights == {source.version: source.weight for source in sources}:
            return True
        found = [loaded[source.version] for source in sources]
        weighted = [
            replace(served, source=replace(served.source, weight=source.weight))
            for served, source in zip(found, sources, strict=True)
        ]
        del old, loaded, found
        self._serve(name, tuple(weighted))
        shares = ", ".join(f"{source.version} {source.weight:g}" for source in sources)
        log_message(f"weights of {name}: {shares}")
        return True

    def _serve(self, name: str, versions: tuple[ServedModel, ...]) -> None:
        """Replace the versions of a model, and free those that are served no longer once they answered everything."""
        before = {found.batcher for found in self._served.get(name, ())}
        old = list(before - {version.batcher for version in versions})
        new = [version for version in versions if version.batcher not in before]
        others = {other: found for other, found in self._served.items() if other != name}
        self._served = {**others, name: versions} if versions else others
        for version in new:
            source, digest = version.source, version.model.digest
            where = f"{name} version {source.version}"
            message = f"reloaded {where} from {path_text(source.path)} ({digest[:12]})"
            log_message(message, model=name, version=source.version, digest=digest)
        del before
        models = [weakref.ref(batcher.model) for batcher in old]
        while old:
            old.pop().close()
        deadline = time.monotonic() + _LONGEST_FREEING_S
        while any(model() is not None for model in models) and time.monotonic() < deadline:
            time.sleep(_PAUSE_OF_FREEING_S)  # replies that are being sent
        return_freed_memory()

    def _is_due(self, source: ModelVersion) -> bool:
        """Return whether a bundle differs from the one that is served, and its files have not just changed."""
        key, files = _key(source), _files(source.path)
        before, self._files[key] = self._files.get(key), files
        if before != files:
            return False  # perhaps it is still being copied
        if failure := self._failures.get(key):
            return files != failure.files or time.monotonic() >= failure.retry_at_s
        served = self._version(source)
        return served is None or served.source.path != source.path or _digest(source.path) != served.model.digest

    def _reloaded(self, source: ModelVersion) -> ServedModel | None:
        """Return a bundle that was loaded, or None if it can't be served. Its failure is logged and counted."""
        key, files, where = _key(source), _files(source.path), f"{source.name} version {source.version}"
        try:
            new = self._load(source)
        except Exception as error:  # noqa: BLE001  (any error: the models that are served must go on)
            last = self._failures.get(key)
            pause_s = min(max(self._settings.watch_s, _LONGEST_PAUSE_S), 2 * last.pause_s if last else 1.0)
            self._failures[key] = _Failure(str(error), files, pause_s, time.monotonic() + pause_s)
            self._metrics.reloads.labels("failed", *key).inc()
            message = f"reload of {where} failed, what was served before still answers: {error}"
            log_error(message, error, model=source.name, version=source.version)
            return None
        self._failures.pop(key, None)
        self._metrics.reloads.labels("succeeded", *key).inc()
        return new

    def _load(self, source: ModelVersion) -> ServedModel:
        settings = self._settings
        model, verification = load_verified(
            source.path,
            threads=settings.threads,
            early_exit=settings.early_exit,
            precision=settings.precision,
            key=settings.key,
        )
        if not verification.passed:
            raise Unavailable(
                f"{path_text(source.path)} does not reproduce its parity record on this machine: {verification.problem}"
            )
        for result in ("succeeded", "failed"):
            self._metrics.reloads.labels(result, *_key(source))  # a counter that begins at 0 shows its first increase
        return ServedModel(source, model, self._batcher(model), verification, time.time())

    def _batcher(self, model: Classifier) -> Batcher:
        return Batcher(model, self._settings.max_queue_tokens, self._settings.max_queue_s)

    def start_again_after_fork(self) -> None:
        """Start the threads of all models, in a process that was forked after they were loaded."""
        self._served = {
            name: tuple(replace(version, batcher=self._batcher(version.model)) for version in versions)
            for name, versions in self._served.items()
        }

    def close(self, timeout_s: float) -> None:
        """Reject new requests, answer the accepted ones, and reject those that are left after the timeout."""
        deadline = time.monotonic() + timeout_s
        for served in self.served:
            served.batcher.close(timeout_s=max(0.0, deadline - time.monotonic()))


def _key(source: ModelVersion) -> _Key:
    return source.name, source.version


def _by_name(bundles: Sequence[ModelVersion]) -> dict[str, list[ModelVersion]]:
    found: dict[str, list[ModelVersion]] = {}
    for source in bundles:
        found.setdefault(source.name, []).append(source)
    return found


def _digest(path: Path) -> str:
    """Return the digest of the bundle at a path, or ``""`` if no manifest can be read."""
    try:
        return read_manifest(path).digest
    except BundleError:
        return ""


def _files(path: Path) -> _Files:
    """Return the name, size and time of change of each file of a bundle, as far as they can be read."""
    try:
        with os.scandir(path) as entries:
            return tuple(sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries))
    except OSError:
        return ()
