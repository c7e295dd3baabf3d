"""The one formula behind every MFU: how many floating point operations a training step needs.

A matmul with a weight of N elements costs 2N operations a token forward (a multiply and an add each). Going
back it costs 2N for the gradient of its input, and 2N more for the gradient of the weight if that is trained:

    trained weight 6N      frozen weight the gradient passes 4N      frozen weight below all training 2N

N counts every matmul weight including the output head, not the embedding lookup. Causal attention over a
document of T tokens with D = heads * head_dim: Q K^T is T*T/2 dot products of length D, 2 operations each,
so D*T^2; times V the same again: 2*D*T^2 forward. Both operands are activations, so backward is twice that
whatever is frozen: 6*D*T^2 a layer, 6*L*D*T a token. A model takes the sum of T^2 over its documents, which
makes packed, padded and unequal rows come out right.

Not counted: what gradient checkpointing computes twice (this is MFU, not HFU), padding, softmax, norms,
rotary, the optimizer, linear-attention state updates. Counted though an implementation may skip it: the
head on tokens without loss. The convention is that of PaLM (arXiv:2204.02311, appendix B) with causal
attention counted once, not twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# LongLoRA's: half of the heads read four quarters of a document, the others three quarters and two eighths.
_SHIFTED_SHARE = (4 * (1 / 4) ** 2 + 3 * (1 / 4) ** 2 + 2 * (1 / 8) ** 2) / 2


@dataclass(frozen=True)
class AttentionLayer:
    """One layer of softmax attention: `dim` = heads * head_dim, `window` in tokens or None for all.

    `share`: the part of a document's pairs that sparse attention computes.
    """

    dim: float
    window: int | None = None
    backward: bool = True
    share: float = 1.0


@dataclass(frozen=True)
class ModelFlops:
    """Matmul weights (elements used for each token) by what they cost, and the attention layers."""

    trained: int
    frozen: int
    forward_only: int
    attention: tuple[AttentionLayer, ...]


def train_flops(model: ModelFlops, tokens: float, sum_of_squared_lengths: float) -> float:
    """Operations to train on `tokens` real tokens (no padding) in documents with this sum of T*T.

    A sliding window of w tokens is counted as min(T*T/2, w*T) pairs, an upper bound that is within w*w/2
    pairs a document.
    """
    matmuls = (6 * model.trained + 4 * model.frozen + 2 * model.forward_only) * tokens
    attention = 0.0
    for layer in model.attention:
        pairs = layer.share * sum_of_squared_lengths / 2
        if layer.window is not None:
            pairs = min(pairs, layer.window * tokens)
        attention += (12 if layer.backward else 4) * layer.dim * pairs
    return matmuls + attention


def flops_per_token(
    matmul_parameters: int,
    layers: int,
    attention_dim: int,
    seq_length: float,
    *,
    frozen_share: float = 0.0,
    adapter_parameters: int = 0,
) -> float:
    """Operations a trained token costs, from a model's shape alone (for planning).

    Args:
        matmul_parameters: N of the base model: matmul weights with the head, without the embedding lookup.
        layers: L, attention layers.
        attention_dim: D = heads * head_dim of the queries.
        seq_length: T, tokens of each document.
        frozen_share: part of N that is not trained, 0 for full training, 1 for an adapter.
        adapter_parameters: trained matmul weights beside N.
    """
    frozen = round(matmul_parameters * frozen_share)
    trained = matmul_parameters - frozen + adapter_parameters
    model = ModelFlops(trained, frozen, 0, (AttentionLayer(attention_dim),) * layers)
    return train_flops(model, seq_length, seq_length**2) / seq_length


def model_flops(model: nn.Module) -> ModelFlops | None:
    """Reads the matmul weights from the model's modules and the attention layers from its config.

    Quantised layers count by in_features * out_features, mixture-of-experts weights by the experts a token
    visits. Layers below the first trained one count as forward only; within that first layer the few
    projections that need no input gradient are still counted in full. What is trained is read now: call again
    after it changes. Works on the meta device.

    Returns:
        None when the config does not say what attention or routing costs; MFU is then not shown.
    """
    config = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    first = _first_trained_layer(model)
    attention = _attention_layers(config, first)
    if attention is None:
        return None
    counts = {"trained": 0, "frozen": 0, "forward_only": 0}
    for layer, elements, ndim, trained in _matmul_weights(model):
        if ndim == 3:
            share = _active_experts(config)
            if share is None:
                return None
            elements = elements * share[0] // share[1]
        kind = "trained" if trained else "forward_only" if layer < first else "frozen"
        counts[kind] += elements
    return ModelFlops(attention=attention, **counts)


def _matmul_weights(model: nn.Module) -> Iterator[tuple[float, int, int, bool]]:
    """(decoder layer, elements, dimensions, trained) of each weight that takes part in a matmul."""
    from torch import nn

    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    for name, module in model.named_modules():
        # PEFT's wrappers repeat the shape of the layer inside them; `original_module` is a copy out of use.
        if hasattr(module, "base_layer") or hasattr(module, "original_module") or ".original_module" in name:
            continue
        if isinstance(module, (nn.Embedding, *convolutions)):
            continue
        # OFT's rotations have a width in, and none out.
        if all(isinstance(getattr(module, size, None), int) for size in ("in_features", "out_features")):
            linear: Any = module
            weight = getattr(module, "weight", None)
            trained = weight is not None and weight.requires_grad
            yield _layer_of(name), linear.in_features * linear.out_features, 2, trained
            continue
        # Not a Linear: GPT-2's Conv1D, stacked experts, adapters that hold bare parameters.
        for own_name, weight in module.named_parameters(recurse=False):
            if own_name.endswith("bias") or "lora_embedding_A" in f"{name}.{own_name}":
                continue
            if weight.ndim in (2, 3):
                yield _layer_of(name), weight.numel(), weight.ndim, weight.requires_grad


def _layer_of(name: str) -> float:
    """The decoder layer a module belongs to: the first number in its dotted name, else after all layers."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(match[1]) if match else float("inf")


