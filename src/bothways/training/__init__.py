"""Training, from labeled texts to a verified bundle: language models and classifiers in both directions. Needs torch."""
