"""GaLore and Q-GaLore: full fine-tuning whose optimizer sees gradients in few dimensions."""
