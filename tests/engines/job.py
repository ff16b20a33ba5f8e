"""Score rows with an engine, in the environment of the engines: python job.py ENGINE JOB.

JOB is a JSON file with the source, and with a bundle, options and an output for each scoring (Parquet). If it names
a marker, the first worker that scores rows creates that file and kills itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.engines.engines import ENGINES
from pyarrow import parquet

from bothways.arrow import Scorer

WORKERS = 2


class DyingScorer(Scorer):
    """Kills the process after it has scored the first rows, before they are handed on, unless another one did."""

    marker = ""

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in super().__call__(batches):
            if not batch.num_rows:  # Dask asks for the types of the columns in the process of the user
                yield batch
                continue
            try:
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                yield batch
            else:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    engine, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    module, score = ENGINES[engine](job["source"], WORKERS)
    if "marker" in job:
        DyingScorer.marker = job["marker"]
        setattr(module, "Scorer", DyingScorer)  # noqa: B010
    for each in job["scorings"]:
        parquet.write_table(score(each["bundle"], **each["options"]), each["out"])


if __name__ == "__main__":
    main()
