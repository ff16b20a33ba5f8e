"""The command line: one file a verb. Options in, tables and files out; all work is done elsewhere."""
