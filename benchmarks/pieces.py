"""Compare pieces with those of sentencepiece, and their speed: ``python -m benchmarks.pieces [LANGUAGE ...]``.

Needs BOTHWAYS_DATA. Trains models of both kinds and several sizes with the options of fastai on real texts, and
compares every text. The texts are cleaned by the rules of fastai 2. ``--catalogs`` adds languages: the messages of the
programs whose translations (``.mo`` files) are in a folder, such as ``/usr/share/locale``. Prints a table in Markdown.

Columns: distinct texts, pieces of all texts, texts with other pieces, then pieces per second of sentencepiece, and of
bothways on new texts and on texts that it has seen, one thread each. The last column is the number of texts to which
Hugging Face ``tokenizers`` gives other pieces (unigram models only).
"""

from __future__ import annotations

import argparse
import csv
import gettext
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sentencepiece
from pyarrow import parquet
from sentencepiece import sentencepiece_model_pb2
from tests.pieces import train
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from bothways.interop.sentencepiece_file import read_piece_model
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V2, clean_before
from bothways.text.piece_splitter import PieceSplitter

CONTROL = ["▁" + token for token in FASTAI_CONTROL_TOKENS[FASTAI_V2]]
SIZES = {"English": (1_000, 8_000, 30_000), "German": (1_000, 8_000), "Chinese": (5_000, 15_000)}
SIZE_OF_CATALOGS = 4_000
FULL_COVERAGE = ("English", "German", "fr", "es", "it", "pl", "cs", "el")
"""Languages for which fastai trains with character_coverage=0.99999. It is 0.9998 for others."""
CATALOGS = ("fr", "es", "ru", "ja", "ko", "ar", "tr", "el", "uk", "vi", "hi", "th")
FEWEST_MESSAGES = 300
ODD = [
    *(
        "e\u0301",
        "a\u0323\u0301",
        "ﬁ",
        "①",
        "½",
        "㍿",
        "Å",
        "\u00a8",
        "ﷺ",
        "İ",
        "ﾊﾞ",
        "\u1100\u1161\u11a8",
        "\u0bca",
        "\u0301",
    ),
    *(
        "\t",
        "\n",
        "\u3000",
        "\u00a0",
        "\u200b",
        "\u200d",
        "\u00ad",
        "\x01",
        "▁",
        "😀",
        "👩\u200d👧",
        "日本",
        "нет",
        "👍🏽",
    ),
    *("the", "film", "hahaha", "mmmm", "!!!", "...", "ab", "ba", "1234", "über"),
]


def main() -> None:
    """Train, compare and print a row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalogs", type=Path, help="folder with translations")
    parser.add_argument("languages", nargs="*", help="languages of the table, all by default")
    arguments = parser.parse_args()
    folder = arguments.catalogs
    data = Path(os.environ["BOTHWAYS_DATA"])
    print("| texts in | model | texts | pieces | different | sentencepiece/s | new/s | seen/s | tokenizers different |")
    print("|---|---|---|---|---|---|---|---|---|")
    total = different = 0
    for language, texts in [*data_sets(data), *(catalogs(folder) if folder else ())]:
        if arguments.languages and language not in arguments.languages:
            continue
        cleaned = [clean_before(text, FASTAI_V2) for text in texts]
        for algorithm in ("unigram", "bpe"):
            for size in SIZES.get(language, (SIZE_OF_CATALOGS,)):
                coverage = 0.99999 if language in FULL_COVERAGE else 0.9998
                model = train(cleaned, algorithm, size, CONTROL, character_coverage=coverage)
                row = compare(model, cleaned)
                total, different = total + len(texts), different + int(row[2])
                print(f"| {language} | {algorithm} {size:,} | {' | '.join(row)} |", flush=True)
    print(f"\n{total:,} comparisons, {different} different")


def data_sets(data: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each language with its texts."""
    reviews = parquet.read_table(data / "imdb" / "train.parquet", columns=["text"])["text"].slice(0, 6_000)
    yield "English", distinct([*map(str, reviews.to_pylist()), *rows(data, "trec6/train.csv", "sms_spam/sms.csv")])
    yield "German", distinct(rows(data, "germeval2018/train.csv", "germeval2018/test.csv"))
    yield "Chinese", distinct(rows(data, "waimai/train.csv", "waimai/test.csv"))
    yield "odd characters", odd_texts()


def rows(data: Path, *names: str) -> list[str]:
    """Return the texts of CSV files."""
    found = []
    for name in names:
        with (data / name).open(newline="", encoding="utf-8") as file:
            found += [row["text"] for row in csv.DictReader(file)]
    return found


def odd_texts() -> list[str]:
    """Return texts of combining marks, invisible characters and repeated letters, up to 10,000 characters long."""
    rng = random.Random(0)  # noqa: S311
    lengths = [*range(1, 40)] * 100 + [2_000] * 20
    return [rng.choice(["", " "]).join(rng.choices(ODD, k=length)) for length in lengths]


def catalogs(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield languages with the messages of programs."""
    for language in CATALOGS:
        messages = []
        for path in sorted(folder.glob(f"{language}/LC_MESSAGES/*.mo")):
            with path.open("rb") as file:
                translations = gettext.GNUTranslations(file)
            messages += [text for key, text in vars(translations)["_catalog"].items() if key and isinstance(text, str)]
        if len(texts := distinct(messages)) >= FEWEST_MESSAGES:
            yield language, texts


def distinct(texts: Sequence[str]) -> list[str]:
    """Return the texts without duplicates."""
    return list(dict.fromkeys(text for text in texts if text.strip()))


def compare(data: bytes, texts: Sequence[str]) -> list[str]:
    """Return a row of the table."""
    real = sentencepiece.SentencePieceProcessor(model_proto=data)
    theirs, theirs_s = timed(real.EncodeAsPieces, texts)
    splitter = PieceSplitter(read_piece_model(data, "the model"))
    new, new_s = timed(splitter.split, texts)
    seen, seen_s = timed(splitter.split, texts)
    assert new == seen
    pieces = sum(map(len, theirs))
    different = sum(a != b for a, b in zip(theirs, new, strict=True))
    speeds = [f"{pieces / seconds:,.0f}" for seconds in (theirs_s, new_s, seen_s)]
    return [f"{len(texts)}", f"{pieces:,}", f"{different}", *speeds, other_library(data, texts, theirs)]


def timed(split: Callable[[str], list[str]], texts: Sequence[str]) -> tuple[list[list[str]], float]:
    """Return the pieces of all texts, and the CPU seconds that they took."""
    started = time.process_time()
    found = [split(text) for text in texts]
    return found, time.process_time() - started


def other_library(data: bytes, texts: Sequence[str], expected: Sequence[list[str]]) -> str:
    """Return to how many texts Hugging Face tokenizers gives other pieces, with its own conversion of the model."""
    model = sentencepiece_model_pb2.ModelProto.FromString(data)
    if model.trainer_spec.model_type != 1:
        return ""
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=len(CONTROL)))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(left=True, right=True),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    found = (tokenizer.encode(text, add_special_tokens=False).tokens for text in texts)
    return f"{sum(ours != theirs for ours, theirs in zip(found, expected, strict=True))}"


if __name__ == "__main__":
    main()
