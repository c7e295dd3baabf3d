"""LoRA and its variants (DoRA, rsLoRA, LoRA+), through PEFT."""
