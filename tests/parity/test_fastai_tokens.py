"""The ids of texts are those of the real fastai, on real texts, on drawn ones and on nasty ones.

The real fastai, in the environment that ``make oracle`` makes, tokenizes the texts, makes a vocabulary of them by
its own rule and looks their words up. Ours gets the vocabulary, and spaCy's tables as an import takes them.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bothways.interop.fastai_learner import without_fillers
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text.fastai_cleaning import CONTROL_TOKENS
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument
from tests.parity.nasty_texts import NASTY_TEXTS

ROOT = Path(__file__).parents[2]
ORACLE = Path(os.environ.get("BOTHWAYS_ORACLE", ROOT / ".oracle"))

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not ORACLE.exists(), reason="no .oracle: make oracle makes it with the real fastai"),
]
needs_real_texts = pytest.mark.skipif(
    "BOTHWAYS_DATA" not in os.environ, reason="BOTHWAYS_DATA is not set: no real data sets"
)

REVIEWS = 12_000
DRAWN_TEXTS = 3_000


def compare(version: str, language: str, texts: list[str], folder: Path) -> int:
    """Compare every text's ids with the real fastai's; give how many tokens that were."""
    (folder / "texts.json").write_text(json.dumps(texts), encoding="ascii")
    files = [str(folder / name) for name in ("texts.json", "ids.json")]
    command = [str(ORACLE / "bin" / "python"), str(ROOT / "oracle" / "tokens.py"), version, language, *files]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stderr
    theirs = json.loads((folder / "ids.json").read_bytes())
    vocabulary = theirs["vocabulary"] if version == "1" else without_fillers(theirs["vocabulary"])
    ours = word_tokenizer(version, language, vocabulary)
    assert len(theirs["ids"]) == len(texts)
    for text, ids in zip(texts, theirs["ids"], strict=True):
        assert ours.tokenize(text).ids.tolist() == ids, text[:200]
    return sum(map(len, theirs["ids"]))


def word_tokenizer(version: str, language: str, vocabulary: list[str]) -> WordTokenizer:
    cleaning = f"fastai-v{version}"
    tables, source = tables_from_spacy(language, CONTROL_TOKENS[cleaning])
    fields = {"cleaning": cleaning, "language": language, "source": source, "tables": tables, "vocabulary": vocabulary}
    return WordTokenizer(WordTokenizerDocument.model_validate(fields))


def reviews() -> list[str]:
    from pyarrow import parquet

    table = parquet.read_table(Path(os.environ["BOTHWAYS_DATA"]) / "imdb" / "train.parquet", columns=["text"])
    return [str(text) for text in table["text"].slice(0, REVIEWS).to_pylist()]


def rows_of(*names: str) -> list[str]:
    texts = []
    for name in names:
        with (Path(os.environ["BOTHWAYS_DATA"]) / name).open(newline="", encoding="utf-8") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    return texts


@needs_real_texts
@pytest.mark.parametrize("version", ["1", "2"])
def test_real_english_texts_get_fastais_ids(version: str, tmp_path: Path) -> None:
    texts = [*reviews(), *rows_of("trec6/train.csv", "trec6/test.csv", "sms_spam/sms.csv")]
    assert len(texts) > 20_000
    tokens = compare(version, "en", texts, tmp_path)
    assert tokens > 3_000_000
    print(f"\nfastai {version}: {len(texts):,} English texts, {tokens:,} tokens, no id differs")


@needs_real_texts
@pytest.mark.parametrize("version", ["1", "2"])
def test_real_german_texts_get_fastais_ids(version: str, tmp_path: Path) -> None:
    texts = rows_of("germeval2018/train.csv", "germeval2018/test.csv")
    assert len(texts) > 8_000
    tokens = compare(version, "de", texts, tmp_path)
    print(f"\nfastai {version}: {len(texts):,} German texts, {tokens:,} tokens, no id differs")


CHARACTERS = "aAzZéÉßİǅ 19.,:;!?'\"()[]<>/\\#@&%$€-_—…\n\t\r\x00\x1c\u00a0\u2028\u200d▁😀日ส"
CHAINS = """
xxpad xxmaj xxbos xxrep XXUP don't U.S. e.g. :-) (: http://a.b/c?d=e &#39; #39; amp; &amp; quot; nbsp; <unk> \\n ...
AAAA aaaa The NASA iPhone 1,000.50 10km
"""
SPACED_CHAINS = (
    "  ",
    "<br />",
    " @-@ ",
    " @,@ ",
    " @.@ ",
    "no no no no ",
    "word word word",
    "👩\u200d👩\u200d👧",
    "e\u0301",
)


def drawn_texts() -> list[str]:
    """Return texts that hypothesis draws: single odd characters, and chains of what the rules look for."""
    parts = st.sampled_from([*CHARACTERS, *CHAINS.split(), *SPACED_CHAINS])
    texts: list[str] = []

    @settings(max_examples=DRAWN_TEXTS, phases=[Phase.generate], database=None)
    @given(st.one_of(st.text(max_size=80), st.lists(parts, max_size=25).map("".join)))
    def draw(text: str) -> None:
        texts.append(text)

    draw()
    return texts


@pytest.mark.parametrize(("version", "language"), [("1", "en"), ("1", "de"), ("2", "en"), ("2", "de")])
def test_drawn_and_nasty_texts_get_fastais_ids(version: str, language: str, tmp_path: Path) -> None:
    texts = [*NASTY_TEXTS, *drawn_texts()]
    assert len(texts) > DRAWN_TEXTS
    compare(version, language, texts, tmp_path)
