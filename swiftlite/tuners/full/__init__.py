"""Full fine-tuning, with parts frozen by name, pattern or share."""
