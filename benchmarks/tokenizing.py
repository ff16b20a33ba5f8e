"""Measure how fast texts become tokens, in tokens per second of CPU time, also by other versions of the sources.

    BOTHWAYS_DATA=... python -m benchmarks.tokenizing [SOURCES ...]

``SOURCES`` are folders that contain the package, such as ``../other/src``. The texts are the first 20,000 paragraphs of
IMDb's reviews. All versions tokenize them in turns, in fresh processes, because other programs may slow the machine
down, and must find the same ids. Printed are the medians and the best of five rounds for the subword tokenizer of the
English pack and for spaCy's English word rules: the first pass over the texts, and the second.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import bothways
from bothways.data.tables import open_table
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V2
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument

PARAGRAPHS = 20_000
ROUNDS = 5
_TOKENIZE = """
import hashlib, json, pathlib, sys, time
from bothways.text.tokenizer_document import parse_tokenizer

texts = json.loads(pathlib.Path(sys.argv[1]).read_text())
tokenizer = parse_tokenizer(pathlib.Path(sys.argv[2]).read_bytes())
found = []
for _ in range(2):
    start = time.process_time()
    tokens = [tokenizer.tokenize(text) for text in texts]
    found.append(sum(map(len, tokens)) / (time.process_time() - start))
print(json.dumps([found, hashlib.sha256(b"".join(each.ids.tobytes() for each in tokens)).hexdigest()]))
"""


def paragraphs() -> list[str]:
    """Return the first paragraphs of IMDb's training reviews."""
    with open_table(str(Path(os.environ["BOTHWAYS_DATA"]) / "imdb" / "train.parquet")) as table:
        reviews = (str(value) for chunk in table.chunks(["text"]) for value in chunk.column("text"))
        parts = itertools.chain.from_iterable(review.split("<br /><br />") for review in reviews)
        return list(itertools.islice(parts, PARAGRAPHS))


def write_tokenizers(folder: Path, texts: list[str]) -> dict[str, Path]:
    """Write the tokenizer of the English pack, and one with spaCy's English rules and the words of the texts."""
    control = FASTAI_CONTROL_TOKENS[FASTAI_V2]
    tables, source = tables_from_spacy("en", control)
    document = WordTokenizerDocument(
        cleaning="fastai-v2", language="en", source=source, tables=tables, vocabulary=list(control)
    )
    words = folder / "words.json"
    words.write_bytes(WordTokenizer(document).adapted(texts).to_bytes())
    return {"subwords": Path(bothways.__file__).parent / "packs" / "en-small" / "tokenizer.json", "words": words}


def main() -> None:
    """Print a table of speeds, one column per version."""
    sources = sys.argv[1:] or [str(Path(__file__).parents[1] / "src")]
    speeds: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        texts, path = paragraphs(), Path(folder) / "texts.json"
        path.write_text(json.dumps(texts))
        for name, tokenizer in write_tokenizers(Path(folder), texts).items():
            ids = set()
            for _, source in itertools.product(range(ROUNDS), sources):
                command = [sys.executable, "-c", _TOKENIZE, str(path), str(tokenizer)]
                environment = {**os.environ, "PYTHONPATH": source}
                result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found, digest = json.loads(result.stdout)
                speeds[name, source].append(found)
                ids.add(digest)
            assert len(ids) == 1, f"{name}: the versions differ in their ids"
    print("thousand tokens/s: median (best)".ljust(34), *sources, sep=" | ")
    for name, number in itertools.product(dict.fromkeys(name for name, _ in speeds), range(2)):
        cells = []
        for source in sources:
            passes = [found[number] / 1e3 for found in speeds[name, source]]
            cells.append(f"{statistics.median(passes):.0f} ({max(passes):.0f})")
        print(f"{name}, {('first pass', 'second pass')[number]}".ljust(34), *cells, sep=" | ")


if __name__ == "__main__":
    main()
