"""Score datasets of Ray Data: ``bothways.ray.score(ds, "reviews.bundle", text="review")``. Needs ray and pyarrow.

In: a Dataset. Out: a Dataset with the predictions of a bundle as additional columns, computed by a pool of actors. All
machines need bothways, and the bundle at the same path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from bothways.arrow import Options, Scorer

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset


def score(
    ds: Dataset,
    bundle: str | os.PathLike[str],
    *,
    workers: int | tuple[int, int] | None = None,
    batch_size: int = 4096,
    **options: Unpack[Options],
) -> Dataset:
    """Return a Dataset with the predictions of a bundle as additional columns.

    Args:
        ds: Rows with texts.
        bundle: The bundle's directory.
        workers: Number of actors, or the smallest and the largest number. Defaults to what Ray finds useful.
        batch_size: Number of rows that an actor receives at a time.
        **options: See ``bothways.arrow.Scorer``. Each actor occupies ``threads`` CPUs.

    Raises:
        BundleError: There is no bundle at the path, or it cannot be read.
        ConfigError: An option has an impossible value.
        DataError: There is no text column, or a column has the name of an added one. Raised when the rows are read.
    """
    import ray.data  # noqa: PLC0415  (an optional dependency)

    smallest, largest = workers if isinstance(workers, tuple) else (workers or 1, workers)
    return ds.map_batches(
        Actor,
        fn_constructor_args=(Scorer(bundle, **options),),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(min_size=smallest, max_size=largest),
        num_cpus=options.get("threads", 1),
    )


class Actor:
    """Scores tables, for ``map_batches`` with ``batch_format="pyarrow"``."""

    def __init__(self, scorer: Scorer) -> None:
        """Hold what scores."""
        self._scorer = scorer

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return a table with the added columns."""
        import pyarrow  # noqa: PLC0415  (an optional dependency)

        scored = self._scorer(table.to_batches())
        return pyarrow.Table.from_batches(scored, schema=self._scorer.schema(table.schema))
