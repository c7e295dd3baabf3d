"""How work is spread over processes: what a launcher says, and strategies that wrap the model and make steps."""
