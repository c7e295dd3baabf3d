"""InternLM3: the shape from the released config.json file."""

from swiftlite.models.registry import Family, ModelEntry, decoder_shape, register_family, register_model

register_family(Family("internlm3", default_targets=("q_proj", "k_proj", "v_proj")))

register_model(
    ModelEntry(
        "internlm3-8b-instruct",
        "internlm3",
        decoder_shape(
            4096,
            48,
            32,
            2,
            10240,
            128512,
            head_dim=128,
            rms_norm_eps=1e-5,
            rope_theta=5e7,
            max_position_embeddings=32768,
        ),
        None,
        "internlm/internlm3-8b-instruct",
        "Shanghai_AI_Laboratory/internlm3-8b-instruct",
    )
)
