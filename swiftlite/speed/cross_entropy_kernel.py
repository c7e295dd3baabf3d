"""Triton kernel: the cross-entropy of a chunk of logits, which become their own gradient in place."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swiftlite.data.collate import IGNORED


def loss_and_gradient(
    logits: Tensor, labels: Tensor, weights: Tensor, softcap: float | None, scale: float, wants_gradient: bool
) -> Tensor:
    """As `_loss_and_gradient` of linear_cross_entropy.py: two reads and one write of each logit.

    Args:
        logits: (tokens, vocabulary), any row stride.
    """
    tokens, vocabulary = logits.shape
    losses = torch.empty(tokens, dtype=torch.float32, device=logits.device)
    _kernel[(tokens,)](
        logits, labels, weights, losses, logits.stride(0), vocabulary, softcap or 0.0, scale,
        IGNORED=IGNORED, CAPPED=softcap is not None, GRADIENT=wants_gradient, BLOCK=4096, num_warps=8,
    )  # fmt: skip
    return losses.sum()


@triton.jit
def _finish(x, softcap, scale, CAPPED: tl.constexpr):
    x = x.to(tl.float32) * scale
    if CAPPED:
        # tanh by exp, which saturates to 1 and -1 as it should.
        x = softcap * (1 - 2 / (tl.exp(2 * x / softcap) + 1))
    return x


@triton.jit
def _kernel(
    logits, labels, weights, losses, stride, vocabulary, softcap, scale,
    IGNORED: tl.constexpr, CAPPED: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    row = logits + token * stride
    label = tl.load(labels + token)
    column = tl.arange(0, BLOCK)
    if label == IGNORED:
        tl.store(losses + token, 0.0)
        if GRADIENT:
            for start in range(0, vocabulary, BLOCK):
                zero = tl.zeros((BLOCK,), tl.float32).to(logits.dtype.element_ty)
                tl.store(row + start + column, zero, mask=start + column < vocabulary)
    else:
        largest = float("-inf")
        total = 0.0
        for start in range(0, vocabulary, BLOCK):
            inside = start + column < vocabulary
            x = _finish(tl.load(row + start + column, mask=inside, other=0.0), softcap, scale, CAPPED)
            x = tl.where(inside, x, float("-inf"))
            larger = tl.maximum(largest, tl.max(x))
            total = total * tl.exp(largest - larger) + tl.sum(tl.exp(x - larger))
            largest = larger
        weight = tl.load(weights + token)
        target = _finish(tl.load(row + label), softcap, scale, CAPPED)
        tl.store(losses + token, (tl.log(total) + largest - target) * weight)
        if GRADIENT:
            # The row's target must be read by all before it is overwritten.
            tl.debug_barrier()
            for start in range(0, vocabulary, BLOCK):
                inside = start + column < vocabulary
                x = _finish(tl.load(row + start + column, mask=inside, other=0.0), softcap, scale, CAPPED)
                gradient = tl.exp(x - largest) / total
                # Subtracted before anything is rounded: the probability of a well-known target is close to 1.
                gradient = tl.where(start + column == label, gradient - 1, gradient) * (weight * scale)
                if CAPPED:
                    gradient = gradient * (1 - (x / softcap) * (x / softcap))
                tl.store(row + start + column, gradient.to(logits.dtype.element_ty), mask=inside)
