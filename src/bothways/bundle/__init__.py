"""The product on disk: a directory of safetensors and JSON that holds all that predicting needs, and nothing else."""
