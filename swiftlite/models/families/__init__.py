"""One file a model family: its rows in the registry."""
