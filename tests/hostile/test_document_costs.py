"""D1: documents and requests of a hostile shape cost no more than their size allows, and are refused in one line.

The bounds are those of ``test_costs.py``. Each case is a document of a megabyte, of JSON or TOML, that has very many
values, keys, levels or faults.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from bothways.bundle.format_1 import upgraded
from bothways.bundle.manifest import FORMAT, MANIFEST_FILE, TOKENIZER_FILE, digest_of
from tests.hostile.entrances import ENTRANCES, GOLDEN, golden_parity
from tests.hostile.measure import Measurer, measurer
from tests.pieces import make_piece_tokenizer
from tests.words import make_word_tokenizer

MB = 1_000_000
JSON_REQUESTS = ("classify", "hugging face", "embeddings", "invocations", "infer")
Content = Callable[[], str | bytes]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measurer]:
    with measurer(tmp_path_factory.mktemp("cost")) as opened:
        yield opened


def elements(item: str, size: int = MB) -> str:
    """Return a JSON list of equal items."""
    return f"[{','.join([item] * (size // (len(item.encode()) + 1)))}]"


def keys(value: str, size: int = MB) -> str:
    """Return a JSON object with many keys."""
    return "{" + ",".join(f'"{n:x}":{value}' for n in range(size // (9 + len(value)))) + "}"


def changed(document: bytes, **values: str) -> bytes:
    """Return a JSON object with keys set to values that are given as JSON."""
    fields = {name: json.dumps(value) for name, value in json.loads(document).items()}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in (fields | values).items()) + "}").encode()


@cache
def fields_of_manifest() -> dict[str, object]:
    fields = json.loads((GOLDEN / MANIFEST_FILE).read_bytes())
    return upgraded(fields, "") | {"format": FORMAT} if fields["format"] == 1 else fields


def manifest(**values: str) -> bytes:
    """Return a manifest with keys set to values that are given as JSON, and with the digest of its own content."""
    document = changed(json.dumps(fields_of_manifest()).encode(), **values)
    with contextlib.suppress(ValueError, RecursionError):  # nested too deeply for any digest
        digest = digest_of(json.loads(document))
        return document.replace(b'"digest":""', f'"digest":"{digest}"'.encode())
    return document


def parity(**values: str) -> bytes:
    return changed(golden_parity().splitlines()[0], **values)


def subwords(**values: str) -> bytes:
    return changed((GOLDEN / TOKENIZER_FILE).read_bytes(), **values)


def words(**values: str) -> bytes:
    return changed(make_word_tokenizer("fastai-v1").to_bytes(), **values)


def pieces(**values: str) -> bytes:
    document = json.loads(make_piece_tokenizer("fastai-v2").to_bytes())
    model = changed(json.dumps(document["sentencepiece"]).encode(), **values).decode()
    return changed(json.dumps(document).encode(), sentencepiece=model)


def tables(**values: str) -> bytes:
    document = json.loads(make_word_tokenizer("fastai-v1").to_bytes())
    return words(tables=changed(json.dumps(document["tables"]).encode(), **values).decode())


def pattern(name: str, part: str, count: int = 0, flags: int = 32) -> Content:
    """Return a word tokenizer with a pattern of so many equal parts, a megabyte of them by default."""
    text = json.dumps({"pattern": part * (count or MB // len(part)), "flags": flags}, ensure_ascii=False)
    return lambda: tables(**{name: text})


def header(content: str) -> bytes:
    """Return a safetensors file with a header and no weights."""
    return len(content.encode()).to_bytes(8, "little") + content.encode()


def training(**values: str) -> bytes:
    record = fields_of_manifest()["training"]
    return manifest(training=changed(json.dumps(record).encode(), **values).decode())


def split(columns: str = '["a"]', data: str = "[]") -> str:
    return f'{{"dataframe_split":{{"columns":{columns},"data":{data}}}}}'


def tensor(**values: str) -> bytes:
    fields = {"name": '"text"', "shape": "[1]", "datatype": '"BYTES"', "data": '["a"]'} | values
    return ('{"inputs":[{' + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}]}").encode()


LONG_PIECES = json.dumps([[f"{n:05x}" + "".join(chr(97 + (n * k) % 26) for k in range(40)), -1] for n in range(20_000)])

DOCUMENTS: list[tuple[str, str, Content]] = [
    ("manifest", "unknown keys", lambda: manifest(**json.loads(keys('"1"')))),
    ("manifest", "labels that are numbers", lambda: manifest(labels=elements("1"))),
    ("manifest", "labels that are lists", lambda: manifest(labels=elements("[]"))),
    ("manifest", "members", lambda: manifest(members=elements("{}"))),
    ("manifest", "files", lambda: manifest(files=keys("{}"))),
    ("manifest", "rows", lambda: training(rows=keys('""'))),
    ("manifest", "validation", lambda: training(validation=f'{{"a":{keys("[]")}}}')),
    ("manifest", "validation of nothing", lambda: training(validation=keys("{}"))),
    ("manifest", "hyperparameters of lists", lambda: training(hyperparameters=f'{{"a":{elements("[]")}}}')),
    ("manifest", "hyperparameters of objects", lambda: training(hyperparameters=f'{{"a":{elements("{}")}}}')),
    ("manifest", "nested hyperparameters", lambda: training(hyperparameters='{"a":' * 300 + "1" + "}" * 300)),
    ("manifest", "thresholds", lambda: manifest(thresholds=elements("9"))),
    ("parity record", "ids that are text", lambda: parity(ids=elements('""'))),
    (
        "parity record",
        "probabilities that are text",
        lambda: parity(probabilities=f'{{"ensemble":{keys(chr(34) * 2)}}}'),
    ),
    ("parity record", "probabilities by unknown names", lambda: parity(probabilities=keys("{}"))),
    ("parity record", "unknown keys", lambda: parity(**json.loads(keys('"1"')))),
    ("parity record", "empty lines", lambda: b"\n" * MB),
    ("parity record", "rows without keys", lambda: b"{}\n" * (MB // 3)),
    ("subword tokenizer", "pieces that are lists", lambda: subwords(pieces=elements("[]"))),
    ("subword tokenizer", "pieces of the wrong types", lambda: subwords(pieces=elements('[1,""]'))),
    ("subword tokenizer", "equal pieces", lambda: subwords(pieces=elements('["a",1]'))),
    ("subword tokenizer", "long pieces", lambda: subwords(pieces=LONG_PIECES)),
    ("subword tokenizer", "control tokens", lambda: subwords(control_tokens=elements("1"))),
    ("subword tokenizer", "unknown keys", lambda: subwords(**json.loads(keys('"1"')))),
    ("piece tokenizer", "pieces that are lists", lambda: pieces(pieces=elements("[]"))),
    ("piece tokenizer", "equal pieces", lambda: pieces(pieces=elements('["a",-1]'))),
    ("piece tokenizer", "long pieces", lambda: pieces(pieces=LONG_PIECES)),
    ("piece tokenizer", "positions", lambda: pieces(control=elements("1"))),
    ("piece tokenizer", "replacements", lambda: pieces(replacements=elements('[["a"],"b","c"]'))),
    ("piece tokenizer", "prefixes", lambda: pieces(replacements=f'[[{elements(chr(34) + "a" + chr(34))},"b","c"]]')),
    (
        "piece tokenizer",
        "last characters",
        lambda: pieces(replacements=f'[[["a"],"{"b" * (MB // 2)}","{"c" * (MB // 2)}"]]'),
    ),
    (
        "piece tokenizer",
        "replacements by nothing",
        lambda: pieces(replacements=f'[[["a"],"{"b" * (MB // 4)}",{elements(chr(34) * 2, 3 * MB // 4)}]]'),
    ),
    ("piece tokenizer", "unknown keys", lambda: pieces(**json.loads(keys('"1"')))),
    ("word tokenizer", "words that are numbers", lambda: words(vocabulary=elements("1"))),
    ("word tokenizer", "exceptions that are text", lambda: tables(exceptions=keys('""'))),
    ("word tokenizer", "exceptions of numbers", lambda: tables(exceptions=keys("[1]"))),
    ("word tokenizer", "one exception of numbers", lambda: tables(exceptions=f'{{"a":{elements("1")}}}')),
    ("word tokenizer", "unknown keys", lambda: tables(**json.loads(keys('"1"')))),
    *(
        ("word tokenizer", f"a megabyte of {part}", pattern("token_match", part))
        for part in ("a", "a|", "a*", "[a]", "(?=a)", "[", "(", "(a+)+$")
    ),
    ("word tokenizer", "wide classes", pattern("token_match", "[\0-\uffff]", 380, 34)),
    ("word tokenizer", "wide classes beside letters", pattern("token_match", f"[a-{'b' * 1000}\uf000]", 400, 34)),
    ("word tokenizer", "narrow classes", pattern("token_match", "[a-z]", 1_900, 34)),
    ("word tokenizer", "letters", pattern("token_match", "a", 9_900)),
    ("word tokenizer", "alternatives", pattern("suffix", "a$|", 3_300)),
    ("word tokenizer", "counted repeats", pattern("token_match", "a{9000}", 1)),
    ("word tokenizer", "nested counted repeats", pattern("token_match", "((a{90}){90}){90}", 1)),
    ("word tokenizer", "many ways", pattern("token_match", "(?:ab|cd|ef|[a-f]{3})?", 30)),
    ("word tokenizer", "many different parts", pattern("suffix", "".join(map(chr, range(0x4E00, 0x7000))), 1)),
    ("weights", "tensors", lambda: header(keys("{}"))),
    ("weights", "a shape", lambda: header(f'{{"encoder.embedding":{{"dtype":"F32","shape":{elements("1")}}}}}')),
    ("weights", "types", lambda: header(f'{{"encoder.embedding":{{"dtype":{elements("[]")},"shape":[]}}}}')),
    ("weights", "metadata", lambda: header(f'{{"__metadata__":{keys(chr(34) * 2)}}}')),
    *((name, "lists", lambda: elements("[]")) for name in ("manifest", "subword tokenizer", "weights")),
    *((name, "nested", lambda: b"[" * MB) for name in ("manifest", "parity record", "subword tokenizer")),
]

REQUESTS: list[tuple[str, str, Content]] = [
    *((name, "a list", lambda: elements("1")) for name in JSON_REQUESTS),
    *((name, "keys", lambda: keys("1")) for name in JSON_REQUESTS),
    *((name, "equal keys", lambda: ("{" + '"a":1,' * (MB // 6) + '"a":1}')) for name in JSON_REQUESTS),
    *((name, "nested", lambda: b"[" * (MB)) for name in JSON_REQUESTS),
    ("classify", "probabilities", lambda: f'{{"texts":[],"probabilities":{elements("1")}}}'),
    ("classify", "texts that are lists", lambda: f'{{"texts":{elements("[]")}}}'),
    ("classify", "texts that are objects", lambda: f'{{"texts":{elements("{}")}}}'),
    ("classify", "one text that is a list", lambda: f'{{"texts":[{elements("[]")}]}}'),
    ("hugging face", "options", lambda: f'{{"inputs":"a","options":{keys("1")}}}'),
    ("hugging face", "parameters", lambda: f'{{"inputs":"a","parameters":{keys("1")}}}'),
    ("embeddings", "pairs", lambda: f'{{"inputs":{elements("[1,2]")}}}'),
    ("invocations", "records that are numbers", lambda: f'{{"dataframe_records":{elements("1")}}}'),
    ("invocations", "columns", lambda: split(columns=elements("1"))),
    ("invocations", "rows", lambda: split(data=elements("1"))),
    ("invocations", "input columns", lambda: f'{{"inputs":{keys("1")}}}'),
    ("invocations csv", "rows", lambda: b"text\n" + b"a\n" * (MB // 2)),
    ("invocations csv", "empty rows", lambda: b"\n" * (MB)),
    ("invocations csv", "fields", lambda: b"," * (MB)),
    ("invocations csv", "quotes", lambda: b'text\n"' * (MB // 6)),
    ("infer", "inputs", lambda: f'{{"inputs":{elements("{}")}}}'),
    ("infer", "inputs that are numbers", lambda: f'{{"inputs":{elements("1")}}}'),
    ("infer", "a shape", lambda: tensor(shape=elements("1"))),
    ("infer", "a shape of text", lambda: tensor(shape=elements('""'))),
    ("infer", "data", lambda: tensor(data=elements("[1]"))),
    ("infer", "parameters", lambda: tensor(parameters=keys("1"))),
]  # fmt: skip

TOML_SIZE = 190_000  # larger files are refused
SETTINGS: list[tuple[str, str, Content]] = [
    case
    for name in ("hyperparameters", "settings")
    for case in (
        (name, "keys", lambda: b"".join(b"k%d=1\n" % n for n in range(15_000))),
        (name, "tables", lambda: b"".join(b"[k%d]\n" % n for n in range(15_000))),
        (name, "dotted keys", lambda: b"a" + b".a" * 95_000 + b"=1"),
        (name, "nested lists", lambda: b"a=" + b"[" * TOML_SIZE),
        (name, "nested tables", lambda: b"a=" + b"{a=" * (TOML_SIZE // 3)),
        (name, "a list", lambda: b"a=[" + b"[]," * (TOML_SIZE // 3) + b"]"),
        (name, "quotes", lambda: b'a="""' + b'""\\"' * (TOML_SIZE // 4)),
        (name, "a long key", lambda: b"a" * TOML_SIZE + b"=1"),
        (name, "a long number", lambda: b"a=" + b"1" * TOML_SIZE),
        (name, "short dotted keys", lambda: b"".join(b"a%d.a.a.a.a.a.a=1\n" % n for n in range(9_000))),
        (name, "a large file", lambda: b"#" * MB),
        (name, "a long line", lambda: b"[classifier]\nepochs=" + b"'" + b"1" * TOML_SIZE + b"'"),
        (name, "array tables", lambda: b"[[a]]\n" * (TOML_SIZE // 6)),
        (name, "nested array tables", lambda: b"".join(b"[[" + b".".join([b"a"] * n) + b"]]\n" for n in range(1, 400))),
    )
]


def cases(rows: list[tuple[str, str, Content]]) -> list[object]:
    return [pytest.param(entrance, content, id=f"{entrance}: {name}") for entrance, name, content in rows]


@pytest.mark.parametrize(("entrance", "content"), cases([*DOCUMENTS, *REQUESTS, *SETTINGS]))
def test_d1_a_hostile_document_costs_no_more_than_its_size_allows(
    measure: Measurer, entrance: str, content: Content
) -> None:
    assert entrance in ENTRANCES
    document = content()
    measure.cost(entrance, document.encode() if isinstance(document, str) else document).check()
