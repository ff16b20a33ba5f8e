"""Report how good a model is: numbers, figures from them, and one self-contained HTML page."""
