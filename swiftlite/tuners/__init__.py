"""What is trained: one folder a tuner, each with its settings (torch-free) and its class."""
