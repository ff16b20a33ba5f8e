"""Does the English pack know the words of a text? Measured on sentences in English and in 62 other languages."""
