"""Phi-3 and Phi-4: shapes from the released config.json files; their own Jinja templates are used."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

register_family(Family("phi3", default_targets=("qkv_proj",)))

ROWS = [
    (
        "phi-3-mini-4k-instruct",
        decoder_shape(3072, 32, 32, 32, 8192, 32064, rope_theta=1e4, max_position_embeddings=4096, sliding_window=2047),
        "microsoft/Phi-3-mini-4k-instruct",
        "LLM-Research/Phi-3-mini-4k-instruct",
    ),
    (
        "phi-4",
        decoder_shape(5120, 40, 40, 10, 17920, 100352, rope_theta=2.5e5, max_position_embeddings=16384),
        "microsoft/phi-4",
        "LLM-Research/phi-4",
    ),
]
for name, shape, hf, ms in ROWS:
    register_model(ModelEntry(name, "phi3", shape | {"rms_norm_eps": 1e-5}, None, hf, ms))
