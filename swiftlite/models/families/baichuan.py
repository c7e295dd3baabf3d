"""Baichuan2, with our own class in `models/native`: shapes from the released config.json files, in their fields."""

from swiftlite.models.registry import Family, ModelEntry, register_family, register_model

register_family(Family("baichuan", default_targets=("W_pack",), template="baichuan"))

_7B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 125696,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
    "model_max_length": 4096,
}
# No max_position_embeddings: it has no position embeddings at all, but ALiBi.
_13B = {
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "intermediate_size": 13696,
    "vocab_size": 125696,
    "rms_norm_eps": 1e-6,
    "model_max_length": 4096,
}
for name, shape, repository in [
    ("baichuan2-7b-chat", _7B, "Baichuan2-7B-Chat"),
    ("baichuan2-13b-chat", _13B, "Baichuan2-13B-Chat"),
]:
    hub_id = f"baichuan-inc/{repository}"
    register_model(ModelEntry(name, "baichuan", shape, "baichuan", hub_id, hub_id))
