"""The plain English that nano is trained on, one file a kind of text; scripts/nano/generate.py writes it out."""
