"""Training from labeled texts to a verified bundle: language models and classifiers, both directions. Needs torch."""
