"""Print how well the tokenizer of the pack en-small knows texts, by language and kind of text.

The sentences next to this file were written for this project. Real data sets are added if BOTHWAYS_DATA names their
folder. Run: python -m benchmarks.coverage
"""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bothways.bundle.packs import pack_path
from bothways.text.coverage import LEAST_KNOWN_SHARE, coverage
from bothways.text.tokenizer_document import parse_tokenizer

HERE = Path(__file__).parent
FILES = {"English": "english.txt", "between": "borderline.txt", "other": "languages.txt"}
DATA_SETS = {
    "TREC-6 questions": ("English", "trec6/train.csv"),
    "SMS Spam": ("English", "sms_spam/sms.csv"),
    "CLINC150 requests": ("English", "clinc150/train.csv"),
    "GoEmotions comments": ("English", "goemotions/valid.csv"),
    "IMDb reviews": ("English", "imdb/train.parquet"),
    "GermEval tweets": ("other", "germeval2018/train.csv"),
    "Chinese reviews": ("other", "waimai/train.csv"),
}
MIXED = ("SMS Spam", ("GermEval tweets", "Chinese reviews"))
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def main() -> None:
    """Print one row per language or kind of text, the best known first, and mixtures of two languages."""
    path = pack_path("en-small") / "tokenizer.json"
    tokenizer = parse_tokenizer(path.read_bytes(), str(path))
    texts = {f"{kind}: {name}": found for kind, file in FILES.items() for name, found in sections(HERE / file).items()}
    sets = real_texts()
    texts |= {f"{DATA_SETS[name][0]}: {name}": found for name, found in sets.items()}
    if sets:
        first, others = MIXED
        for other, share in itertools.product(others, SHARES):
            count = int(400 * share)
            texts[f"mixed: {first}, {share:.0%} {other}"] = sets[first][: 400 - count] + sets[other][:count]
    found = {name: coverage(tokenizer, rows) for name, rows in texts.items()}
    table = Table(caption=f"The pack covers texts from {LEAST_KNOWN_SHARE:.0%} known letters on.")
    for title in ("texts", "known letters", "fragments", "covered"):
        table.add_column(title)
    for name, each in sorted(found.items(), key=lambda item: -item[1].known):
        table.add_row(name, f"{each.known:.1%}", f"{each.fragments:.1%}", "yes" if each.is_sufficient else "")
    Console(width=100).print(table)


def sections(path: Path) -> dict[str, list[str]]:
    """Return the lines behind each heading of a file."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = found.setdefault(line[2:], [])
        else:
            lines.append(line)
    return found


def real_texts() -> dict[str, list[str]]:
    """Return the texts of each real data set in a drawn order; none without the folder of the data sets."""
    folder = os.environ.get("BOTHWAYS_DATA")
    found = {}
    for name, (_, file) in DATA_SETS.items() if folder else ():
        path = Path(folder or "") / file
        if path.suffix == ".parquet":
            from pyarrow import parquet  # noqa: PLC0415  (only where such a file is read)

            texts = [str(text) for text in parquet.read_table(path, columns=["text"])["text"].to_pylist()]
        else:
            with path.open(newline="", encoding="utf-8") as rows:
                texts = [row["text"] for row in csv.DictReader(rows)]
        found[name] = [texts[number] for number in np.random.default_rng(0).permutation(len(texts))]
    return found


if __name__ == "__main__":
    main()
