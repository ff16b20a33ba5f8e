"""Train and use bundles as estimators of scikit-learn: ``TextClassifier`` and ``TextRegressor``.

In: texts and targets as scikit-learn passes them. Out: estimators for pipelines, cross-validation and ensembles. Each
holds a bundle, and is pickled with the bundle's content. Imported explicitly, because scikit-learn is an extra.
"""

from __future__ import annotations

import numbers
import os
import shutil
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.read import read_manifest
from bothways.bundle.write import write_copy
from bothways.data.memory import open_memory
from bothways.data.tables import TableSource
from bothways.errors import BundleBroken, ConfigError, DataError, DependencyMissing, NoBetterThanConstant, quoted
from bothways.runtime.classifier import Classifier, load
from bothways.tasks.labels import parse_label, spellings
from bothways.tasks.metrics import Scores
from bothways.tasks.task import TaskName
from bothways.text.fields import fields_of
from bothways.text.reading import Direction
from bothways.text.validation import check_texts
from bothways.training.api import train
from bothways.training.choices import Device, Directions, Size
from bothways.training.start import AUTO, Pretrained

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import Tags, check_array, check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted
except ImportError:
    raise DependencyMissing("bothways.sklearn needs scikit-learn: pip install 'bothways[train]'") from None

_TEXT, _LABEL, _WEIGHT = "text", "label", "weight"
"""Columns of the table that is trained on."""


