"""Attention that keeps the documents of a row apart, with the kernel that fits the batch and the device."""

import functools
import inspect
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from swiftlite.speed.autocast import product_dtype
from swiftlite.speed.documents import document_borders, document_of

# transformers' attn_implementation for what is in here, and for LongLoRA's on top of it (shifted_attention.py).
NAME = "swiftlite"
SHIFTED = "swiftlite_shifted"
# From torch 2.12 on the kernel itself lets several query heads read one key head.
_KERNEL_SHARES_KEYS = "enable_gqa" in inspect.signature(varlen_attn).parameters
_WIDEST_HEAD = 256
_FIRST_CAPABILITY = (8, 0)


def forward_inputs(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    row_lengths: Tensor | None = None,
) -> dict[str, Any]:
    """What a transformers causal LM, bare or in PEFT, is called with so that its attention knows the documents.

    To a model with our attention goes a mask without elements, which says: causal, within documents. transformers
    hands a mask of four dimensions through as it is; without one it would look for documents in the positions, and
    the host would wait for the device. Any other attention gets the positions, from which transformers makes masks.

    Args:
        input_ids, attention_mask, position_ids: (batch, seq), as in a `Batch`.
        cu_seqlens: (documents + 1,) int32 borders of documents along all batch * seq tokens; the last ones may
            repeat the total. None: the positions tell, and without positions each row is one document.
        max_seqlen: tokens that no document exceeds.
        row_lengths: (batch,) real tokens of each row where rows are documents; only shifted attention, which divides
            documents, asks for it.
    """
    given: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
    name = getattr(getattr(model, "config", None), "_attn_implementation", None) or ""
    ours = name in (NAME, SHIFTED)
    ours = ours and not (isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning)
    if ours and name == SHIFTED and cu_seqlens is None:
        cu_seqlens, max_seqlen = document_borders(input_ids, None, row_lengths), input_ids.shape[1]
        # Padding is a document of its own now.
        attention_mask = given["attention_mask"] = None
    if attention_mask is None and ours and (cu_seqlens is not None or position_ids is None):
        given["attention_mask"] = torch.empty((1, 1, 0, 0), dtype=torch.bool, device=input_ids.device)
    if cu_seqlens is not None and (ours or _reads_borders(model, name)):
        given |= {"cu_seq_lens_q": cu_seqlens, "cu_seq_lens_k": cu_seqlens}
        given |= {"max_length_q": max_seqlen, "max_length_k": max_seqlen}
    return given


def _reads_borders(model: nn.Module, implementation: str) -> bool:
    """Whether transformers' own flash attention is on and gets to see keyword arguments of this model's forward."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return implementation.startswith("flash_attention") and getattr(causal, "_supports_attention_backend", False)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What each token reads, (batch, seq, heads, head_dim); a function for transformers' AttentionInterface.

    Args:
        query, key, value: (batch, heads or key heads, seq, head_dim).
        attention_mask: as `forward_inputs` or `sdpa_mask` made it; not looked at where `cu_seq_lens_q` is given.
        sliding_window: tokens that a query sees, itself included. `sdpa_mask` has it in the mask already.
        cu_seq_lens_q, max_length_q: `cu_seqlens` and `max_seqlen` of `forward_inputs`.

    Raises:
        ValueError: the model bends its scores (softcap), which no kernel here does.
    """
    if softcap is not None:
        raise ValueError("this attention has no softcap; use eager")
    batch, _, seq, _ = query.shape
    rows_are_documents = cu_seq_lens_q is None and attention_mask is not None and attention_mask.shape[-1] == 0
    if cu_seq_lens_q is None and not rows_are_documents:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    window = sliding_window if sliding_window is not None and sliding_window < seq else None
    if rows_are_documents and window is None:
        # PyTorch picks the kernel: cuDNN where it is the fastest.
        return sdpa_attention_forward(module, query, key, value, None, dropout, scaling, **kwargs)
    if dropout == 0 and _kernel_takes(query, key, value):
        borders, longest = cu_seq_lens_q, max_length_q
        if borders is None or longest is None:
            borders, longest = torch.arange(batch + 1, dtype=torch.int32, device=query.device) * seq, seq
        return _in_one_kernel(query, key, value, borders, longest, scaling, window), None
    if cu_seq_lens_q is not None and query.device.type == "cpu" and not torch.compiler.is_compiling():
        return _one_by_one(module, query, key, value, cu_seq_lens_q, window, dropout, scaling, **kwargs), None
    mask = _causal_mask(batch, seq, cu_seq_lens_q, window, query.device)
    return sdpa_attention_forward(module, query, key, value, mask, dropout, scaling, **kwargs)


