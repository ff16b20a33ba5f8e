"""Measure models: metrics on labeled rows, scores for files of any size, speed and memory."""
