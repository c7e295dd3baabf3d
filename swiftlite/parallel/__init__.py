"""How work is spread over processes: strategies with the verbs wrap, backward, step and save."""
