"""Mistral and its derivatives: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

register_family(Family("mistral", default_targets=("q_proj", "k_proj", "v_proj")))


def _shape(vocab: int, theta: float) -> dict:
    more = {"rms_norm_eps": 1e-5, "rope_theta": theta, "max_position_embeddings": 32768, "sliding_window": None}
    return decoder_shape(4096, 32, 32, 8, 14336, vocab, **more)


ROWS = [
    (
        "mistral-7b-instruct-v0.2",
        _shape(32000, 1e6),
        "mistral",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "AI-ModelScope/Mistral-7B-Instruct-v0.2",
    ),
    (
        "mistral-7b-instruct-v0.3",
        _shape(32768, 1e6),
        None,
        "mistralai/Mistral-7B-Instruct-v0.3",
        "LLM-Research/Mistral-7B-Instruct-v0.3",
    ),
    # OpenBuddy extended Mistral's vocabulary; its size stands in the released config only, which a real folder brings.
    (
        "openbuddy-zephyr-7b-chat",
        _shape(32000, 1e4),
        "openbuddy",
        "OpenBuddy/openbuddy-zephyr-7b-v14.1",
        "OpenBuddy/openbuddy-zephyr-7b-v14.1",
    ),
    ("zephyr-7b-beta-chat", _shape(32000, 1e4), "zephyr", "HuggingFaceH4/zephyr-7b-beta", "modelscope/zephyr-7b-beta"),
]
for name, shape, template, hf, ms in ROWS:
    register_model(ModelEntry(name, "mistral", shape, template, hf, ms))
