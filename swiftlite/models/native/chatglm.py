"""ChatGLM3 (`model_type` "chatglm", ChatGLMForConditionalGeneration), in the layout of the original files."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PretrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from swiftlite.models.native.blocks import (
    NativeAttention,
    NativeCausalLM,
    NativeDecoder,
    Rotation,
    rotary_angles,
    rotate_pairs,
)

_ROPE_BASE = 10000.0
# What else the original code can be told to do; no released ChatGLM3 does.
_ONLY = {
    "multi_query_attention": True,
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "quantization_bit": 0,
    "pre_seq_len": None,
    "hidden_dropout": 0.0,
}


class ChatGLMConfig(PretrainedConfig):
    """The original config.json.

    Raises:
        ValueError: it describes ChatGLM 1 or an option no ChatGLM3 uses.
    """

    model_type: ClassVar[str] = "chatglm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "num_hidden_layers": "num_layers",
        "vocab_size": "padded_vocab_size",
        "intermediate_size": "ffn_hidden_size",
        "num_key_value_heads": "multi_query_group_num",
        "head_dim": "kv_channels",
        "rms_norm_eps": "layernorm_epsilon",
        "max_position_embeddings": "seq_length",
    }

    padded_vocab_size: int = 65024
    hidden_size: int = 4096
    num_layers: int = 28
    num_attention_heads: int = 32
    multi_query_group_num: int = 2
    kv_channels: int = 128
    ffn_hidden_size: int = 13696
    seq_length: int = 8192
    layernorm_epsilon: float = 1e-5
    rope_ratio: float | int = 1
    add_qkv_bias: bool = True
    add_bias_linear: bool = False
    attention_dropout: float | int = 0.0
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        if "position_encoding_2d" in kwargs or "inner_hidden_size" in kwargs:
            raise ValueError("this is ChatGLM 1 (position_encoding_2d); ChatGLM3 is supported")
        for name, value in _ONLY.items():
            if kwargs.get(name, value) != value:
                raise ValueError(f"config.json: {name} is {kwargs[name]}, ChatGLM3 is supported with {value} only")
        super().__post_init__(**kwargs)


class SelfAttention(NativeAttention):
    """query_key_value holds unequal blocks of rows: all query heads, then the few key heads, then as many of values."""

    def __init__(self, config: ChatGLMConfig, layer_idx: int):
        super().__init__(config, layer_idx, config.attention_dropout)
        width = self.heads * self.head_dim
        fused = width + 2 * self.key_value_heads * self.head_dim
        bias = config.add_qkv_bias or config.add_bias_linear
        self.query_key_value = nn.Linear(config.hidden_size, fused, bias=bias)
        self.dense = nn.Linear(width, config.hidden_size, bias=config.add_bias_linear)

    def forward(self, hidden: Tensor, rotation: Rotation, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.split(self.query_key_value(hidden))
        read, weights = self.attend(rotate_pairs(q, rotation), rotate_pairs(k, rotation), v, **kwargs)
        return self.dense(read), weights


class MLP(nn.Module):
    """SwiGLU; dense_h_to_4h holds the gate's rows, then the values'."""

    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        bias = config.add_bias_linear
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=bias)
        self.dense_4h_to_h = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, value = self.dense_h_to_4h(hidden).chunk(2, dim=-1)
        return self.dense_4h_to_h(F.silu(gate) * value)


class GLMBlock(GradientCheckpointingLayer):
    def __init__(self, config: ChatGLMConfig, layer_idx: int):
        super().__init__()
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.self_attention = SelfAttention(config, layer_idx)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = MLP(config)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        hidden = hidden + self.self_attention(self.input_layernorm(hidden), **kwargs)[0]
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Embedding(nn.Module):
    """Holds the token embedding under its original name."""

    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.padded_vocab_size, config.hidden_size)


class GLMTransformer(nn.Module):
    """Holds the layers under their original names."""

    def __init__(self, config: ChatGLMConfig):
        super().__init__()
        self.layers = nn.ModuleList([GLMBlock(config, i) for i in range(config.num_layers)])
        self.final_layernorm = LlamaRMSNorm(config.hidden_size, config.layernorm_epsilon)


class ChatGLMModel(NativeDecoder):
    """Positions: rotary in neighbouring pairs on the first half of each head. The head lives in here, too."""

    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    _no_split_modules = ["GLMBlock"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"rotary_pos_emb\.inv_freq$"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": GLMBlock, "attentions": SelfAttention}  # noqa: RUF012

    def __init__(self, config: ChatGLMConfig):
        super().__init__(config)
        self.embedding = Embedding(config)
        self.encoder = GLMTransformer(config)
        self.output_layer = nn.Linear(config.hidden_size, config.padded_vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding.word_embeddings = value  # pyrefly: ignore

    def decoder_layers(self) -> nn.ModuleList:
        return self.encoder.layers

    def final_norm(self) -> nn.Module:
        return self.encoder.final_layernorm

    def rotation(self, position_ids: Tensor, attention_mask: Tensor | None, cache: Cache | None) -> Rotation:
        config: Any = self.config
        base = _ROPE_BASE * config.rope_ratio
        return Rotation(*rotary_angles(position_ids, config.kv_channels // 2, base))


class ChatGLMForConditionalGeneration(NativeCausalLM):
    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    _no_split_modules = ["GLMBlock"]  # noqa: RUF012

    def __init__(self, config: ChatGLMConfig):
        super().__init__(config)
        self.transformer = ChatGLMModel(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.transformer.output_layer

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.transformer.output_layer = new_embeddings  # pyrefly: ignore
