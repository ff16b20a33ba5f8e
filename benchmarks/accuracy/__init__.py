"""How accurate bothways is beside other ways to classify texts, on real data sets; see README.md."""
