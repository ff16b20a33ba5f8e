"""Predict from a bundle with ONNX Runtime: graphs built in memory, one slot engine. No torch."""
