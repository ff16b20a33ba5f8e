"""Write drawn texts of ten scripts in three classes, to try training from scratch on any script.

The words of a class occur only in its texts, among other drawn words of the same script.
Run: python -m benchmarks.coverage.drawn FOLDER, then bothways train FOLDER/train.csv --text text --label label ...
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

SCRIPTS = {
    "Cyrillic": (0x430, 32),
    "Greek": (0x3B1, 25),
    "Hebrew": (0x5D0, 27),
    "Arabic": (0x627, 36),
    "Devanagari": (0x905, 53),
    "Tamil": (0xB85, 53),
    "Thai": (0xE01, 46),
    "Georgian": (0x10D0, 33),
    "Hangul": (0xAC00, 1200),
    "Han": (0x4E00, 2400),
}
"""First character and number of characters by script."""
CLASSES = ("food", "sport", "travel")
ROWS = {"train": 1500, "valid": 500}


def main(folder: Path) -> None:
    """Write ``train.csv`` and ``valid.csv``."""
    rng = np.random.default_rng(0)
    words = {script: [_word(rng, *SCRIPTS[script]) for _ in range(300)] for script in SCRIPTS}
    folder.mkdir(exist_ok=True)
    for name, count in ROWS.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label", "script"])
            for number in range(count):
                script, label = [*SCRIPTS][number % len(SCRIPTS)], int(rng.integers(len(CLASSES)))
                chosen = [*rng.integers(60, 300, 8), *rng.integers(20 * label, 20 * label + 20, 2)]
                joiner = "" if script in ("Thai", "Han") else " "
                text = joiner.join(words[script][at] for at in rng.permutation(chosen))
                rows.writerow([text, CLASSES[label], script])


def _word(rng: np.random.Generator, first: int, count: int) -> str:
    length = 2 if count > 1000 else int(rng.integers(3, 7))
    return "".join(chr(first + int(at)) for at in rng.integers(0, count, length))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
