"""Llama 2 and 3: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

register_family(Family("llama", default_targets=("q_proj", "k_proj", "v_proj")))

_LLAMA2 = decoder_shape(4096, 32, 32, 32, 11008, 32000, rms_norm_eps=1e-5, rope_theta=1e4, max_position_embeddings=4096)


def _llama3(*sizes: int, context: int = 131072, factor: float | None = 8.0, tied: bool = False) -> dict:
    """Llama 3 (no `factor`) and 3.1 and later, whose RoPE is scaled piecewise."""
    rope: dict = {"rope_theta": 5e5}
    if factor is not None:
        rope["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    more = {"rms_norm_eps": 1e-5, "max_position_embeddings": context, **rope}
    return decoder_shape(*sizes, **more) | {"tie_word_embeddings": tied}  # pyrefly: ignore


ROWS = [
    ("llama2-7b", _LLAMA2, "default", "meta-llama/Llama-2-7b-hf", "modelscope/Llama-2-7b-ms"),
    ("llama2-7b-chat", _LLAMA2, "llama", "meta-llama/Llama-2-7b-chat-hf", "modelscope/Llama-2-7b-chat-ms"),
    (
        "llama2-7b-aqlm-2bit-1x16",
        _LLAMA2,
        "default",
        "ISTA-DASLab/Llama-2-7b-AQLM-2Bit-1x16-hf",
        "AI-ModelScope/Llama-2-7b-AQLM-2Bit-1x16-hf",
    ),
    (
        "llama3-8b-instruct",
        _llama3(4096, 32, 32, 8, 14336, 128256, context=8192, factor=None),
        "llama3",
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "LLM-Research/Meta-Llama-3-8B-Instruct",
    ),
    (
        "llama3.1-8b-instruct",
        _llama3(4096, 32, 32, 8, 14336, 128256),
        None,
        "meta-llama/Llama-3.1-8B-Instruct",
        "LLM-Research/Meta-Llama-3.1-8B-Instruct",
    ),
    (
        "llama3.1-70b-instruct",
        _llama3(8192, 80, 64, 8, 28672, 128256),
        None,
        "meta-llama/Llama-3.1-70B-Instruct",
        "LLM-Research/Meta-Llama-3.1-70B-Instruct",
    ),
    (
        "llama3.2-1b-instruct",
        _llama3(2048, 16, 32, 8, 8192, 128256, factor=32.0, tied=True),
        None,
        "meta-llama/Llama-3.2-1B-Instruct",
        "LLM-Research/Llama-3.2-1B-Instruct",
    ),
    (
        "llama3.2-3b-instruct",
        _llama3(3072, 28, 24, 8, 8192, 128256, factor=32.0, tied=True),
        None,
        "meta-llama/Llama-3.2-3B-Instruct",
        "LLM-Research/Llama-3.2-3B-Instruct",
    ),
]
for name, shape, template, hf, ms in ROWS:
    register_model(ModelEntry(name, "llama", shape, template, hf, ms))
