"""From labeled texts to a proven bundle: language models, classifiers, both directions. Needs torch."""
