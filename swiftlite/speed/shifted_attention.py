"""LongLoRA's shifted sparse attention: tokens read a quarter of their document, half of the heads a moved one."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

from swiftlite.config.errors import UserError
from swiftlite.speed.varlen import NAME, SHIFTED, attention

# Where groups begin, in eighths of a document.
_GROUPS = (0, 2, 4, 6)
_MOVED_GROUPS = (0, 1, 3, 5, 7)
# Stands for a layer in which each query head has a key head of its own.
_UNGROUPED = nn.Identity()


def group_borders(cu_seqlens: Tensor, eighths: tuple[int, ...]) -> Tensor:
    """(len(eighths) * documents + 1,) int32: each document of (documents + 1,) `cu_seqlens` cut at these eighths.

    A cut that falls between two tokens moves to the one before, so a document under eight tokens has empty groups.
    """
    starts, lengths = cu_seqlens[:-1], cu_seqlens.diff()
    cuts = torch.stack([starts + lengths * eighth // 8 for eighth in eighths], dim=1)
    return torch.cat([cuts.flatten(), cu_seqlens[-1:]])


def shifted_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *args: Any,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """S2-Attn (Chen et al., arXiv 2309.12307, section 3.2) in training, plain attention else; as `varlen.attention`.

    Groups never span two documents. Moved groups do not wrap around: the first and the last are half as long, as in
    the authors' flash-attention code, so no token reads a later one.

    Raises:
        ValueError: in training, borders of documents are missing (`forward_inputs` makes them).
    """
    if not module.training:
        borders = {"cu_seq_lens_q": cu_seq_lens_q, "max_length_q": max_length_q}
        return attention(module, query, key, value, attention_mask, *args, **borders, **kwargs)
    if cu_seq_lens_q is None:
        raise ValueError("shifted attention needs the borders of documents in training")
    heads, key_heads = query.shape[1], key.shape[1]
    half = heads // 2
    if half % (heads // key_heads):
        # The border between the halves falls inside a group of queries that share a key.
        key, value = (repeat_kv(each, heads // key_heads) for each in (key, value))
        key_heads, module = heads, _UNGROUPED
    key_half = half * key_heads // heads
    longest = None if max_length_q is None else -(-max_length_q // 4)
    parts = []
    for heads_of, keys_of, eighths in (
        (slice(0, half), slice(0, key_half), _GROUPS),
        (slice(half, heads), slice(key_half, key_heads), _MOVED_GROUPS),
    ):
        q, k, v = query[:, heads_of], key[:, keys_of], value[:, keys_of]
        borders = {"cu_seq_lens_q": group_borders(cu_seq_lens_q, eighths), "max_length_q": longest}
        parts.append(attention(module, q, k, v, attention_mask, *args, **borders, **kwargs)[0])
    return torch.cat(parts, dim=2), None


def use_shifted_attention(model: PreTrainedModel) -> None:
    """Switches a model that runs with our attention over.

    Raises:
        UserError: it runs with another, whose layers do not hear of documents.
    """
    implementation = model.config._attn_implementation
    if implementation != NAME:
        raise UserError(
            f"--sft_type longlora: {type(model).__name__} runs with {implementation} attention, and only swiftlite's "
            f"can be divided into groups; use --sft_type lora"
        )
    model.set_attn_implementation(SHIFTED)


AttentionInterface.register(SHIFTED, shifted_attention)
AttentionMaskInterface.register(SHIFTED, sdpa_mask)
