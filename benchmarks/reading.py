"""Measure how fast tables are read, in MB per second of CPU time, also by other versions of the sources.

    python -m benchmarks.reading [SOURCES ...]

``SOURCES`` are folders that contain the package, such as ``../other/src``. All versions read the same texts in turns,
in fresh processes, because other programs may slow the machine down. Printed are the best of five rounds: all rows of
the table, and labeled rows as a training reads them.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = 20_000
ROUNDS = 5
_READ = """
import json, os, sys, time
from bothways.data.labeled import read_labeled
from bothways.data.tables import open_table
from bothways.tasks.single_label import SingleLabel

found = {}
for path in sys.argv[1:]:
    if path.endswith(".parquet"):
        import pyarrow.parquet
    times = []
    for part in ("rows", "labeled"):
        start = time.process_time()
        if part == "rows":
            with open_table(path) as table:
                rows = sum(len(chunk) for chunk in table.chunks())
        else:
            read_labeled(path, "text", "label", SingleLabel())
        times.append(os.path.getsize(path) / 1e6 / (time.process_time() - start))
    found[os.path.basename(path)] = times
print(json.dumps(found))
"""


def write_tables(folder: Path) -> list[str]:
    """Write the same texts in several formats, some with commas and letters outside of ASCII, and return the paths."""
    import pyarrow  # noqa: PLC0415  (an optional dependency)
    from pyarrow import parquet  # noqa: PLC0415

    rng = random.Random(0)  # noqa: S311  (no secret)
    words = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(2, 9))) for _ in range(5_000)]
    rows = []
    for number in range(ROWS):
        text = " ".join(rng.choices(words, k=rng.randint(5, 120)))
        text = text.replace(" ", ", ", 3) if number % 3 == 0 else text
        rows.append((number, f"{text} é" if number % 7 == 0 else text, rng.choice(["pos", "neg"])))
    for name, delimiter, breaks in (("a.csv", ",", False), ("a.tsv", "\t", False), ("several lines.csv", ",", True)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
            writer.writerow(["id", "text", "label"])
            writer.writerows((n, text.replace(" ", "\n", 2) if breaks else text, label) for n, text, label in rows)
    objects = ({"id": n, "text": text, "label": label} for n, text, label in rows)
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    ids, texts, labels = zip(*rows, strict=True)
    parquet.write_table(pyarrow.table({"id": ids, "text": texts, "label": labels}), folder / "a.parquet")
    return [str(path) for path in sorted(folder.iterdir())]


def main() -> None:
    """Print a table of speeds, one column per version."""
    sources = sys.argv[1:] or [str(Path(__file__).parents[1] / "src")]
    best: dict[str, dict[str, list[float]]] = {source: {} for source in sources}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tables(Path(folder))
        for _ in range(ROUNDS):
            for source in sources:
                environment = {**os.environ, "PYTHONPATH": source}
                command = [sys.executable, "-c", _READ, *paths]
                result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                for name, speeds in json.loads(result.stdout).items():
                    known = best[source].get(name, [0.0, 0.0])
                    best[source][name] = [max(pair) for pair in zip(known, speeds, strict=True)]
    print("MB/s: all rows / labeled rows".ljust(30), *sources, sep=" | ")
    for name in best[sources[0]]:
        cells = (f"{best[source][name][0]:.0f} / {best[source][name][1]:.0f}" for source in sources)
        print(name.ljust(30), *cells, sep=" | ")


if __name__ == "__main__":
    main()
