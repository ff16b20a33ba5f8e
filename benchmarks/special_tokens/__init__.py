"""Placement of special tokens in backward reading: as written, or in reading order."""
