"""Llama 2 and 3: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("llama", default_targets=("q_proj", "k_proj", "v_proj")))

register_model(
    ModelEntry(
        "llama3-8b-instruct",
        "llama",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 128256,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": False,
        },
        hf="meta-llama/Meta-Llama-3-8B-Instruct",
        ms="LLM-Research/Meta-Llama-3-8B-Instruct",
    )
)
