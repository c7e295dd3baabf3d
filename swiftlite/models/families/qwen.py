"""Qwen-1, with our own class in `models/native`: shapes from the released config.json files, in their fields."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("qwen", default_targets=("c_attn",), template="qwen"))


def _shape(hidden: int, layers: int, heads: int, ffn: int, vocab: int, trained: int, longest: int) -> dict:
    """`ffn` is the width of w1 and of w2, the file has their sum; `trained` and `longest` count positions."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * ffn,
        "vocab_size": vocab,
        "seq_length": trained,
        "max_position_embeddings": longest,
    }


_72B = {"rotary_emb_base": 1000000, "use_dynamic_ntk": False, "use_logn_attn": False}
for name, shape, repository in [
    ("qwen-1_8b-chat", _shape(2048, 24, 16, 5504, 151936, 8192, 8192), "Qwen-1_8B-Chat"),
    ("qwen-7b-chat", _shape(4096, 32, 32, 11008, 151936, 8192, 32768), "Qwen-7B-Chat"),
    ("qwen-14b-chat", _shape(5120, 40, 40, 13696, 152064, 2048, 8192), "Qwen-14B-Chat"),
    ("qwen-72b-chat", _shape(8192, 80, 64, 24576, 152064, 32768, 32768) | _72B, "Qwen-72B-Chat"),
]:
    register_model(ModelEntry(name, "qwen", shape, "qwen", f"Qwen/{repository}", f"qwen/{repository}"))
