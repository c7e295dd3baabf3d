"""Scores: questions with known answers, asked of a model, and how many it gets right."""
