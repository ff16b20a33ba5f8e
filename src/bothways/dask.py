"""Score DataFrames of Dask: ``bothways.dask.score(df, "reviews.bundle", text="review")``. Needs dask and pyarrow.

In: a DataFrame. Out: a DataFrame with the predictions of a bundle as additional columns, computed per partition. All
machines need bothways, and the bundle at the same path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from bothways.arrow import Options, Scorer

if TYPE_CHECKING:
    import pandas
    from dask.dataframe import DataFrame


def score(df: DataFrame, bundle: str | os.PathLike[str], **options: Unpack[Options]) -> DataFrame:
    """Return a DataFrame with the predictions of a bundle as additional columns.

    Args:
        df: Rows with texts. Their index is kept.
        bundle: The bundle's directory.
        **options: See ``bothways.arrow.Scorer``.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: An option has an impossible value.
        DataError: There is no text column, or a column has the name of an added one.
    """
    scorer = Scorer(bundle, **options)
    return df.map_partitions(_scored, scorer, meta=_scored(df._meta, scorer))


def _scored(part: pandas.DataFrame, scorer: Scorer) -> pandas.DataFrame:
    """Return a partition with the added columns. Only its texts are converted to Arrow."""
    import pandas  # noqa: PLC0415  (an optional dependency)
    import pyarrow  # noqa: PLC0415  (an optional dependency)

    scorer.schema(pyarrow.schema([(str(name), pyarrow.null()) for name in part.columns]))
    texts = [pyarrow.array(part[name].astype(object), from_pandas=True) for name in scorer.text_columns]
    (scored,) = scorer([pyarrow.RecordBatch.from_arrays(texts, names=scorer.text_columns)])
    nullable = {pyarrow.int64(): pandas.Int64Dtype(), pyarrow.bool_(): pandas.BooleanDtype()}
    added = scored.select(range(len(texts), scored.num_columns)).to_pandas(types_mapper=nullable.get)
    return pandas.concat([part, added.set_index(part.index)], axis=1)
