"""Every way by which a stranger's bytes come in: how they are read, and a harmless example of a given size.

The cost tests (``test_costs.py``) and the fuzzers (``tests/fuzz``) both read through these entrances. A new entrance is
one line in ``ENTRANCES``. Each reader does what the product does with the file, up to the point where only checked
values are left.
"""

from __future__ import annotations

import atexit
import bz2
import contextlib
import gzip
import io
import json
import lzma
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf.message import DecodeError
from starlette.datastructures import QueryParams

from bothways.bundle.manifest import MANIFEST_FILE, PARITY_FILE, TOKENIZER_FILE, Kind, Manifest
from bothways.bundle.parity import parse_parity_record
from bothways.bundle.read import read_bundle, read_manifest
from bothways.bundle.signature import SIGNATURE_FILE, check_signature, make_signature, read_signature
from bothways.bundle.weights import member_shapes, read_weights, write_weights
from bothways.bundle.write import write_bundle
from bothways.data.tables import open_table
from bothways.errors import BundleUntrusted
from bothways.interop.fastai_file import open_model
from bothways.interop.learner_facts import Requested
from bothways.interop.sentencepiece_file import read_piece_file
from bothways.interop.torch_file import read_foreign_file
from bothways.runtime.classifier import load
from bothways.serve.grpc_messages import CLASSES
from bothways.serve.grpc_server import GrpcServer
from bothways.serve.protocols import hugging_face, kserve, mlflow, open_inference, own, text_embeddings_inference
from bothways.serve.protocols.choices import choices_in_query
from bothways.serve.protocols.protocol import Protocol, RawRequest
from bothways.serve.service import Service
from bothways.serve.settings import Settings, read_settings
from bothways.text.tokenizer_document import parse_tokenizer
from bothways.toml_file import LARGEST_FILE_BYTES
from bothways.training.hyperparameters import load_hyperparameters
from tests.hostile import foreign_files as foreign
from tests.hostile.table_files import plain_workbook, zipped, zstandard
from tests.pieces import NORMAL, UNKNOWN, made, make_piece_tokenizer
from tests.unit.interop.exports import vocabulary
from tests.words import make_word_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "topics.bundle"


