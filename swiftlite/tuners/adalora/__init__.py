"""AdaLoRA: adapters in the form of a singular value decomposition, whose ranks go where they matter."""
