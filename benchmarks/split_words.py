"""Print the share of a vocabulary's words that spaCy's rules would have split.

Run: python -m benchmarks.split_words FILE CODE. FILE is a CSV with the column text, CODE spaCy's code of its language.
Two vocabularies of all words that occur at least twice are compared: words as spaCy splits the texts, and words between
spaces. An import refuses saved weights with ``--language`` if the share is that of the second kind
(``interop/fastai_tokenizer.py``).
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

from bothways.interop.spacy_tables import tables_from_spacy
from bothways.text.fastai_cleaning import FASTAI_CONTROL_TOKENS, FASTAI_V2
from bothways.text.word_rules import WordSplitter

MOST_TEXTS = 4000
CODES = ("en", "de", "fr", "xx")


def main() -> None:
    """Print a table with the rules of several languages."""
    path, code = sys.argv[1:]
    csv.field_size_limit(10**9)
    with Path(path).open(newline="", encoding="utf-8") as file:
        texts = [row["text"].lower() for row, _ in zip(csv.DictReader(file), range(MOST_TEXTS), strict=False)]
    splitters = {
        each: WordSplitter(tables_from_spacy(each, FASTAI_CONTROL_TOKENS[FASTAI_V2])[0]) for each in {code, *CODES}
    }
    print(f"| vocabulary of | words | {' | '.join(splitters)} |\n|---|---|{'---|' * len(splitters)}")
    for name, split in (("spaCy", splitters[code].split), ("spaces", str.split)):
        counts = Counter(word for text in texts for word in split(text))
        words = [word for word, count in counts.items() if count > 1]
        shares = (sum(s.split(word) != [word] for word in words) / len(words) for s in splitters.values())
        print(f"| {name} | {len(words):,} | {' | '.join(f'{share:.3f}' for share in shares)} |")


if __name__ == "__main__":
    main()
