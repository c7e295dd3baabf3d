"""How a step runs fast: the choice of attention, and what later joins it."""
