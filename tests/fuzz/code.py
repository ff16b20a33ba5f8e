"""The code that each reader consists of.

It is instrumented for the fuzzer, and a reader's count begins again when it changes.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "bothways"

_JSON = ("strict_json.py", "schema.py")
_TASKS = ("bundle/manifest.py", "tasks/*.py", *_JSON)
_TABLES = ("files.py", "data/table.py", "data/tables.py", "data/dialect.py")
_DELIMITED = (*_TABLES, "data/delimited.py", "data/lines.py")
_OBJECTS = (*_TABLES, "data/json_files.py", "strict_json.py")
_ARROW = (*_TABLES, "data/arrow_files.py")
_EXCEL = (*_TABLES, "data/excel.py", "data/workbook.py")
_PICKLES = ("interop/pickle_reader.py", "interop/torch_file.py", "interop/damaged_file.py")
_WORD_RULES = ("text/word_*.py", "text/splitters.py", "text/piece_*.py", "text/pattern_limits.py")
_EXPORTS = (
    *(*_PICKLES, "interop/*facts.py", "interop/fastai_[!i]*.py", "interop/known_objects.py"),
    *("interop/pickled_spacy.py", *_WORD_RULES, "schema.py"),
)
_ARCHIVES = ("interop/archive.py", "interop/damaged_file.py")
_SIGNATURES = ("bundle/sign*.py", "bundle/regular_file.py", *_JSON)
_PROTOCOL = ("serve/protocols/protocol.py", "serve/protocols/choices.py", *_JSON)
_INFER = ("serve/protocols/open_inference.py", "serve/protocols/tensors.py", *_PROTOCOL)

CODE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pickle", "torch pickle", "torch zip", "torch legacy"), _PICKLES),
    **dict.fromkeys(("fastai 1", "fastai 2"), _EXPORTS),
    **dict.fromkeys(("tar", "tar gz"), _ARCHIVES),
    "manifest": ("bundle/read.py", "bundle/format_1.py", "bundle/regular_file.py", *_TASKS),
    "parity record": ("bundle/parity.py", *_TASKS),
    "weights": ("bundle/weights.py", "strict_json.py"),
    "subword tokenizer": ("text/tokenizer_document.py", "text/subword_tokenizer.py", *_JSON),
    **dict.fromkeys(("word tokenizer", "piece tokenizer"), ("text/tokenizer_document.py", *_WORD_RULES, *_JSON)),
    "sentencepiece": ("interop/sentencepiece_file.py", "text/piece_model.py", "schema.py"),
    **dict.fromkeys(("private key", "public key", "signature"), _SIGNATURES),
    "classify": ("serve/protocols/own.py", *_PROTOCOL),
    "hugging face": ("serve/protocols/hugging_face.py", *_PROTOCOL),
    "embeddings": ("serve/protocols/text_embeddings_inference.py", *_PROTOCOL),
    **dict.fromkeys(
        ("invocations", "invocations csv", "invocations lines"),
        ("serve/protocols/mlflow.py", "serve/protocols/csv_bodies.py", "serve/protocols/media_types.py", *_PROTOCOL),
    ),
    "kserve": ("serve/protocols/kserve.py", "serve/protocols/mlflow.py", *_PROTOCOL),
    **dict.fromkeys(("infer", "infer binary"), _INFER),
    "infer grpc": ("serve/grpc_server.py", "serve/grpc_messages.py", *_INFER),
    "query string": ("serve/protocols/own.py", *_PROTOCOL),
    "hyperparameters": ("toml_file.py", "schema.py", "training/hyperparameters.py"),
    "settings": ("toml_file.py", "schema.py", "serve/settings.py"),
    **dict.fromkeys(("csv", "tsv", "csv gz", "csv bz2", "csv xz", "csv zst", "csv zip"), _DELIMITED),
    **dict.fromkeys(("json", "json lines", "json gz", "json lines gz"), _OBJECTS),
    **dict.fromkeys(("parquet", "arrow"), _ARROW),
    **dict.fromkeys(("excel", "excel sheet", "excel strings", "excel styles"), _EXCEL),
}
"""Per reader, patterns of paths in the package."""
_FUZZED_ALONE = {"fastai 1": _PICKLES, "fastai 2": _PICKLES}
"""Code that another target explores. Without feedback from it, the fuzzer looks for new paths in the rest."""
_LIBRARIES = {
    **dict.fromkeys(("torch zip", "csv zip", "excel"), "zipfile"),
    **dict.fromkeys(("hyperparameters", "settings"), "tomllib"),
}
"""Parts of Python that are instrumented too."""


def files_of(name: str) -> list[Path]:
    """Return the files that a reader consists of."""
    return sorted(path for pattern in CODE[name] for path in SOURCE.glob(pattern))


@cache
def code_of(name: str) -> str:
    """Return a digest of the code that a reader consists of, without comments and formatting."""
    digest = hashlib.sha256()
    for path in files_of(name):
        digest.update(ast.dump(ast.parse(path.read_text(encoding="utf-8"))).encode())
    return digest.hexdigest()[:16]


def instrumented(name: str) -> tuple[list[str], list[str]]:
    """Return the packages to instrument for a reader, and the modules in them to leave out."""
    left_out = {path for pattern in _FUZZED_ALONE.get(name, ()) for path in SOURCE.glob(pattern)}
    wanted = {*files_of(name)} - left_out
    others = [path.relative_to(SOURCE.parent) for path in SOURCE.rglob("*.py") if path not in wanted]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in others]
    return ["bothways", *filter(None, [_LIBRARIES.get(name)])], modules
