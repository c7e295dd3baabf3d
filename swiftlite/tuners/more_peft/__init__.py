"""Tuners that are PEFT's and need nothing but their settings."""