class _StoredBundle:
    """A bundle on disk and its model, pickled as the content of its files.

    Args:
        path: The directory of the bundle. Defaults to one to create, whose folder is removed when this object is
            collected, or at exit.

    Attributes:
        path: The directory of the bundle.
        model: The model in it.
    """

    model: Classifier

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            folder = tempfile.mkdtemp(prefix="bothways-")
            weakref.finalize(self, _remove, folder, os.getpid())
            path = Path(folder) / "model.bundle"
        self.path = path

    @property
    def files(self) -> dict[str, bytes]:
        """The content of each file of the bundle, by its name.

        Raises:
            BundleMissing: The bundle was removed after it was loaded.
            BundleBroken: The bundle was replaced after it was loaded.
        """
        self._require(read_manifest(self.path).digest)
        return {file.name: file.read_bytes() for file in sorted(self.path.iterdir())}

    def _require(self, digest: str) -> None:
        if digest != self.model.digest:
            raise BundleBroken(f"{self.path} is not the bundle that was loaded: its digest differs. Load it again")

    def __getstate__(self) -> dict[str, Any]:
        return {"digest": self.model.digest, "files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _StoredBundle.__init__(self)
        write_copy(self.path, state["files"])
        self.model = load(self.path)
        self._require(state["digest"])


def _remove(folder: str, process_id: int) -> None:
    if os.getpid() == process_id:  # a forked process has a copy of the owner, but not of the folder
        shutil.rmtree(folder, ignore_errors=True)


class _TextEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the two estimators share."""

    _bundle: _StoredBundle
    _has_probabilities: bool
    """Whether the models of this estimator have probabilities, as classifiers do."""

    def __init__(
        self,
        *,
        pretrained: Pretrained = AUTO,
        size: Size | None = None,
        directions: Directions | Direction = "both",
        config: str | os.PathLike[str] | Mapping[str, object] | None = None,
        unlabeled: TableSource | Sequence[object] | None = None,
        device: Device = "cpu",
        random_state: int | np.integer[Any] | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.pretrained = pretrained
        self.size = size
        self.directions = directions
        self.config = config
        self.unlabeled = unlabeled
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def from_bundle(cls, path: str | os.PathLike[str]) -> Self:
        """Return a fitted estimator with the model of a bundle.

        ``clone`` returns an estimator that is not fitted, as for any other. ``sklearn.frozen.FrozenEstimator`` keeps
        the model in a meta-estimator.

        Args:
            path: The bundle's directory.

        Raises:
            ConfigError: The bundle is a regression and the estimator a classifier, or the other way round.
            BundleError: There is no bundle at the path, or it cannot be read.
        """
        model = load(path)
        if cls._has_probabilities == bool(model.task.no_probabilities):
            right = "TextRegressor" if cls._has_probabilities else "TextClassifier"
            raise ConfigError(f"{os.fspath(path)} holds a {model.task.title}. Use {right}.from_bundle")
        estimator = cls()
        estimator._bundle = _StoredBundle(Path(path).absolute())
        estimator._bundle.model = model
        estimator._read_labels(model)
        return estimator

    def _read_labels(self, model: Classifier) -> None:
        """Set the attributes that depend on the labels of a model."""

    @property
    def model_(self) -> Classifier:
        """The model, as ``bothways.load`` returns it.

        Raises:
            NotFittedError: The estimator is not fitted.
        """
        check_is_fitted(self)
        return self._bundle.model

    @property
    def bundle_(self) -> str:
        """The path of the bundle, which is temporary unless the estimator comes from ``from_bundle``.

        Raises:
            NotFittedError: The estimator is not fitted.
        """
        check_is_fitted(self)
        return str(self._bundle.path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bundle of the fitted model to a new directory.

        ``bothways.load``, ``from_bundle`` and ``bothways serve`` read it.

        Args:
            path: Bundle to create. Must not exist yet.

        Raises:
            NotFittedError: The estimator is not fitted.
            OutputExists: Something is at the path.
            ConfigError: The folder of the path does not exist.
            DataError: The disk is full or cannot be written.
            BundleError: The bundle was removed or replaced after it was loaded by ``from_bundle``.
        """
        check_is_fitted(self)
        write_copy(path, self._bundle.files)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_bundle")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True  # of numbers: texts are validated
        return tags

    def _train(
        self,
        texts: Any,
        targets: Sequence[object],
        sample_weight: Any,
        task: TaskName,
        names: Sequence[str] | None = None,
    ) -> None:
        """Train a bundle in a temporary folder, and keep it.

        Args:
            texts: Texts, or a table of text columns, as ``fit`` gets them.
            targets: The label or value of each text, or its flags if labels have names.
            sample_weight: The weight of each text, (N,), or None.
            task: What the model predicts.
            names: The names of the labels, for multi-label.
        """
        columns = list(open_memory(texts).columns) if hasattr(texts, "columns") else [_TEXT]
        rows = [fields_of(text) for text in check_texts(texts, columns)]
        check_consistent_length(rows, targets, sample_weight)
        table: dict[str, Sequence[object]] = {
            column: [row[number] for row in rows] for number, column in enumerate(columns)
        }
        label, weight = _unused(_LABEL, columns), None
        table[label] = targets
        if sample_weight is not None:
            weights = np.asarray(column_or_1d(sample_weight), dtype=np.float64)
            if not weights.any():
                raise DataError("sample_weight is zero for every text, so nothing would be learned. Leave it out")
            weight = _unused(_WEIGHT, columns)
            table[weight] = weights.tolist()
        bundle = _StoredBundle()
        options: dict[str, Any] = {
            "text": columns,
            "label": label,
            "labels": names,
            "weight": weight,
            "task": task,
            "out": bundle.path,
            "unlabeled": self.unlabeled,
            "pretrained": self.pretrained,
            "size": self.size,
            "directions": self.directions,
            "config": self.config,
            "device": self.device,
            "seed": _seed(self.random_state),
            "progress": self.verbose,
        }
        try:
            bundle.model = train(table, **options)
        except NoBetterThanConstant:
            bundle.model = train(table, **options, force=True)  # publishes what was trained
            warnings.warn(
                "on its validation rows, the model is no better than the same prediction for every text. Fit with more "
                "texts, more epochs or another learning rate in config",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._bundle = bundle


class TextClassifier(ClassifierMixin, _TextEstimator):  # type: ignore[misc]
    """A text classifier with the interface of scikit-learn, for one label or several labels per text.

    ``X`` is a sequence of texts: a list, an array of objects or strings, a Series. A DataFrame is read as one text
    column per column. ``y`` has a class per text, or is an indicator matrix (N, C) for several labels per text. The
    columns of a DataFrame name these labels.

    Pickled with the content of its bundle, so that other processes and machines can use it.

    Args:
        pretrained: The language-model pack to start from, as in ``bothways.train``.
        size: ``tiny``, ``small`` or ``base``, for a model trained from scratch.
        directions: ``both``, ``forward`` or ``backward``.
        config: A TOML file of hyperparameters, or a dict with its sections (docs/hyperparameters.md).
        unlabeled: More texts, for the language models only.
        device: ``cpu`` or ``cuda``.
        random_state: Random seed, 0..4294967295; a ``RandomState`` that draws it; or None, for another one each time.
        verbose: Show progress on standard error.

    Attributes:
        classes_: The classes, sorted, (C,). For several labels per text, the names of the columns of ``y`` in their
            order, or 0 to C - 1.
        bundle_: The path of the bundle.
        model_: The model as ``bothways.load`` returns it.
    """

    _has_probabilities = True
    classes_: NDArray[Any]
    _positions: NDArray[np.intp]
    """The output of the model for each class, (C,)."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  (as in scikit-learn)
        """Train a model. A tenth of the texts is set aside for validation.

        Warns with ``ConvergenceWarning`` if the model is no better than the same prediction for every text.

        Args:
            X: Texts, (N,), or a DataFrame with a text column per column.
            y: A class per text, (N,), or an indicator matrix, (N, C).
            sample_weight: Weight of each text in the training loss, (N,), at least 0. Defaults to equal weights.

        Raises:
            ConfigError: A parameter is invalid.
            DataError: Texts, classes or weights cannot be used.
            ValueError: ``y`` has another shape or holds continuous numbers, or the lengths differ.
            DependencyMissing: The libraries for training are not installed.
            TrainingError: Training diverged, or the bundle could not be verified.
        """
        if type_of_target(y, input_name="y") == "multilabel-indicator":
            flags = np.asarray(y.toarray() if hasattr(y, "toarray") else y).astype(np.int64)
            classes = np.array(list(y.columns)) if hasattr(y, "columns") else np.arange(flags.shape[1])
            self._train(X, flags.tolist(), sample_weight, "multi-label", [str(name) for name in classes])
            self._positions = np.arange(len(classes))
        else:
            check_classification_targets(y)
            classes, numbers_ = np.unique(column_or_1d(y, warn=True), return_inverse=True)
            labels = _label_texts(classes)
            self._train(X, [labels[number] for number in numbers_], sample_weight, "single-label")
            found = self._bundle.model.task.labels
            self._positions = np.array([found.index(label) for label in labels])
        self.classes_ = classes
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the class of each text, (N,), or an indicator matrix, (N, C) int64, if it was fitted with one.

        Args:
            X: Texts, (N,), or a table with the text columns.

        Raises:
            NotFittedError: The estimator is not fitted.
            TextError: ``X`` is a single string, or one of the texts cannot be read.
        """
        probabilities = self.predict_proba(X)
        thresholds = self._bundle.model.task.thresholds
        if thresholds is None:
            return np.asarray(self.classes_[probabilities.argmax(axis=1)])
        return np.asarray(probabilities >= np.array(thresholds)[self._positions], dtype=np.int64)

    def predict_proba(self, X: Any) -> Scores:  # noqa: N803
        """Return the probabilities of each text, (N, C) float64, columns in the order of ``classes_``.

        They are those of ``bothways.Classifier.predict_proba``, bit for bit (guarantee 2).

        Args:
            X: Texts, (N,), or a table with the text columns.

        Raises:
            NotFittedError: The estimator is not fitted.
            TextError: ``X`` is a single string, or one of the texts cannot be read.
        """
        check_is_fitted(self)
        return self._bundle.model.predict_proba(X)[:, self._positions]

    def _read_labels(self, model: Classifier) -> None:
        self.classes_, self._positions = np.array(model.labels), np.arange(len(model.labels))
        if model.task.thresholds is None:  # one class per text: scikit-learn expects sorted classes
            self.classes_, self._positions = np.unique(self.classes_, return_index=True)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class TextRegressor(RegressorMixin, _TextEstimator):  # type: ignore[misc]
    """A regression of texts with the interface of scikit-learn: it predicts a number per text.

    ``X`` is what it is for ``TextClassifier``. Pickled with the content of its bundle.

    Args:
        pretrained: The language-model pack to start from, as in ``bothways.train``.
        size: ``tiny``, ``small`` or ``base``, for a model trained from scratch.
        directions: ``both``, ``forward`` or ``backward``.
        config: A TOML file of hyperparameters, or a dict with its sections (docs/hyperparameters.md).
        unlabeled: More texts, for the language models only.
        device: ``cpu`` or ``cuda``.
        random_state: Random seed, 0..4294967295; a ``RandomState`` that draws it; or None, for another one each time.
        verbose: Show progress on standard error.

    Attributes:
        bundle_: The path of the bundle.
        model_: The model as ``bothways.load`` returns it.
    """

    _has_probabilities = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train a model. A tenth of the texts is set aside for validation.

        Warns with ``ConvergenceWarning`` if the model is no better than the mean of the numbers.

        Args:
            X: Texts, (N,), or a DataFrame with a text column per column.
            y: A number per text, (N,).
            sample_weight: Weight of each text in the training loss, (N,), at least 0. Defaults to equal weights.

        Raises:
            ConfigError: A parameter is invalid.
            DataError: Texts, numbers or weights cannot be used.
            ValueError: ``y`` has several columns or is not finite, or the lengths differ.
            DependencyMissing: The libraries for training are not installed.
            TrainingError: Training diverged, or the bundle could not be verified.
        """
        values = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"), warn=True)
        self._train(X, values.tolist(), sample_weight, "regression")
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the number of each text, (N,) float64, or (N, C) for a bundle with several targets.

        Args:
            X: Texts, (N,), or a table with the text columns.

        Raises:
            NotFittedError: The estimator is not fitted.
            TextError: ``X`` is a single string, or one of the texts cannot be read.
        """
        check_is_fitted(self)
        return np.asarray(self._bundle.model.predict(X), dtype=np.float64)


def _label_texts(classes: NDArray[Any]) -> list[str]:
    """Return the label of each class as a bundle holds it.

    Raises:
        DataError: There is a single class, a class cannot be a label, or two classes are the same label.
    """
    if len(classes) < 2:
        raise DataError(f"y has {len(classes)} class, expected at least 2: {quoted(classes.tolist())}")
    parsed = [parse_label(each) for each in classes.tolist()]
    spelling = spellings(Counter(parsed))
    labels = [spelling[label] for label in parsed]
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(f"several classes of y are the label {quoted(repeated[0])}: they differ in spelling only")
    return labels


def _unused(name: str, columns: Sequence[str]) -> str:
    """Return a name that no column has."""
    while name in columns:
        name += "_"
    return name


def _seed(random_state: int | np.integer[Any] | np.random.RandomState | None) -> int:
    """Return a seed for ``bothways.train``."""
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**32, dtype=np.uint32))
