"""How a step runs fast and in less memory: attention, compiled layers, linear layers, the loss, checkpointing."""
