"""Log bundles as models of MLflow, and load them: ``log_model``, ``save_model`` and ``load_model``.

In: the directory of a bundle. Out: a pyfunc model "from code", which holds the bundle as its artifact and no pickle.
Imported explicitly, because MLflow is not a dependency.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bothways.bundle.parity import ENSEMBLE
from bothways.errors import BundleBroken, ConfigError, DependencyMissing, quoted
from bothways.evaluation.predicted_rows import output_columns
from bothways.runtime.classifier import Classifier, load
from bothways.version import __version__

try:
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo
    from mlflow.pyfunc import PythonModel, PythonModelContext
    from mlflow.types import ColSpec, DataType, Schema
except ImportError:
    raise DependencyMissing("bothways.mlflow needs MLflow: pip install mlflow") from None

_ARTIFACT = "bundle"
_TEXT = "text"
"""The input column of a bundle that does not record its text column."""
_EXAMPLE = "an example of a text"
_TYPES = {str: DataType.string, int: DataType.long, bool: DataType.boolean, float: DataType.double}
_CODE = '''"""A bundle as a model of MLflow. Written by bothways.mlflow."""

import mlflow

from bothways.mlflow import BundleModel

mlflow.models.set_model(BundleModel("{digest}"))
'''


class BundleModel(PythonModel):  # type: ignore[misc]  # MLflow's types are not installed
    """The model that MLflow loads. Its input has the text columns, and its output those of ``bothways predict``.

    Args:
        digest: The digest of the bundle that was logged.

    Attributes:
        model: The model in the bundle, after ``load_context``.
    """

    model: Classifier

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle.

        Raises:
            BundleBroken: The bundle is damaged, or it is not the one that was logged.
        """
        path = context.artifacts[_ARTIFACT]
        self.model = load(path)
        if self.model.digest != self.digest:
            raise BundleBroken(f"{path} is not the bundle that was logged: its digest differs. Log the model again")

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the columns that ``bothways predict`` writes, one row per text.

        Args:
            context: Unused.
            model_input: A table with the text columns.
            params: Unused.

        Raises:
            TextError: A text column is missing, or a text cannot be read.
        """
        del context, params
        texts = model_input if self.model.text_columns else model_input[_TEXT]
        rows = [self.model.task.cells(prediction.scores[ENSEMBLE]) for prediction in self.model.stream(texts)]
        return pd.DataFrame(rows, columns=list(output_columns(self.model)))


def save_model(bundle: str | os.PathLike[str], path: str | os.PathLike[str], **options: Any) -> None:
    """Save a bundle as a model of MLflow in a new directory.

    Args:
        bundle: The bundle's directory.
        path: The directory to create.
        options: Further arguments of ``mlflow.pyfunc.save_model``, such as ``metadata`` or ``pip_requirements``.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
    """
    with _arguments(bundle) as arguments:
        mlflow.pyfunc.save_model(os.fspath(path), **{**arguments, **options})


def log_model(bundle: str | os.PathLike[str], name: str = "model", **options: Any) -> ModelInfo:
    """Log a bundle as a model of MLflow in the current run, and return what MLflow returns about it.

    Args:
        bundle: The bundle's directory.
        name: The name of the model.
        options: Further arguments of ``mlflow.pyfunc.log_model``, such as ``registered_model_name``.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
    """
    with _arguments(bundle) as arguments:
        return mlflow.pyfunc.log_model(name=name, **{**arguments, **options})


def load_model(model_uri: str) -> Classifier:
    """Return the classifier in a model that was logged or saved by this module.

    ``mlflow.pyfunc.load_model`` returns the same model with the interface of MLflow.

    Args:
        model_uri: The place of the model, such as ``models:/reviews/1`` or a directory.

    Raises:
        ConfigError: The model was not logged by this module.
        BundleBroken: The bundle is damaged, or it is not the one that was logged.
    """
    found = mlflow.pyfunc.load_model(model_uri).unwrap_python_model()
    if not isinstance(found, BundleModel):
        raise ConfigError(
            f"{quoted(model_uri)} is not a model that bothways.mlflow logged. Use mlflow.pyfunc.load_model"
        )
    return found.model


@contextmanager
def _arguments(bundle: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the arguments with which MLflow saves a bundle. Their file of code exists within the block."""
    model = load(bundle)
    columns = model.text_columns or (_TEXT,)
    example = pd.DataFrame({column: [_EXAMPLE] for column in columns})
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, column) for column in columns]),
        outputs=Schema([ColSpec(_TYPES[kind], name) for name, kind in output_columns(model).items()]),
    )
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "bundle_model.py"
        code.write_text(_CODE.format(digest=model.digest), encoding="utf-8")
        yield {
            "python_model": str(code),
            "artifacts": {_ARTIFACT: str(Path(bundle).absolute())},
            "signature": signature,
            "input_example": example,
            "pip_requirements": [f"bothways=={__version__}", f"mlflow=={mlflow.__version__}"],
        }
