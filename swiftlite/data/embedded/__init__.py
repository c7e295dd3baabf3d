"""The demo rows that ship with the package, so that a first run needs no download."""