def _first_trained_layer(model: nn.Module) -> float:
    """How far down the gradient must travel: 0 when an embedding (a soft prompt is one) is trained."""
    from torch import nn

    first = float("inf")
    for name, module in model.named_modules():
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            is_input = isinstance(module, nn.Embedding) or "lora_embedding" in name
            first = min(first, 0 if is_input else _layer_of(name))
    return first


def _attention_layers(config: Any, first_trained: float) -> tuple[AttentionLayer, ...] | None:
    heads = getattr(config, "num_attention_heads", None)
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(heads, int) or not isinstance(layers, int):
        return None
    qk = getattr(config, "qk_head_dim", None) or getattr(config, "head_dim", None)
    qk = qk or config.hidden_size // heads
    # Multi-head latent attention: values are narrower than keys, so D is their mean.
    value = getattr(config, "v_head_dim", None) or qk
    dim = heads * (qk + value) / 2
    window = getattr(config, "sliding_window", None)
    default = "sliding_attention" if window else "full_attention"
    share = _SHIFTED_SHARE if getattr(config, "_attn_implementation", None) == "swiftlite_shifted" else 1.0
    found = []
    for index, kind in enumerate(getattr(config, "layer_types", None) or [default] * layers):
        if kind == "linear_attention":
            continue
        if kind not in ("full_attention", "sliding_attention"):
            return None
        reach = window if kind == "sliding_attention" else None
        found.append(AttentionLayer(dim, reach, backward=index >= first_trained, share=share))
    return tuple(found)


def _active_experts(config: Any) -> tuple[int, int] | None:
    """(experts a token visits, experts in all) of a mixture-of-experts config."""
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        experts, active = getattr(config, name, None), getattr(config, "num_experts_per_tok", None)
        if experts and active:
            return active, experts
    return None
