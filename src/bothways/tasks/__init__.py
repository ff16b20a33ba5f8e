"""What a label is: single-label, multi-label, regression. Everything that depends on it lives here."""
