"""Score Spark DataFrames: ``bothways.spark.score(df, "reviews.bundle", text="review")``. Needs pyspark 4 and pyarrow.

In: a DataFrame. Out: a DataFrame with the predictions of a bundle as additional columns, computed by the executors. The
Python of the executors needs bothways and pyarrow. The bundle is sent to them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from bothways.arrow import Options, Scorer
from bothways.bundle.hub import local_path

if TYPE_CHECKING:
    import pyarrow
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Scoring = Callable[[Iterable["pyarrow.RecordBatch"]], Iterator["pyarrow.RecordBatch"]]
_sent: set[tuple[object, str]] = set()
"""The bundles that were sent, by session and digest."""


def score(df: DataFrame, bundle: str | os.PathLike[str], **options: Unpack[Options]) -> DataFrame:
    """Return a DataFrame with the predictions of a bundle as additional columns.

    Args:
        df: Rows with texts.
        bundle: The bundle's directory, on the driver.
        **options: See ``bothways.arrow.Scorer``.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: An option has an impossible value.
        DataError: There is no text column, or a column has the name of an added one.
    """
    made = Scorer(bundle, **options)
    return df.mapInArrow(_scoring(df.sparkSession, made), _schema(made, df.schema))


def scorer(spark: SparkSession, bundle: str | os.PathLike[str], **options: Unpack[Options]) -> Scoring:
    """Return the function that ``score`` passes to ``mapInArrow``, and send the bundle to the executors.

    Args:
        spark: The session.
        bundle: The bundle's directory, on the driver.
        **options: See ``bothways.arrow.Scorer``.

    Raises:
        BothwaysError: See ``score``.
    """
    return _scoring(spark, Scorer(bundle, **options))


def schema(bundle: str | os.PathLike[str], given: StructType, **options: Unpack[Options]) -> StructType:
    """Return the schema of scored rows, for ``mapInArrow``: that of the given rows, and the added columns.

    Args:
        bundle: The bundle's directory, on the driver.
        given: Schema of the rows to score.
        **options: Those of ``scorer``.

    Raises:
        BothwaysError: See ``score``.
    """
    return _schema(Scorer(bundle, **options), given)


def _schema(made: Scorer, given: StructType) -> StructType:
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema  # noqa: PLC0415
    from pyspark.sql.types import StructType  # noqa: PLC0415

    found = from_arrow_schema(made.schema(to_arrow_schema(given)))
    return StructType([*given.fields, *found.fields[len(given.fields) :]])


def _scoring(spark: SparkSession, made: Scorer) -> Scoring:
    name = f"{made.digest}.bundle"
    if (spark, name) not in _sent:
        folder = tempfile.mkdtemp(prefix="bothways-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # executors may fetch it until then
        archive = shutil.make_archive(str(Path(folder, "bundle")), "zip", local_path(made.bundle))
        spark.addArtifacts(f"{archive}#{name}", archive=True)
        _sent.add((spark, name))

    def scored(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        from pyspark import SparkFiles  # noqa: PLC0415

        made.bundle = SparkFiles.get(name)
        return made(batches)

    return scored
