"""Trained models for others: adapters folded in."""
