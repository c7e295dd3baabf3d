"""Mistral and its derivatives: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("mistral", default_targets=("q_proj", "k_proj", "v_proj")))

register_model(
    ModelEntry(
        "mistral-7b-instruct-v0.2",
        "mistral",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 32000,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "max_position_embeddings": 32768,
            "sliding_window": None,
            "tie_word_embeddings": False,
        },
        hf="mistralai/Mistral-7B-Instruct-v0.2",
        ms="AI-ModelScope/Mistral-7B-Instruct-v0.2",
    )
)
