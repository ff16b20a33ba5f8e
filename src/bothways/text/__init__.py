"""From a text to the ids that a model reads: validation, cleaning, tokenization and reading order."""
