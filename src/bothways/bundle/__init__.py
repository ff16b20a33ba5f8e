"""The format on disk: a directory with safetensors and JSON files that contains all that prediction needs."""
