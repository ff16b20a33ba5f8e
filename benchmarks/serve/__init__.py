"""Compare the throughput and latency of the server with fastai behind FastAPI."""
