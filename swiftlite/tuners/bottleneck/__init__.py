"""Bottleneck adapters behind the MLP of each layer (`--sft_type adapter`)."""
