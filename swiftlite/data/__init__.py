"""Which rows are trained on: sources, formats, the tokenise-once cache, selection, batches."""
