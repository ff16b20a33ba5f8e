"""Compare Spark, Ray, Daft and Dask with one and two workers: python -m benchmarks.engines BUNDLE DATA."""
