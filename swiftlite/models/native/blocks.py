"""What the native families share: rotary maths, the call into transformers' attention, the forward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class Rotation(NamedTuple):
    """How positions enter queries and keys.

    Attributes:
        cos, sin: (batch, 1, seq, rotated / 2) float32; one angle for each pair of rotated channels.
        query_scale: (batch, 1, seq, 1) float32 factor on the queries, or None.
    """

    cos: Tensor
    sin: Tensor
    query_scale: Tensor | None = None


def rotary_angles(position_ids: Tensor, channels: int, base: float | Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin, (batch, 1, seq, channels / 2) float32, of position / base^(2i / channels) (arXiv 2104.09864).

    Args:
        position_ids: (batch, seq).
        base: one number, or (batch, seq or 1, 1) where rows differ.
    """
    # Made anew at each forward: a buffer would be lost on the meta device and rounded by `model.to(bf16)`.
    exponents = torch.arange(0, channels, 2, dtype=torch.float32, device=position_ids.device) / channels
    angles = (position_ids[..., None].float() * (1.0 / base**exponents)).unsqueeze(1)
    return angles.cos(), angles.sin()


def rotate_halves(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotates channel i with channel i + rotated/2; channels beyond `rotated` pass. x: (batch, heads, seq, dim)."""
    half = rotation.cos.shape[-1]
    first, second, rest = x[..., :half].float(), x[..., half : 2 * half].float(), x[..., 2 * half :]
    turned = (first * rotation.cos - second * rotation.sin, second * rotation.cos + first * rotation.sin)
    return torch.cat([t.to(x.dtype) for t in turned] + [rest], dim=-1)


def rotate_pairs(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotates channel 2i with channel 2i + 1; channels beyond `rotated` pass. x: (batch, heads, seq, dim)."""
    rotated = 2 * rotation.cos.shape[-1]
    even, odd = x[..., :rotated].float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = (even * rotation.cos - odd * rotation.sin, odd * rotation.cos + even * rotation.sin)
    return torch.cat([torch.stack(turned, dim=-1).flatten(-2).to(x.dtype), x[..., rotated:]], dim=-1)


class NativeModel(PreTrainedModel):
    """Base of all classes here: what transformers may do with them."""

    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True


class NativeAttention(nn.Module):
    """Causal softmax attention; a family's class makes q, k and v from its fused projection and rotates them."""

    is_causal = True

    def __init__(self, config: Any, layer_idx: int, dropout: float):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim: int = config.head_dim
        self.heads: int = config.num_attention_heads
        self.key_value_heads: int = config.num_key_value_heads
        self.num_key_value_groups = self.heads // self.key_value_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = dropout

    def split(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of (batch, heads, seq, head_dim) from (batch, seq, rows [q | k | v])."""
        sizes = [self.heads, self.key_value_heads, self.key_value_heads]
        q, k, v = fused.unflatten(-1, (-1, self.head_dim)).transpose(1, 2).split(sizes, dim=1)
        return q, k, v

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, attention_mask: Any, past_key_values: Cache | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """What each token reads, (batch, seq, heads * head_dim), and the weights where the implementation has them."""
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        run: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        read, weights = run(self, q, k, v, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)
        return read.flatten(2), weights


class NativeDecoder(NativeModel):
    """The stack without its head. A family's class names the modules as the original checkpoint does."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        self.gradient_checkpointing = False
        self.embedding_dropout = 0.0

    def decoder_layers(self) -> nn.ModuleList:
        """The layers, first to last."""
        raise TypeError(f"{type(self).__name__} must define decoder_layers")

    def final_norm(self) -> nn.Module:
        """What normalises the last layer's output."""
        raise TypeError(f"{type(self).__name__} must define final_norm")

    def rotation(self, position_ids: Tensor, attention_mask: Tensor | None, cache: Cache | None) -> Rotation | None:
        """How positions enter queries and keys; `position_ids` (batch or 1, seq) are those of the new tokens."""
        raise TypeError(f"{type(self).__name__} must define rotation")

    def mask(self, hidden: Tensor, attention_mask: Any, cache: Cache | None, position_ids: Tensor | None) -> Any:
        """Who may read whom, in the form the attention implementation wants."""
        return create_causal_mask(
            config=self.config,
            inputs_embeds=hidden,
            attention_mask=attention_mask,
            past_key_values=cache,
            position_ids=position_ids,
        )

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """The last hidden states, (batch, seq, hidden).

        Args:
            attention_mask: (batch, past + seq), 0 on padding; or a ready mask of four dimensions.
            position_ids: (batch, seq); where they start again in a row without mask and cache, a new document
                starts, and documents do not see each other.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("input_ids or inputs_embeds must be given")
            inputs_embeds = self.get_input_embeddings()(input_ids)
        assert isinstance(inputs_embeds, Tensor)
        hidden = F.dropout(inputs_embeds, self.embedding_dropout, self.training)
        # Before a cache is made: documents are looked for only where there is none. Positions that nobody gave
        # are left out, as looking for documents in them would make the host wait for the device.
        mask = self.mask(hidden, attention_mask, past_key_values, position_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(hidden.shape[1], device=hidden.device)[None] + seen
        rotation = self.rotation(position_ids, attention_mask, past_key_values)
        for layer in self.decoder_layers():
            hidden = layer(
                hidden,
                rotation=rotation,
                attention_mask=mask,
                past_key_values=past_key_values,  # pyrefly: ignore
                position_ids=position_ids,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.final_norm()(hidden),  # pyrefly: ignore
            past_key_values=past_key_values,  # pyrefly: ignore
        )


class NativeCausalLM(NativeModel, GenerationMixin):
    """A decoder (under `base_model_prefix`) and the head that `get_output_embeddings` names."""

    def __init__(self, config: PretrainedConfig):
        super().__init__(config)
        # transformers would guess it from the class name.
        self.loss_type = "ForCausalLM"

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of (batch, seq or logits_to_keep, vocabulary); with `labels`, transformers' next-token loss too."""
        outputs = self.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,  # pyrefly: ignore
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.get_output_embeddings()(outputs.last_hidden_state[:, kept, :])  # pyrefly: ignore
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,  # pyrefly: ignore
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
