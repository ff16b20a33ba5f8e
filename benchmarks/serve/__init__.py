"""How fast a server answers, beside fastai behind FastAPI."""
