"""The training commands, the loop, checkpoints and resume."""
