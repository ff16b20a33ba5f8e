"""Prediction speed of bothways, fastai and PyTorch with the same models and texts."""
