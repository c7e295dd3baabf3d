"""Baichuan2 7B (rotary) and 13B (ALiBi) (`model_type` "baichuan"), in the layout of the original files."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PretrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from swiftlite.config.errors import UserError
from swiftlite.models.native.blocks import (
    NativeAttention,
    NativeCausalLM,
    NativeDecoder,
    Rotation,
    rotary_angles,
    rotate_halves,
)

_ROPE_BASE = 10000.0
_ROPE_WIDTH, _ALIBI_WIDTH = 4096, 5120  # hidden sizes of the released 7B and 13B
_BAICHUAN_1_VOCABULARY = 64000


class BaichuanConfig(PretrainedConfig):
    """The original config.json of the 7B or the 13B, which share their `model_type`.

    Raises:
        ValueError: it describes Baichuan 1, whose head is another one.
    """

    model_type: ClassVar[str] = "baichuan"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {"num_key_value_heads": "num_attention_heads"}

    vocab_size: int = 125696
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    model_max_length: int = 4096
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.vocab_size == _BAICHUAN_1_VOCABULARY:
            raise ValueError("this is Baichuan 1 (64000 tokens, an ordinary head); Baichuan2 is supported")
        # The 13B's file says [false], which transformers would take for yes.
        kwargs.pop("gradient_checkpointing", None)
        super().__post_init__(**kwargs)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def has_alibi(self) -> bool:
        """Whether distances enter the scores (13B) instead of rotary angles (7B).

        The released widths decide. At any other width it is the field only the 7B's file has:
        `max_position_embeddings` (the 13B's has `model_max_length` alone).
        """
        if self.hidden_size in (_ROPE_WIDTH, _ALIBI_WIDTH):
            return self.hidden_size == _ALIBI_WIDTH
        return getattr(self, "max_position_embeddings", None) is None


class NormHead(nn.Linear):
    """A head whose rows count by direction only: each has length 1 when it is used, in training and after.

    The stored weight keeps its lengths; gradients go through the normalisation.
    """

    def __init__(self, hidden_size: int, vocab_size: int):
        super().__init__(hidden_size, vocab_size, bias=False)

    def normalized_weight(self) -> Tensor:
        """(vocabulary, hidden): what a fused loss must use in place of `weight`."""
        return F.normalize(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.normalized_weight())


class BaichuanAttention(NativeAttention):
    """W_pack holds q, k and v as three equal blocks of rows."""

    def __init__(self, config: BaichuanConfig, layer_idx: int):
        super().__init__(config, layer_idx, 0.0)
        self.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, rotation: Rotation | None, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.split(self.W_pack(hidden))
        if rotation is not None:
            q, k = rotate_halves(q, rotation), rotate_halves(k, rotation)
        read, weights = self.attend(q, k, v, **kwargs)
        return self.o_proj(read), weights


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: BaichuanConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class BaichuanLayer(GradientCheckpointingLayer):
    def __init__(self, config: BaichuanConfig, layer_idx: int):
        super().__init__()
        self.self_attn = BaichuanAttention(config, layer_idx)
        self.mlp = MLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, **kwargs: Any) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), **kwargs)[0]
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class BaichuanModel(NativeDecoder):
    config_class = BaichuanConfig
    base_model_prefix = "model"
    _no_split_modules = ["BaichuanLayer"]  # noqa: RUF012
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": BaichuanLayer, "attentions": BaichuanAttention}  # noqa: RUF012

    def __init__(self, config: BaichuanConfig):
        super().__init__(config)
        self._refuse_kernels_without_alibi()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList([BaichuanLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def decoder_layers(self) -> nn.ModuleList:
        return self.layers

    def final_norm(self) -> nn.Module:
        return self.norm

    def rotation(self, position_ids: Tensor, attention_mask: Tensor | None, cache: Cache | None) -> Rotation | None:
        config: Any = self.config
        if config.has_alibi:
            return None
        return Rotation(*rotary_angles(position_ids, config.head_dim, _ROPE_BASE))

    def mask(self, hidden: Tensor, attention_mask: Any, cache: Cache | None, position_ids: Tensor | None) -> Any:
        """With ALiBi: (batch or 1, heads, seq, past + seq), the bias where reading is allowed (arXiv 2108.12409).

        Two tokens of one document are as far apart in a packed or padded row as they are alone, so the mask
        between documents is all that a packed row needs.
        """
        mask = super().mask(hidden, attention_mask, cache, position_ids)
        config: Any = self.config
        if not config.has_alibi:
            return mask
        self._refuse_kernels_without_alibi()
        seen = cache.get_seq_length() if cache is not None else 0
        length = mask.shape[-1] if mask is not None else seen + hidden.shape[1]
        keys = torch.arange(length, device=hidden.device)
        distance = keys[None] - (keys[: hidden.shape[1], None] + seen)
        if mask is None:
            allowed = distance <= 0
        else:
            allowed = mask if mask.dtype == torch.bool else mask == 0
        slopes = torch.tensor(alibi_slopes(config.num_attention_heads), device=hidden.device)
        # In float32 up to here: bf16 cannot count beyond 256.
        bias = (slopes[:, None, None] * distance).to(hidden.dtype)
        return torch.where(allowed, bias, torch.finfo(hidden.dtype).min)

    def _refuse_kernels_without_alibi(self) -> None:
        config: Any = self.config
        if config.has_alibi and config._attn_implementation not in ("eager", "sdpa"):
            raise UserError(
                f"--attn_impl {config._attn_implementation}: Baichuan2-13B adds a bias to its attention scores "
                "(ALiBi), which only sdpa and eager can do; pass --attn_impl sdpa"
            )


class BaichuanForCausalLM(NativeCausalLM):
    config_class = BaichuanConfig
    base_model_prefix = "model"
    _no_split_modules = ["BaichuanLayer"]  # noqa: RUF012

    def __init__(self, config: BaichuanConfig):
        super().__init__(config)
        self.model = BaichuanModel(config)
        self.lm_head: nn.Module = NormHead(config.hidden_size, config.vocab_size)
        self.post_init()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        # `resize_token_embeddings` makes a plain Linear of any head, which would use the rows' lengths.
        if type(new_embeddings) is nn.Linear:
            with torch.device("meta"):
                head = NormHead(new_embeddings.in_features, new_embeddings.out_features)
            head.weight = new_embeddings.weight
            new_embeddings = head
        self.lm_head = new_embeddings


def alibi_slopes(heads: int) -> list[float]:
    """One slope a head: 2^(-8i/n) for i = 1..n; when `heads` is no power of two, the gaps are filled from 2n's."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    if power < heads:
        slopes += alibi_slopes(2 * power)[0::2][: heads - power]
    return slopes
