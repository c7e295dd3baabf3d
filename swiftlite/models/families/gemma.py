"""Gemma 2 and 3 (text): shapes from the released config.json files; their own Jinja templates are used."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

for architecture in ("gemma2", "gemma3_text", "gemma3"):
    register_family(Family(architecture, default_targets=("q_proj", "k_proj", "v_proj")))

_GEMMA2 = {"head_dim": 256, "query_pre_attn_scalar": 256, "tie_word_embeddings": True}

ROWS = [
    ("gemma-2-2b-it", "gemma2", decoder_shape(2304, 26, 8, 4, 9216, 256000) | _GEMMA2, "google/gemma-2-2b-it"),
    ("gemma-2-9b-it", "gemma2", decoder_shape(3584, 42, 16, 8, 14336, 256000) | _GEMMA2, "google/gemma-2-9b-it"),
    (
        "gemma-3-1b-it",
        "gemma3_text",
        decoder_shape(1152, 26, 4, 1, 6912, 262144) | _GEMMA2 | {"sliding_window": 512},
        "google/gemma-3-1b-it",
    ),
]
for name, architecture, shape, hf in ROWS:
    register_model(ModelEntry(name, architecture, shape, None, hf, "LLM-Research/" + hf.split("/")[1]))
