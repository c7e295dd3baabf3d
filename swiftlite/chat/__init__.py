"""How a conversation becomes token ids and a loss mask, and the Jinja text that goes with the checkpoint."""
