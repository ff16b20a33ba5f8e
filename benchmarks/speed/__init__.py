"""How fast it predicts, beside fastai and torch."""