@dataclass(frozen=True)
class Entrance:
    """A way in for a stranger's file.

    Attributes:
        file_name: Name of the file. Its suffix decides how some readers read it.
        read: Reads the file at a path as the product does.
        benign: Returns a harmless file of about so many bytes.
        beside: Files that must lie in the same folder, by name.
    """

    file_name: str
    read: Callable[[Path], object]
    benign: Callable[[int], bytes]
    beside: Mapping[str, bytes] | None = None

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Yield the path where a file of this kind can be written, in a temporary folder in memory."""
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            for name, content in (self.beside or {}).items():
                Path(folder, name).write_bytes(content)
            yield Path(folder, self.file_name)


# Models of other libraries


def _open_export(path: Path) -> object:
    requested = Requested(task="single-label", labels=foreign.LABELS, language="en")
    return open_model(str(path), requested=requested)


def _words(size: int) -> list[str]:
    return [f"word{number}" for number in range(size // 15)]


def _weights(size: int) -> dict[str, Any]:
    return dict(foreign.tiny_state(words=20 + size // 16))


def _archive(size: int, mode: str) -> bytes:
    words = vocabulary(1, _words(size // 2))
    weights = foreign.torch_zip(dict(foreign.tiny_state(words=len(words))))
    return foreign.tar({"x.pth": weights, "x.pkl": foreign.pickled(words)}, mode)


# Bundles


@cache
def _golden() -> Path:
    """Return a bundle of the present format, with the content of the golden one."""
    read, path = read_bundle(GOLDEN, Kind.CLASSIFIER), Path(tempfile.mkdtemp(), "topics.bundle")
    write_bundle(
        path,
        task=read.manifest.decisions,
        members=read.manifest.members,
        weights=read.weights,
        tokenizer=read.tokenizer,
        parity_record=read.parity_record,
        training=read.manifest.training,
        verify=lambda _: None,
    )
    atexit.register(shutil.rmtree, path.parent)
    return path


@cache
def _manifest() -> Manifest:
    return read_manifest(_golden())


def _read_parity(path: Path) -> object:
    return parse_parity_record(path.read_bytes(), _manifest(), str(path))


def _read_weights(path: Path) -> object:
    return read_weights(path.read_bytes(), member_shapes(_manifest().members[0], _manifest().outputs), str(path))


def _benign_manifest(_: int) -> bytes:
    return (_golden() / MANIFEST_FILE).read_bytes()


def golden_parity() -> bytes:
    """Return the parity record of the golden bundle, which has another file name in format 1."""
    found = [GOLDEN / name for name in (PARITY_FILE, "proof.jsonl") if (GOLDEN / name).exists()]
    return found[0].read_bytes()


def _benign_parity(size: int) -> bytes:
    content = (_golden() / PARITY_FILE).read_bytes()
    return content * max(1, size // len(content))


def _benign_weights(_: int) -> bytes:
    shapes = member_shapes(_manifest().members[0], _manifest().outputs)
    return write_weights({name: np.ones(shape, np.float32) for name, shape in shapes.items()})


def _benign_subwords(size: int) -> bytes:
    document = json.loads((GOLDEN / TOKENIZER_FILE).read_bytes())
    document["pieces"] += [[f"▁x{number}", -20.5] for number in range(size // 25)]
    return json.dumps(document).encode()


def _benign_pieces(size: int) -> bytes:
    pieces = [("<unk>", 0.0, UNKNOWN), *((f"▁x{number}", -20.5, NORMAL) for number in range(size // 25))]
    return made([*pieces, ("▁", -1.0, NORMAL)])


def _benign_piece_words(size: int) -> bytes:
    document = json.loads(make_piece_tokenizer("fastai-v2").to_bytes())
    document["sentencepiece"]["pieces"] += [[f"▁x{number}", -20.5] for number in range(size // 25)]
    return json.dumps(document, ensure_ascii=False).encode()


def _benign_words(size: int) -> bytes:
    document = json.loads(make_word_tokenizer("fastai-v1").to_bytes())
    document["vocabulary"] += _words(size)
    return json.dumps(document).encode()


# Signatures


@cache
def _keys() -> tuple[bytes, bytes]:
    """Return a private and a public key."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _check_with(path: Path) -> object:
    """Check the signature of a bundle without one, which is refused when the key was read."""
    with contextlib.suppress(BundleUntrusted):
        check_signature(_golden(), "0" * 64, path)
    return None


def _benign_signature(_: int) -> bytes:
    return json.dumps({"algorithm": "ed25519", "public_key": "0" * 64, "signature": "0" * 128}).encode()


# Requests


@cache
def _service() -> Service:
    served = SimpleNamespace(name="topics", model=load(GOLDEN))
    settings = Settings(max_texts=10**6)
    return cast("Service", SimpleNamespace(model=lambda *_: served, models=[served], settings=settings))


def _request(protocol: Protocol, headers: Mapping[str, str], path: Path) -> object:
    return protocol.parse(RawRequest(path.read_bytes(), headers, {"model": "topics"}), _service())


