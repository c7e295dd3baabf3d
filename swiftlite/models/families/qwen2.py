"""Qwen1.5, Qwen2.5, Qwen3 and the DeepSeek-R1 distills: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

register_family(Family("qwen2", default_targets=("q_proj", "k_proj", "v_proj")))
register_family(Family("qwen3", default_targets=("q_proj", "k_proj", "v_proj")))


def _qwen2(*sizes: int, theta: float = 1e6, context: int = 32768, tied: bool = False) -> dict:
    more = {"rms_norm_eps": 1e-6, "rope_theta": theta, "max_position_embeddings": context, "use_sliding_window": False}
    return decoder_shape(*sizes, **more) | {"tie_word_embeddings": tied}  # pyrefly: ignore


def _qwen3(*sizes: int, tied: bool = False) -> dict:
    return _qwen2(*sizes, 151936, context=40960, tied=tied) | {"head_dim": 128}


_7B = (4096, 32, 32, 32, 11008, 151936)
for name, shape, template, repository in [
    ("qwen1half-7b-chat", _qwen2(*_7B), "qwen", "Qwen1.5-7B-Chat"),
    ("qwen1half-7b-chat-awq", _qwen2(*_7B), "qwen", "Qwen1.5-7B-Chat-AWQ"),
    ("qwen2.5-0.5b-instruct", _qwen2(896, 24, 14, 2, 4864, 151936, tied=True), None, "Qwen2.5-0.5B-Instruct"),
    ("qwen2.5-1.5b-instruct", _qwen2(1536, 28, 12, 2, 8960, 151936, tied=True), None, "Qwen2.5-1.5B-Instruct"),
    ("qwen2.5-3b-instruct", _qwen2(2048, 36, 16, 2, 11008, 151936, tied=True), None, "Qwen2.5-3B-Instruct"),
    ("qwen2.5-7b-instruct", _qwen2(3584, 28, 28, 4, 18944, 152064), None, "Qwen2.5-7B-Instruct"),
    ("qwen2.5-14b-instruct", _qwen2(5120, 48, 40, 8, 13824, 152064), None, "Qwen2.5-14B-Instruct"),
    ("qwen2.5-32b-instruct", _qwen2(5120, 64, 40, 8, 27648, 152064), None, "Qwen2.5-32B-Instruct"),
]:
    register_model(ModelEntry(name, "qwen2", shape, template, f"Qwen/{repository}", f"Qwen/{repository}"))

for name, shape, repository in [
    ("qwen3-0.6b", _qwen3(1024, 28, 16, 8, 3072, tied=True), "Qwen3-0.6B"),
    ("qwen3-1.7b", _qwen3(2048, 28, 16, 8, 6144, tied=True), "Qwen3-1.7B"),
    ("qwen3-4b", _qwen3(2560, 36, 32, 8, 9728, tied=True), "Qwen3-4B"),
    ("qwen3-8b", _qwen3(4096, 36, 32, 8, 12288), "Qwen3-8B"),
    ("qwen3-14b", _qwen3(5120, 40, 40, 8, 17408), "Qwen3-14B"),
]:
    register_model(ModelEntry(name, "qwen3", shape, None, f"Qwen/{repository}", f"Qwen/{repository}"))

for name, shape, repository in [
    (
        "deepseek-r1-distill-qwen-1.5b",
        _qwen2(1536, 28, 12, 2, 8960, 151936, theta=1e4, context=131072),
        "DeepSeek-R1-Distill-Qwen-1.5B",
    ),
    (
        "deepseek-r1-distill-qwen-7b",
        _qwen2(3584, 28, 28, 4, 18944, 152064, theta=1e4, context=131072),
        "DeepSeek-R1-Distill-Qwen-7B",
    ),
]:
    register_model(ModelEntry(name, "qwen2", shape, None, f"deepseek-ai/{repository}", f"deepseek-ai/{repository}"))
