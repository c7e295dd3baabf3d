"""GPT-2: the smallest of the four, as the released config.json has it."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("gpt2", default_targets=("c_attn",)))

register_model(
    ModelEntry(
        "gpt2",
        "gpt2",
        {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
        "default",
        "openai-community/gpt2",
        "AI-ModelScope/gpt2",
    )
)
