"""Train text classifiers that read forward and backward, and ship exactly the model you trained.

::

    import bothways

    bothways.train("reviews.csv", text="review", label="sentiment", out="reviews.bundle")
    model = bothways.load("reviews.bundle")
    model.predict(["what a lovely film"])
"""

import os as _os

# ONNX Runtime from 1.29 on looks up a host of Microsoft and writes a device id into the home directory, unless this is
# set before its first import. No module of this package can be imported before this line has run.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

from bothways.bundle.manifest import Cascade
from bothways.errors import (
    BothwaysError,
    BundleBroken,
    BundleError,
    BundleMissing,
    BundleTooNew,
    ConfigError,
    DataError,
    DependencyMissing,
    DirectionError,
    ForeignModelError,
    OutputExists,
    ShapeError,
    TextError,
    TrainingError,
)
from bothways.interop.direction import DirectionVerdict
from bothways.interop.fastai_import import FastaiImport, ImportedModel, import_fastai, infer_direction
from bothways.interop.onnx_export import OnnxExport, export_onnx
from bothways.runtime.cascade import fit_cascade
from bothways.runtime.classifier import Classifier, Prediction, load
from bothways.runtime.reader import TextReader
from bothways.runtime.verify import Verification, verify
from bothways.text.reading import Direction, MarkerPlacement
from bothways.training.entry import pretrain, train

__all__ = [
    "BothwaysError",
    "BundleBroken",
    "BundleError",
    "BundleMissing",
    "BundleTooNew",
    "Cascade",
    "Classifier",
    "ConfigError",
    "DataError",
    "DependencyMissing",
    "Direction",
    "DirectionError",
    "DirectionVerdict",
    "FastaiImport",
    "ForeignModelError",
    "ImportedModel",
    "MarkerPlacement",
    "OnnxExport",
    "OutputExists",
    "Prediction",
    "ShapeError",
    "TextError",
    "TextReader",
    "TrainingError",
    "Verification",
    "__version__",
    "export_onnx",
    "fit_cascade",
    "import_fastai",
    "infer_direction",
    "load",
    "pretrain",
    "train",
    "verify",
]