def _json_request(make: Callable[[list[str]], object]) -> Callable[[int], bytes]:
    return lambda size: json.dumps(make(["a lovely film"] * max(1, size // 17))).encode()


def _request_with_binary(path: Path) -> object:
    """Read a request of the Open Inference Protocol whose first line is its JSON. Raw bytes follow."""
    body = path.read_bytes()
    length = str(len(body) - len(body.partition(b"\n")[2]))
    headers = {"inference-header-content-length": length}
    return open_inference.PROTOCOL.parse(RawRequest(body, headers, {"model": "topics"}), _service())


def _binary_infer(size: int) -> bytes:
    texts = [b"a lovely film"] * max(1, size // 17)
    raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    return json.dumps({"inputs": [tensor]}).encode() + b"\n" + raw


def _request_over_grpc(path: Path) -> object:
    try:
        message = CLASSES["ModelInferRequest"].FromString(path.read_bytes())
    except DecodeError:
        return None  # grpc refuses it
    return GrpcServer._parsed(cast("GrpcServer", SimpleNamespace(_service=_service())), message)


def _grpc_infer(size: int) -> bytes:
    texts = [b"a lovely film"] * max(1, size // 15)
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "contents": {"bytes_contents": texts}}
    data: bytes = CLASSES["ModelInferRequest"](model_name="topics", inputs=[tensor]).SerializeToString()
    return data


def _read_query(path: Path) -> object:
    query = QueryParams(path.read_bytes())
    choices = choices_in_query(query.multi_items(), own.PROTOCOL.choices)
    assert own.PROTOCOL.lines is not None
    return own.PROTOCOL.lines.renderer(choices, _service().model())


def _query(size: int) -> bytes:
    return b"top_k=2&probabilities=forward,ensemble&tokens=true" + b"&unknown=1" * (size // 10)


def _requests(protocol: Protocol, make: Callable[[list[str]], object], **headers: str) -> Entrance:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Entrance("body", partial(_request, protocol, names), _json_request(make))


def _infer(texts: list[str]) -> object:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}


# Tables


def _read_table(path: Path) -> object:
    with open_table(str(path)) as table:
        return sum(len(chunk) for chunk in table.chunks())


def _comments(size: int) -> bytes:
    return b"# comment\n" * (min(size, LARGEST_FILE_BYTES) // 10)


def _json_strings(size: int) -> bytes:
    return b'"a lovely film"\n' * max(1, size // 16)


def _csv_body(size: int) -> bytes:
    return b"text\n" + b"a lovely film\n" * (size // 14)


def _delimited(delimiter: str) -> Callable[[int], bytes]:
    row = f'pos{delimiter}"a lovely, long film"\n'
    return lambda size: (f"label{delimiter}text\n" + row * (size // len(row))).encode()


def _json_lines(size: int) -> bytes:
    row = '{"label": "pos", "text": "a lovely film"}\n'
    return (row * max(1, size // len(row))).encode()


def _json(size: int) -> bytes:
    return b"[" + b",".join(_json_lines(size).splitlines()) + b"]"


def _arrow_table(size: int) -> Any:
    texts = [f"{number} a lovely film" for number in range(max(1, size // 12))]
    return pyarrow.table({"label": ["pos"] * len(texts), "text": texts})


def _parquet(size: int) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(_arrow_table(size), file)
    return file.getvalue()


def _arrow(size: int) -> bytes:
    file, table = io.BytesIO(), _arrow_table(size)
    with pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _rows(size: int) -> bytes:
    return b"label,text\n" + b"".join(b"pos,%x\n" % (number * 7919**3) for number in range(max(1, size // 6)))


def _objects(size: int) -> bytes:
    rows = (b'{"label":"pos","text":"%x"}' % (number * 7919**3) for number in range(max(1, size // 8)))
    return b"[" + b",".join(rows) + b"]"


ENTRANCES: dict[str, Entrance] = {
    # Models of other libraries
    "pickle": Entrance("x.pkl", read_foreign_file, lambda size: foreign.pickled(_words(size))),
    "torch zip": Entrance("x.pth", read_foreign_file, lambda size: foreign.torch_zip(_weights(size))),
    "torch legacy": Entrance("x.pth", read_foreign_file, lambda size: foreign.torch_legacy(_weights(size))),
    "fastai 1": Entrance("x.pkl", _open_export, lambda size: foreign.pickled(foreign.export_v1(size // 30))),
    "fastai 2": Entrance("x.pkl", _open_export, lambda size: foreign.pickled(foreign.export_v2(size // 40))),
    "sentencepiece": Entrance("spm.model", read_piece_file, _benign_pieces),
    "tar": Entrance("x.tar", _open_export, partial(_archive, mode="w")),
    "tar gz": Entrance("x.tgz", _open_export, partial(_archive, mode="w:gz")),
    # Bundles
    "manifest": Entrance(MANIFEST_FILE, lambda path: read_manifest(path.parent), _benign_manifest),
    "parity record": Entrance(PARITY_FILE, _read_parity, _benign_parity),
    "subword tokenizer": Entrance(TOKENIZER_FILE, lambda path: parse_tokenizer(path.read_bytes()), _benign_subwords),
    "word tokenizer": Entrance(TOKENIZER_FILE, lambda path: parse_tokenizer(path.read_bytes()), _benign_words),
    "piece tokenizer": Entrance(TOKENIZER_FILE, lambda path: parse_tokenizer(path.read_bytes()), _benign_piece_words),
    "weights": Entrance("forward.safetensors", _read_weights, _benign_weights),
    # Signatures
    "private key": Entrance("private.pem", partial(make_signature, "0" * 64), lambda _: _keys()[0]),
    "public key": Entrance("public.pem", _check_with, lambda _: _keys()[1]),
    "signature": Entrance(SIGNATURE_FILE, lambda path: read_signature(path.parent), _benign_signature),
    # Requests
    "classify": _requests(own.PROTOCOL, lambda texts: {"texts": texts}),
    "hugging face": _requests(hugging_face.PROTOCOL, lambda texts: {"inputs": texts}),
    "embeddings": _requests(text_embeddings_inference.PROTOCOL, lambda texts: {"inputs": [[text] for text in texts]}),
    "invocations": _requests(mlflow.PROTOCOL, lambda texts: {"instances": texts}),
    "invocations csv": Entrance("body", partial(_request, mlflow.PROTOCOL, {"content-type": "text/csv"}), _csv_body),
    "invocations lines": Entrance(
        "body", partial(_request, mlflow.PROTOCOL, {"content-type": "application/jsonlines"}), _json_strings
    ),
    "kserve": _requests(kserve.PROTOCOL, lambda texts: {"instances": texts}),
    "infer": _requests(open_inference.PROTOCOL, _infer),
    "infer binary": Entrance("body", _request_with_binary, _binary_infer),
    "infer grpc": Entrance("body", _request_over_grpc, _grpc_infer),
    "query string": Entrance("query", _read_query, _query),
    # Configuration
    "hyperparameters": Entrance("x.toml", partial(load_hyperparameters, "tiny"), _comments),
    "settings": Entrance("x.toml", lambda path: read_settings({}, path, {}), _comments),
    # Tables
    "csv": Entrance("x.csv", _read_table, _delimited(",")),
    "tsv": Entrance("x.tsv", _read_table, _delimited("\t")),
    "json lines": Entrance("x.jsonl", _read_table, _json_lines),
    "json": Entrance("x.json", _read_table, _json),
    "arrow": Entrance("x.arrow", _read_table, _arrow),
    "parquet": Entrance("x.parquet", _read_table, _parquet),
    "excel": Entrance("x.xlsx", _read_table, plain_workbook),
    "csv gz": Entrance("x.csv.gz", _read_table, lambda size: gzip.compress(_rows(size))),
    "csv bz2": Entrance("x.csv.bz2", _read_table, lambda size: bz2.compress(_rows(size))),
    "csv xz": Entrance("x.csv.xz", _read_table, lambda size: lzma.compress(_rows(size), preset=0)),
    "csv zst": Entrance("x.csv.zst", _read_table, lambda size: zstandard(_rows(size))),
    "csv zip": Entrance("x.csv.zip", _read_table, lambda size: zipped({"x.csv": _rows(size)})),
    "json gz": Entrance("x.json.gz", _read_table, lambda size: gzip.compress(_objects(size))),
    "json lines gz": Entrance("x.jsonl.gz", _read_table, lambda size: gzip.compress(_json_lines(size))),
}  # fmt: skip
