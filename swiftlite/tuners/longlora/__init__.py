"""LongLoRA: long documents trained with shifted sparse attention."""
