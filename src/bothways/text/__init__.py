"""From a text to the ids that a model reads: cleaning, tokens, reading order."""
