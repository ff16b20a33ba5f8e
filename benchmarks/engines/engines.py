"""Start an engine on this machine, and return a function that scores rows with it. Needs the engines' environment.

In: a Parquet file and a number of workers. Out: a function that takes a bundle and options and returns an Arrow table.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pyarrow
from pyarrow import parquet

Score = Callable[..., pyarrow.Table]
ROWS_AT_ONCE = 50
PARTITIONS_PER_WORKER = 2


def with_spark(source: str, workers: int) -> tuple[ModuleType, Score]:
    """Start Spark in this process, with a Python process per worker."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    import bothways.spark as module  # noqa: PLC0415

    builder = SparkSession.builder.master(f"local[{workers}, 4]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", str(ROWS_AT_ONCE)).getOrCreate()
    rows = spark.read.parquet(source).repartition(PARTITIONS_PER_WORKER * workers)
    return module, lambda *arguments, **options: module.score(rows, *arguments, **options).toArrow()


def with_ray(source: str, workers: int) -> tuple[ModuleType, Score]:
    """Start Ray with one CPU more than workers, which reading needs."""
    import ray  # noqa: PLC0415

    import bothways.ray as module  # noqa: PLC0415

    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    rows = ray.data.read_parquet(source).repartition(PARTITIONS_PER_WORKER * workers)

    def score(*arguments: Any, **options: Any) -> pyarrow.Table:
        found = module.score(rows, *arguments, workers=workers, batch_size=ROWS_AT_ONCE, **options)
        return pyarrow.concat_tables(ray.get(found.to_arrow_refs()))

    return module, score


def with_daft(source: str, workers: int) -> tuple[ModuleType, Score]:
    """Use Daft's own runner, with a process per worker."""
    import daft  # noqa: PLC0415

    import bothways.daft as module  # noqa: PLC0415

    rows = daft.read_parquet(source).into_batches(ROWS_AT_ONCE)
    return module, lambda *arguments, **options: module.score(rows, *arguments, workers=workers, **options).to_arrow()


def with_dask(source: str, workers: int) -> tuple[ModuleType, Score]:
    """Start a cluster of Dask on this machine, with one thread per worker."""
    import dask.dataframe  # noqa: PLC0415
    from dask.distributed import Client  # noqa: PLC0415

    import bothways.dask as module  # noqa: PLC0415

    client = Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    rows = dask.dataframe.from_pandas(
        parquet.read_table(source).to_pandas(), npartitions=PARTITIONS_PER_WORKER * workers
    )

    def score(*arguments: Any, **options: Any) -> pyarrow.Table:
        found = client.compute(module.score(rows, *arguments, **options)).result()
        return pyarrow.Table.from_pandas(found, preserve_index=False)

    return module, score


ENGINES: dict[str, Callable[[str, int], tuple[ModuleType, Score]]] = {
    "spark": with_spark,
    "ray": with_ray,
    "daft": with_daft,
    "dask": with_dask,
}
