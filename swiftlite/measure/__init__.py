"""Tokens/s, MFU, memory, timing and the environment stamp: the one place where numbers are made."""
