"""Score rows with an engine, in the environment of the engines: python job.py ENGINE JOB.

JOB is a JSON file with the source, and with a bundle, options and an output for each scoring (Parquet). If it names
a marker, the first worker that scores rows creates that file and kills itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from bothways.arrow import Scorer

Score = Callable[..., pyarrow.Table]
MARKER = ""
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


def with_spark(source: str) -> tuple[Any, Score]:
    from pyspark.sql import SparkSession

    import bothways.spark as module

    builder = SparkSession.builder.master(f"local[{WORKERS}, 4]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "50").getOrCreate()
    rows = spark.read.parquet(source).repartition(2 * WORKERS)
    return module, lambda *arguments, **options: module.score(rows, *arguments, **options).toArrow()


def with_ray(source: str) -> tuple[Any, Score]:
    import ray

    import bothways.ray as module

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    rows = ray.data.read_parquet(source).repartition(2 * WORKERS)

    def score(*arguments: Any, **options: Any) -> pyarrow.Table:
        found = module.score(rows, *arguments, workers=WORKERS - 1, batch_size=50, **options)
        return pyarrow.concat_tables(ray.get(found.to_arrow_refs()))

    return module, score


def with_daft(source: str) -> tuple[Any, Score]:
    import daft

    import bothways.daft as module

    rows = daft.read_parquet(source)
    return module, lambda *arguments, **options: module.score(rows, *arguments, workers=WORKERS, **options).to_arrow()


def with_dask(source: str) -> tuple[Any, Score]:
    import dask.dataframe
    from dask.distributed import Client

    import bothways.dask as module

    client = Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    rows = dask.dataframe.from_pandas(parquet.read_table(source).to_pandas(), npartitions=2 * WORKERS)

    def score(*arguments: Any, **options: Any) -> pyarrow.Table:
        found = client.compute(module.score(rows, *arguments, **options)).result()
        return pyarrow.Table.from_pandas(found, preserve_index=False)

    return module, score


def main() -> None:
    engine, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    module, score = globals()[f"with_{engine}"](job["source"])
    if "marker" in job:
        DyingScorer.marker = job["marker"]
        module.Scorer = DyingScorer
    for each in job["scorings"]:
        parquet.write_table(score(each["bundle"], **each["options"]), each["out"])


if __name__ == "__main__":
    main()
