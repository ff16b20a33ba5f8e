"""From files to records, and from records to training batches. No torch."""
