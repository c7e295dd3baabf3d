"""Decoder layers compiled one by one: one graph serves all of them, and names and files stay as they are.

The norm behind them is compiled too, as an uncompiled one passes over memory a dozen times (1.9 ms of a step of 322).
"""

import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from swiftlite.models.layers import find_last_norm, find_layers
from swiftlite.models.modes import in_mode
from swiftlite.speed.varlen import forward_inputs

# Variants of one layer: with or without gradients into it, a mask, training, a first batch of one row, two kinds of
# attention, ... The default of 8 would leave the ninth, and all after it, silently uncompiled.
_RECOMPILE_LIMIT = 64
# (rows, tokens).
_SMALL = (2, 16)


def compile_layers(model: nn.Module, *, dynamic: bool, trial: Callable[[], Tensor] | None = None) -> str:
    """Compiles the decoder layers in place (`nn.Module.compile`: parameter names do not change).

    Layers of one kind share their graphs, since weights are inputs of a graph. Training makes one; with PEFT two
    (nothing before the first layer needs gradients, everything after it does); batches of one row, batches with a
    mask and evaluation add one or two each. A trial forward and backward pass shows whether this machine can compile
    the model at all; if not, the layers stay as they were, with a warning. It changes no gradient, mode or random
    state. To be called in the autocast of the training.

    Args:
        model: a transformers causal LM, bare or in PEFT.
        dynamic: graphs for all numbers of rows and tokens; else each new shape is compiled anew.
        trial: computes the loss of a batch like those to come, in the way of training (a keyword argument more or less
            in a layer's call is another graph); None: a small batch through the model.

    Returns:
        What the header should say of it.
    """
    layers = find_layers(model)
    if layers is None:
        return "layers: not compiled (this model has no list of layers)"
    # Read at each recompilation, so a setting for the time of this call would do nothing.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILE_LIMIT)
    # Grouped linears hand their outputs on through an object, which a recomputation need not repeat.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
    norm = find_last_norm(model)
    compiled = [*layers, *([norm] if norm is not None else [])]
    # Padding the products of an odd rank or width would look at the number of tokens: another one, another graph.
    options = {"shape_padding": False} if dynamic else None
    for module in compiled:
        module.compile(dynamic=dynamic, options=options)
    started = time.perf_counter()
    reason = _failure(model, layers, trial or partial(_small_batch, model))
    took = time.perf_counter() - started
    names = " and ".join(sorted({type(layer).__name__ for layer in layers}))
    if reason is None:
        shapes = "for all lengths" if dynamic else "for each shape"
        return f"layers: {len(layers)} x {names}, compiled {shapes} in {took:.0f} s"
    for module in compiled:
        module._compiled_call_impl = None
    warnings.warn(f"{names} could not be compiled and runs as it is, which is slower: {reason}", stacklevel=2)
    return f"layers: not compiled ({reason})"


def _failure(model: nn.Module, layers: nn.ModuleList, trial: Callable[[], Tensor]) -> str | None:
    """Runs the trial forward and backward; why that failed, or None."""
    device = next(model.parameters()).device
    trained = next((p for p in layers.parameters() if p.requires_grad), None)
    try:
        with in_mode(model, training=True), torch.random.fork_rng([device] if device.type == "cuda" else []):
            loss = trial()
            if trained is not None:
                # Of one weight: the graph computes them all, and neither `.grad` nor hooks on it are touched.
                torch.autograd.grad(loss, trained, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Compilers fail in many ways (no compiler, no headers, a bug). What also fails uncompiled, the first
        # training step will say.
        return " ".join(str(error).split())[:300]
    return None


def _small_batch(model: nn.Module) -> Tensor:
    ids = torch.zeros(_SMALL, dtype=torch.int64, device=next(model.parameters()).device)
    return model(**forward_inputs(model, ids), use_cache=False, logits_to_keep=1).logits.float().sum()
