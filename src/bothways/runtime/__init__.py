"""Predict from a bundle with ONNX Runtime: graphs built in memory, and continuous batching. No torch."""
