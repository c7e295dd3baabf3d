"""Answers: a model in a terminal, one prompt at a time, or a file of prompts."""
