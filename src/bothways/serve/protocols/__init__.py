"""The protocols of the server, one per module: each parses requests, renders replies and owns its routes."""
