"""What a user may say: options, their spellings, recipe files and checks."""
