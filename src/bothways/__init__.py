"""Train text classifiers that read forward and backward, and ship exactly the model you trained.

::

    import bothways

    bothways.train("reviews.csv", text="review", label="sentiment", out="reviews.bundle")
    model = bothways.load("reviews.bundle")  # predicting needs no torch
    model.predict(["what a lovely film"])

All errors raised on purpose derive from ``BothwaysError``, see ``bothways.errors``.
"""

import os as _os

# Without this variable, ONNX Runtime 1.29 and later resolves a Microsoft host and writes a device id into the home
# directory. It must be set before onnxruntime is first imported, and no module of this package is imported before it.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from bothways.processes import handle_signals_while_starting as _handle_signals_while_starting

_handle_signals_while_starting()

from bothways.bundle.manifest import Abstention, EarlyExit
from bothways.bundle.packs import Pack, download_pack, list_packs
from bothways.bundle.push import push_to_hub
from bothways.bundle.sign import sign
from bothways.bundle.signature import Signature
from bothways.errors import (
    AddressUnusable,
    BothwaysError,
    BundleBroken,
    BundleError,
    BundleMissing,
    BundleTooNew,
    BundleUntrusted,
    ConfigError,
    DataError,
    DependencyMissing,
    DirectionError,
    ForeignModelError,
    HubError,
    NoBetterThanConstant,
    OutputExists,
    ShapeError,
    TextError,
    TrainingDiverged,
    TrainingError,
    WorseThanBefore,
)
from bothways.evaluation.abstention import fit_abstention
from bothways.evaluation.benchmark import Benchmark, SpeedResult, benchmark
from bothways.evaluation.drift import Drift, drift
from bothways.evaluation.early_exit import fit_early_exit
from bothways.evaluation.evaluate import Evaluation, evaluate
from bothways.evaluation.label_next import NextText, label_next
from bothways.evaluation.precision import PrecisionComparison, compare_precision
from bothways.evaluation.report.numbers import Report
from bothways.evaluation.report.report import report
from bothways.evaluation.score import score
from bothways.evaluation.shards import FilesProgress, ScoredFiles, score_files
from bothways.interop.direction import DirectionVerdict
from bothways.interop.fastai_import import FastaiImport, ImportedModel, import_fastai, infer_direction
from bothways.interop.onnx_export import OnnxExport, export_onnx
from bothways.runtime.classifier import Classifier, load
from bothways.runtime.explanation import ExplainedWord, Explanation
from bothways.runtime.prediction import Prediction
from bothways.runtime.reader import TextReader
from bothways.runtime.verify import Verification, verify
from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.training.api import pretrain, train
from bothways.training.audit import Audit, Confusion, Finding, audit
from bothways.training.cross_validation import CrossValidation, cross_validate
from bothways.training.distill import distill
from bothways.training.lr_find import lr_find
from bothways.training.range_test import LearningRateCurve
from bothways.training.tune import Tuning, tune
from bothways.training.update import Update, update
from bothways.version import __version__

__all__ = [
    "Abstention",
    "AddressUnusable",
    "Audit",
    "Benchmark",
    "BothwaysError",
    "BundleBroken",
    "BundleError",
    "BundleMissing",
    "BundleTooNew",
    "BundleUntrusted",
    "Classifier",
    "ConfigError",
    "Confusion",
    "CrossValidation",
    "DataError",
    "DependencyMissing",
    "Direction",
    "DirectionError",
    "DirectionVerdict",
    "Drift",
    "EarlyExit",
    "Evaluation",
    "ExplainedWord",
    "Explanation",
    "FastaiImport",
    "FilesProgress",
    "Finding",
    "ForeignModelError",
    "HubError",
    "ImportedModel",
    "LearningRateCurve",
    "NextText",
    "NoBetterThanConstant",
    "OnnxExport",
    "OutputExists",
    "Pack",
    "PrecisionComparison",
    "Prediction",
    "Report",
    "ScoredFiles",
    "ShapeError",
    "Signature",
    "SpecialTokenPlacement",
    "SpeedResult",
    "TextError",
    "TextReader",
    "TrainingDiverged",
    "TrainingError",
    "Tuning",
    "Update",
    "Verification",
    "WorseThanBefore",
    "__version__",
    "audit",
    "benchmark",
    "compare_precision",
    "cross_validate",
    "distill",
    "download_pack",
    "drift",
    "evaluate",
    "export_onnx",
    "fit_abstention",
    "fit_early_exit",
    "import_fastai",
    "infer_direction",
    "label_next",
    "list_packs",
    "load",
    "lr_find",
    "pretrain",
    "push_to_hub",
    "report",
    "score",
    "score_files",
    "sign",
    "train",
    "tune",
    "update",
    "verify",
]