@functools.cache
def varlen_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why documents of many lengths cannot share one kernel on `device` in `dtype`, in a few words; None: they can."""
    if device.type != "cuda":
        return f"{device.type} has no kernel for many lengths"
    if torch.version.hip is not None:
        return "the kernel for many lengths was not tried on ROCm"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < _FIRST_CAPABILITY:
        return f"the kernel for many lengths needs compute capability 8.0, this device has {major}.{minor}"
    if dtype not in (torch.bfloat16, torch.float16):
        return "the kernel for many lengths has no fp32"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this PyTorch was built without flash attention"
    return None


def head_fits(size: int) -> bool:
    """Whether the kernel for many lengths has heads of `size` channels."""
    return size % 8 == 0 and size <= _WIDEST_HEAD


@torch.compiler.assume_constant_result
def _device_has_kernel(device: torch.device) -> bool:
    return varlen_obstacle(device, torch.bfloat16) is None


def _kernel_takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    fits = head_fits(query.shape[-1]) and value.shape[-1] <= query.shape[-1]
    half = product_dtype(query) in (torch.bfloat16, torch.float16)
    return fits and half and query.shape[2] == key.shape[2] and _device_has_kernel(query.device)


def _in_one_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    borders: Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """PyTorch's flash attention over documents of many lengths (torch.nn.attention.varlen)."""
    batch, heads, seq, _ = query.shape
    size = value.shape[-1]
    more: dict[str, Any] = {}
    if key.shape[1] != heads:
        if _KERNEL_SHARES_KEYS:
            more["enable_gqa"] = True
        else:
            groups = heads // key.shape[1]
            key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if size < query.shape[-1]:
        # Latent attention (DeepSeek) has narrower values than keys.
        value = F.pad(value, (0, query.shape[-1] - size))
    # The kernel is no operation that autocast knows; this is what it would cast to.
    dtype = product_dtype(query)
    q, k, v = (x.transpose(1, 2).flatten(0, 1).to(dtype) for x in (query, key, value))
    sight = (-1 if window is None else window - 1, 0)
    read: Any = varlen_attn(q, k, v, borders, borders, longest, longest, scale=scaling, window_size=sight, **more)
    return read[..., :size].unflatten(0, (batch, seq))


def _one_by_one(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    borders: Tensor,
    window: int | None,
    dropout: float,
    scaling: float | None,
    **kwargs: Any,
) -> Tensor:
    """Each document alone: on a CPU 3 to 5 times faster than one call with a mask, for documents of 60 to 400."""
    batch, _, seq, _ = query.shape
    # All rows behind one another, as the borders count.
    q, k, v = (x.transpose(0, 1).flatten(1, 2)[None] for x in (query, key, value))
    places = borders.tolist()
    read = []
    for start, end in itertools.pairwise(places):
        if start == end:
            continue
        one, its_keys, its_values = (x[:, :, start:end] for x in (q, k, v))
        mask = _causal_mask(1, end - start, None, window, query.device) if window and window < end - start else None
        read.append(sdpa_attention_forward(module, one, its_keys, its_values, mask, dropout, scaling, **kwargs)[0])
    return torch.cat(read, dim=1).unflatten(1, (batch, seq)).squeeze(0)


def _causal_mask(batch: int, seq: int, borders: Tensor | None, window: int | None, device: torch.device) -> Tensor:
    """(batch or 1, 1, seq, seq), true where the query of a line may read; made without waiting for the device."""
    places = torch.arange(seq, device=device)
    distance = places[:, None] - places
    mask = distance >= 0
    if window is not None:
        mask = mask & (distance < window)
    mask = mask[None, None]
    if borders is not None:
        document = document_of(borders, batch * seq).view(batch, 1, seq)
        mask = mask & (document[..., :, None] == document[..., None, :])
    return mask


AttentionInterface.register(NAME, attention)
# With the mask of a padded batch, the attention is SDPA's.
AttentionMaskInterface.register(NAME, sdpa_mask)
