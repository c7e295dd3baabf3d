"""LLaMA-Pro: new layers between the old ones."""
