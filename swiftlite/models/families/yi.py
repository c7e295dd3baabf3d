"""Yi and Yi-1.5, in Llama's layout: shapes from the released config.json files."""

from swiftlite.models.registry import ModelEntry, decoder_shape, register_model


# The family "llama" holds their LoRA targets.
def _shape(*sizes: int, eps: float) -> dict:
    return decoder_shape(*sizes, rms_norm_eps=eps, rope_theta=5e6, max_position_embeddings=4096)  # pyrefly: ignore


ROWS = [
    ("yi-6b-chat", _shape(4096, 32, 32, 4, 11008, 64000, eps=1e-5), "yi", "Yi-6B-Chat"),
    ("yi-34b-chat", _shape(7168, 60, 56, 8, 20480, 64000, eps=1e-5), "yi", "Yi-34B-Chat"),
    ("yi-1.5-6b-chat", _shape(4096, 32, 32, 4, 11008, 64000, eps=1e-6), None, "Yi-1.5-6B-Chat"),
    ("yi-1.5-9b-chat", _shape(4096, 48, 32, 4, 11008, 64000, eps=1e-6), None, "Yi-1.5-9B-Chat"),
]
for name, shape, template, repository in ROWS:
    register_model(ModelEntry(name, "llama", shape, template, f"01-ai/{repository}", f"01ai/{repository}"))
