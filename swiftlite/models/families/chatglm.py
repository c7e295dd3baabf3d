"""ChatGLM3, with our own class in `models/native`: shapes from the released config.json files, in their fields."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("chatglm", default_targets=("query_key_value",), template="chatglm3"))

_SHAPE = {
    "hidden_size": 4096,
    "num_layers": 28,
    "num_attention_heads": 32,
    "multi_query_group_num": 2,
    "kv_channels": 128,
    "ffn_hidden_size": 13696,
    "padded_vocab_size": 65024,
    "layernorm_epsilon": 1e-5,
}
for name, more in [
    ("chatglm3-6b", {"seq_length": 8192, "rope_ratio": 1}),
    ("chatglm3-6b-32k", {"seq_length": 32768, "rope_ratio": 50}),
]:
    register_model(ModelEntry(name, "chatglm", _SHAPE | more, "chatglm3", f"THUDM/{name}", f"ZhipuAI/{name}"))
