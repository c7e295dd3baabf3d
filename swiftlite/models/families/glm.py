"""GLM-4 in the layout of transformers: shapes from the released config.json files."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

for architecture in ("glm", "glm4"):
    register_family(Family(architecture, default_targets=("q_proj", "k_proj", "v_proj")))


def _shape(eps: float, attention_bias: bool, context: int) -> dict:
    return decoder_shape(
        4096,
        40,
        32,
        2,
        13696,
        151552,
        head_dim=128,
        rms_norm_eps=eps,
        attention_bias=attention_bias,
        partial_rotary_factor=0.5,
        rope_theta=1e4,
        max_position_embeddings=context,
    )


# The repository without "-hf" holds the older layout, which needs code of its own.
register_model(
    ModelEntry(
        "glm-4-9b-chat",
        "glm",
        _shape(1.5625e-07, True, 131072),
        None,
        "zai-org/glm-4-9b-chat-hf",
        "ZhipuAI/glm-4-9b-chat-hf",
    )
)
register_model(
    ModelEntry(
        "glm-4-9b-0414", "glm4", _shape(1e-5, False, 32768), None, "zai-org/GLM-4-9B-0414", "ZhipuAI/GLM-4-9B-0414"
    )
)
