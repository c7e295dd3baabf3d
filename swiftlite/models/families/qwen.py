"""Qwen, Qwen1.5, Qwen2 and Qwen2.5: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("qwen2", default_targets=("q_proj", "k_proj", "v_proj")))
register_family(Family("qwen3", default_targets=("q_proj", "k_proj", "v_proj")))


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
register_model(
    ModelEntry(
        "qwen1half-7b-chat",
        "qwen2",
        _shape(4096, 32, 32, 32, 11008, 151936, rope_theta=1e6, max_position_embeddings=32768),
        template="qwen",
        hf="Qwen/Qwen1.5-7B-Chat",
        ms="qwen/Qwen1.5-7B-Chat",
    )
)
register_model(
    ModelEntry(
        "qwen2.5-0.5b-instruct",
        "qwen2",
        _shape(896, 24, 14, 2, 4864, 151936, rope_theta=1e6, max_position_embeddings=32768)
        | {"tie_word_embeddings": True},
        hf="Qwen/Qwen2.5-0.5B-Instruct",
        ms="qwen/Qwen2.5-0.5B-Instruct",
    )
)
register_model(
    ModelEntry(
        "qwen2.5-7b-instruct",
        "qwen2",
        _shape(3584, 28, 28, 4, 18944, 152064, rope_theta=1e6, max_position_embeddings=32768),
        hf="Qwen/Qwen2.5-7B-Instruct",
        ms="qwen/Qwen2.5-7B-Instruct",
    )
)
