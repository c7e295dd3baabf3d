"""Qwen-1 (`model_type` "qwen", QWenLMHeadModel): 1.8B, 7B, 14B and 72B, in the layout of the original files."""

import math
from typing import Any, ClassVar

import torch
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
    rotate_halves,
)


class QWenConfig(PretrainedConfig):
    """The original config.json. `intermediate_size` is the sum of w1 and w2: each has half of it.

    The files of the first release (August 2023) spell some fields otherwise; `attribute_map` reads both.
    """

    model_type: ClassVar[str] = "qwen"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "head_dim": "kv_channels",
        "num_key_value_heads": "num_attention_heads",
        "rms_norm_eps": "layer_norm_epsilon",
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "ffn_hidden_size": "intermediate_size",
        "attn_pdrop": "attn_dropout_prob",
        "embd_pdrop": "emb_dropout_prob",
    }

    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    intermediate_size: int = 22016
    kv_channels: int = 128
    seq_length: int = 8192
    max_position_embeddings: int = 32768
    layer_norm_epsilon: float = 1e-6
    rotary_emb_base: float | int = 10000
    rotary_pct: float | int = 1.0
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    no_bias: bool = True
    attn_dropout_prob: float | int = 0.0
    emb_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None


class QWenAttention(NativeAttention):
    """c_attn holds q, k and v as three equal blocks of rows, with biases."""

    def __init__(self, config: QWenConfig, layer_idx: int):
        super().__init__(config, layer_idx, config.attn_dropout_prob)
        width = self.heads * self.head_dim
        self.c_attn = nn.Linear(config.hidden_size, 3 * width)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=not config.no_bias)

    def forward(self, hidden: Tensor, rotation: Rotation, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.split(self.c_attn(hidden))
        q, k = rotate_halves(q, rotation), rotate_halves(k, rotation)
        if rotation.query_scale is not None:
            q = (q * rotation.query_scale).to(q.dtype)
        read, weights = self.attend(q, k, v, **kwargs)
        return self.c_proj(read), weights


class QWenMLP(nn.Module):
    """SwiGLU; w2 is the gate."""

    def __init__(self, config: QWenConfig):
        super().__init__()
        width, bias = config.intermediate_size // 2, not config.no_bias
        self.w1 = nn.Linear(config.hidden_size, width, bias=bias)
        self.w2 = nn.Linear(config.hidden_size, width, bias=bias)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.c_proj(self.w1(hidden) * F.silu(self.w2(hidden)))


class QWenBlock(GradientCheckpointingLayer):
    def __init__(self, config: QWenConfig, layer_idx: int):
        super().__init__()
        self.ln_1 = LlamaRMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = QWenAttention(config, layer_idx)
        self.ln_2 = LlamaRMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = QWenMLP(config)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        hidden = hidden + self.attn(self.ln_1(hidden), **kwargs)[0]
        return hidden + self.mlp(self.ln_2(hidden))


class QWenModel(NativeDecoder):
    """Positions: rotary in halves; past `seq_length`, in eval only, logn scaling and dynamic NTK as configured."""

    config_class = QWenConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "wte"
    _no_split_modules = ["QWenBlock"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"attn\.masked_bias$", r"rotary_emb\.inv_freq$"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": QWenBlock, "attentions": QWenAttention}  # noqa: RUF012

    def __init__(self, config: QWenConfig):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList([QWenBlock(config, i) for i in range(config.num_hidden_layers)])
        self.ln_f = LlamaRMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.embedding_dropout = config.emb_dropout_prob
        self.post_init()

    def decoder_layers(self) -> nn.ModuleList:
        return self.h

    def final_norm(self) -> nn.Module:
        return self.ln_f

    def rotation(self, position_ids: Tensor, attention_mask: Tensor | None, cache: Cache | None) -> Rotation:
        """The original's rules, counted in each row's own tokens.

        The original counts columns, so padding makes its queries longer in a padded batch; here a padded or
        packed row gets what it gets alone. Training never scales, whatever the length.
        """
        config: Any = self.config
        seen = cache.get_seq_length() if cache is not None else 0
        is_long = not self.training and seen + position_ids.shape[1] > config.seq_length
        base, scale = float(config.rotary_emb_base), None
        channels = int(config.kv_channels * config.rotary_pct)
        if is_long and config.use_logn_attn:
            count = (position_ids + 1).float()
            scale = (count.log() / math.log(config.seq_length)).clamp(min=1.0)[:, None, :, None]
        if not self.training and config.use_dynamic_ntk:
            alpha = self._ntk_alpha(position_ids, attention_mask, cache, seen, is_long)
            if alpha is not None:
                base = base * alpha[..., None] ** (channels / (channels - 2))
        return Rotation(*rotary_angles(position_ids, channels, base), scale)

    def _ntk_alpha(
        self, position_ids: Tensor, attention_mask: Tensor | None, cache: Cache | None, seen: int, is_long: bool
    ) -> Tensor | None:
        """The factor on the base, (batch, seq or 1), or None for 1.

        It is that of the prompt for all tokens generated from it, as the original has it: keys in a cache are
        rotated already, so the cache remembers by how much.
        """
        if seen:
            return getattr(cache, "ntk_alpha", None)
        alpha = None
        if is_long:
            lengths = _document_lengths(position_ids, attention_mask)
            doublings = (lengths / self.config.seq_length).log2().ceil()
            alpha = (2 ** (doublings + 1) - 1).clamp(min=1.0)
        if cache is not None:
            cache.ntk_alpha = None if alpha is None else alpha[:, -1:]  # pyrefly: ignore
        return alpha


class QWenLMHeadModel(NativeCausalLM):
    config_class = QWenConfig
    base_model_prefix = "transformer"
    _no_split_modules = ["QWenBlock"]  # noqa: RUF012

    def __init__(self, config: QWenConfig):
        super().__init__(config)
        self.transformer = QWenModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


def _document_lengths(position_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Tokens of the document each token belongs to, (batch, seq or 1): packed rows hold several."""
    if attention_mask is not None and attention_mask.dim() == 2:
        return attention_mask.sum(-1, keepdim=True)
    jumps = F.pad(position_ids.diff(dim=-1) != 1, (1, 0))
    document = jumps.cumsum(-1)
    longest = torch.zeros_like(position_ids).scatter_reduce(-1, document, position_ids + 1, "amax")
    return longest.gather(-1, document)
