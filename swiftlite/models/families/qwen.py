"""Qwen-1: shapes from the released config.json files."""

from swiftlite.models.registry import ModelEntry, register_model


def _shape(hidden: int, layers: int, heads: int, kv: int, ffn: int, vocab: int, **more: object) -> dict:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        **more,
    }


register_model(
    ModelEntry(
        "qwen-7b-chat",
        "qwen2",
        _shape(4096, 32, 32, 32, 11008, 151936, rope_theta=10000.0, max_position_embeddings=8192),
        template="qwen",
    )
)
