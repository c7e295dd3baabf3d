"""SmolLM2 and SmolLM3: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

register_family(Family("smollm3", default_targets=("q_proj", "k_proj", "v_proj")))


def _smollm2(*sizes: int, theta: float) -> dict:
    more = {"rms_norm_eps": 1e-5, "rope_theta": theta, "max_position_embeddings": 8192}
    return decoder_shape(*sizes, 49152, **more) | {"tie_word_embeddings": True}  # pyrefly: ignore


ROWS = [
    ("smollm2-135m-instruct", "llama", _smollm2(576, 30, 9, 3, 1536, theta=1e5), "SmolLM2-135M-Instruct"),
    (
        "smollm2-360m-instruct",
        "llama",
        _smollm2(960, 32, 15, 5, 2560, theta=1e5),
        "SmolLM2-360M-Instruct",
    ),
    (
        "smollm2-1.7b-instruct",
        "llama",
        _smollm2(2048, 24, 32, 32, 8192, theta=1.3e5),
        "SmolLM2-1.7B-Instruct",
    ),
    (
        "smollm3-3b",
        "smollm3",
        decoder_shape(2048, 36, 16, 4, 11008, 128256, rms_norm_eps=1e-6, rope_theta=5e6, max_position_embeddings=65536)
        | {"tie_word_embeddings": True},
        "SmolLM3-3B",
    ),
]
for name, architecture, shape, repository in ROWS:
    register_model(
        ModelEntry(name, architecture, shape, None, f"HuggingFaceTB/{repository}", f"HuggingFaceTB/{repository}")
    )
