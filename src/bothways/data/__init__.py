"""From files to rows of texts and labels, and from texts to token stores and training batches. No torch."""
