"""Accuracy of bothways and other text classifiers on real data sets. See README.md."""
