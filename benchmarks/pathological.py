"""Tokenize pathological texts of growing size, and print the time per character: python -m benchmarks.pathological.

A tokenizer that takes linear time has the same time per character in every column. The first argument is the largest
size in characters, 1,000,000 by default. The others are languages of the word tokenizer, which needs spaCy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

from bothways.bundle.packs import pack_path
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS
from bothways.text.tokenizer import Tokenizer
from bothways.text.tokenizer_document import parse_tokenizer
from bothways.text.word_tokenizer import WordTokenizer, WordTokenizerDocument

PARTS = (
    # repeated characters, white space and signs
    *("a", "A", "1", "é", "你", "가", "ᄀ\u1161", " ", "\n"),
    *("\u00a0", "\u2028", "\x1c", "\0", "▁", "a ", "a\n", "a  ", "Ab "),
    *(".", "..", ",", "-", "--", "_", "*", "'", '"', "(", ")"),
    *("()", "[]", "<", ">", "/", "\\", "\\n", ":", "://", ":)", "(:"),
    *("!", "?", "#", "@", "$", "%", "&", ";", "~", "^_^", "“", "”", "»", "…", "—", "°", "²", "€"),
    # combining marks, joiners and scripts
    *("\u0301", "e\u0301", "e\u0323\u0301", "\u0345\u0301\u0323\u0334"),
    *("\u200d", "a\u200d", "\u200b", "\ufe0f", "\ufeff"),
    *("👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "ಕ್\u200d", "ا", "א", "ก", "𒀀", "İ", "ŉ", "ﬃ", "你好，", "文。"),
    # entities and tags
    *("&amp;", "&amp;amp;", "&#", "&#9", "&#x", "&#39;", "&a"),
    *("&a;", "&lt;", "#39;", "<br", "<br ", "<br />", "<a>", "</"),
    # addresses, numbers and what the rules of languages look for
    *("http://", "http://a.b/c?d=", "www.", "a@b.c ", "a.b.c/", "ftp://a:b@"),
    *("1.", "1,", "1:2", "1/2", "$1", "10km", "5°C"),
    *("U.S.", "a-b-", "a'b", "l'", "'s", "n't", "т.д. "),
    *("З.П.", "O'", "a=b&", "..).. ", "xxrep 3 ", "xxmaj ", "a b ", "a a b "),
)  # fmt: skip
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def texts(size: int) -> Iterator[tuple[str, str]]:
    """Yield pathological texts of a number of characters, each with its name.

    Each is a repeated part, or a part with a number after each repetition, which no cache knows.
    """
    for part in PARTS:
        yield ascii(part), (part * (size // len(part) + 1))[:size]
        numbered = "".join(f"{part}{number}" for number in range(size // (len(part) + 1) + 1))
        yield f"{part!a} numbered", numbered[:size]


def word_tokenizer(language: str, cleaning: str) -> WordTokenizer:
    """Return a tokenizer with the installed spaCy's rules of a language, and fastai's cleaning rules."""
    control = FASTAI_CONTROL_TOKENS[cleaning]
    tables, version = tables_from_spacy(language, control)
    return WordTokenizer(
        WordTokenizerDocument(
            cleaning="fastai-v1" if cleaning == "fastai-v1" else "fastai-v2",
            language=language,
            source=f"spaCy {version}",
            tables=tables,
            vocabulary=[*control, "the", "a", "."],
        )
    )


def subword_tokenizer(*, byte_fallback: bool = False) -> Tokenizer:
    """Return the tokenizer of the pack that comes with bothways, on request with byte fallback."""
    data = (pack_path("en-small") / "tokenizer.json").read_bytes()
    return parse_tokenizer(
        json.dumps({**json.loads(data), "byte_fallback": "utf-8"}).encode() if byte_fallback else data
    )


def seconds(tokenizer: Tokenizer, text: str) -> float:
    """Return the CPU time that it takes to tokenize a text."""
    started = time.process_time()
    tokenizer.tokenize(text)
    return time.process_time() - started


def print_table(name: str, tokenizer: Tokenizer, sizes: tuple[int, ...]) -> None:
    """Print the slowest text, and the median, of each size in microseconds per character."""
    print(f"\n{name}, µs per character\n\n| characters | median | slowest | which |\n|---|---|---|---|")
    for size in sizes:
        rows = sorted((1e6 * seconds(tokenizer, text) / size, text_name) for text_name, text in texts(size))
        print(f"| {size:,} | {rows[len(rows) // 2][0]:.2f} | {rows[-1][0]:.2f} | {rows[-1][1]} |", flush=True)


if __name__ == "__main__":
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    chosen = tuple(size for size in SIZES if size <= largest)
    print_table("subword tokenizer (en-small)", subword_tokenizer(), chosen)
    print_table("subword tokenizer (en-small, with bytes)", subword_tokenizer(byte_fallback=True), chosen)
    for code in sys.argv[2:] or ["en"]:
        for rules in FASTAI_CONTROL_TOKENS:
            print_table(f"word tokenizer ({code}, {rules})", word_tokenizer(code, rules), chosen)
