"""Gradient checkpointing of the decoder layers: what the forward pass keeps, and what the backward computes again."""

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from swiftlite.config.errors import UserError
from swiftlite.speed.compile import find_layers

MEANINGS = {
    "off": "everything is kept",
    "selective": "of each layer its input and the attention's output are kept, the rest is computed again",
    "full": "of each layer only its input is kept, all else is computed again",
}


def apply_checkpointing(model: nn.Module, mode: str) -> None:
    """Checkpoints each decoder layer of `model` (bare or in PEFT), or with `off` no longer.

    The checkpoint lies in the layer's `forward`, so a compiled layer has it inside its graph: there the compiler
    leaves out of the second forward what no gradient needs (the last product of the layer), and fuses the rest into
    the backward. Gradients are those without checkpointing; random numbers (dropout) are drawn the same again.
    Layers may be compiled before or after; graphs made before are thrown away.

    Args:
        mode: `off`, `selective` (Korthikanti et al., arXiv 2205.05198, turned around: attention is the one thing that
            is not recomputed, being what costs most to compute and little to keep) or `full` (Chen et al.,
            arXiv 1604.06174).

    Raises:
        UserError: the model has no list of layers.
    """
    layers = find_layers(model)
    if layers is None:
        if mode == "off":
            return
        raise UserError(
            f"--gradient_checkpointing {mode}: {type(model).__name__} has no list of decoder layers; pass off"
        )
    for layer in layers:
        layer.__dict__.pop("forward", None)
        if mode != "off":
            # One function for all layers: what differed by layer would be compiled layer by layer.
            layer.forward = types.MethodType(_FORWARDS[mode], layer)
    if any(layer._compiled_call_impl is not None for layer in layers):
        torch._dynamo.reset()


def _keeps_attention(_: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Keeps what attention kernels return: PyTorch's, those of flash-attn and xformers, and ours, all named so."""
    name = operator.name() if isinstance(operator, torch._ops.OpOverload) else str(operator)
    is_attention = ("attention" in name or "attn" in name) and "backward" not in name
    return CheckpointPolicy.MUST_SAVE if is_attention else CheckpointPolicy.PREFER_RECOMPUTE


def _keeps_nothing(*_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.PREFER_RECOMPUTE


_ATTENTION_KEPT = functools.partial(create_selective_checkpoint_contexts, _keeps_attention)
_NOTHING_KEPT = functools.partial(create_selective_checkpoint_contexts, _keeps_nothing)


def _full(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    # Without a policy, graphs of torch 2.11 keep what autograd functions inside save: 37 GiB instead of 14.
    more = {"context_fn": _NOTHING_KEPT} if torch.compiler.is_compiling() else {}
    return _checkpointed(layer, args, kwargs, more)


def _selective(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return _checkpointed(layer, args, kwargs, {"context_fn": _ATTENTION_KEPT})


def _checkpointed(layer: nn.Module, args: tuple, kwargs: dict[str, Any], more: dict[str, Any]) -> Any:
    forward = functools.partial(type(layer).forward, layer)
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **more, **kwargs)


_FORWARDS: dict[str, Callable[..., Any]] = {"full": _full, "selective": _selective}
