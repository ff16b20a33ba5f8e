"""Score DataFrames of Daft: ``bothways.daft.score(df, "reviews.bundle", text="review")``. Needs daft and pyarrow.

In: a DataFrame. Out: a DataFrame with the predictions of a bundle as additional columns. All machines need bothways,
and the bundle at the same path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from bothways.arrow import Options, Scorer

if TYPE_CHECKING:
    import pyarrow
    from daft import DataFrame, Series


def score(
    df: DataFrame, bundle: str | os.PathLike[str], *, workers: int | None = None, **options: Unpack[Options]
) -> DataFrame:
    """Return a DataFrame with the predictions of a bundle as additional columns.

    Args:
        df: Rows with texts.
        bundle: The bundle's directory.
        workers: Number of processes that score. Defaults to one thread of Daft's own process.
        **options: See ``bothways.arrow.Scorer``.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: An option has an impossible value.
        DataError: There is no text column, or a column has the name of an added one.
    """
    import daft  # noqa: PLC0415  (an optional dependency)

    scorer = Scorer(bundle, **options)
    given = df.schema().to_pyarrow_schema()
    added = [scorer.schema(given).field(number) for number in range(len(given), len(scorer.schema(given)))]
    fields = {field.name: daft.DataType.from_arrow_type(field.type) for field in added}

    @daft.cls(max_concurrency=workers, use_process=workers is not None)
    class Predictor:
        @daft.method.batch(return_dtype=daft.DataType.struct(fields), unnest=True)  # type: ignore[untyped-decorator]  # daft is not typed
        def predict(self, *texts: Series) -> pyarrow.Array:
            import pyarrow  # noqa: PLC0415  (an optional dependency)

            batch = pyarrow.RecordBatch.from_arrays([text.to_arrow() for text in texts], names=scorer.text_columns)
            (scored,) = scorer([batch])
            return pyarrow.StructArray.from_arrays(scored.columns[len(texts) :], fields=added)

    return df.select("*", Predictor().predict(*(df[name] for name in scorer.text_columns)))
