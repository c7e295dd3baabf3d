"""Head and cross-entropy in one, chunk by chunk, so that the logits of all tokens are never in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swiftlite.data.collate import IGNORED
from swiftlite.speed.autocast import product_dtype
from swiftlite.speed.float_product import float_product

_CHUNK_BYTES = 1024**3
_CACHE_BYTES = 8 * 1024**2
# Rows of a matrix product are computed in tiles; a multiple of their height leaves none half empty.
_TILE = 128
# GPUs multiply matrices of such widths fast. With GPT-2's 50257 logits the three products of its head took 6.7, 4.9 and
# 1.2 ms for 8192 tokens on an H200, with 50304 they take 0.9, 0.9 and 0.8.
_ALIGNMENT = 64
# Rows of the head whose gradient is computed at a time: a multiple of the alignment.
_HEAD_ROWS = 32768


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    *,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_tokens: int,
) -> Tensor:
    """The weighted sum of cross-entropies of `finish_logits(hidden @ weight.T + bias)`, in nats (0-d float32).

    Gradients are computed chunk by chunk in the forward pass, while the logits of the chunk exist, and are
    multiplied by the incoming gradient in the backward pass (as in Liger, arXiv 2410.10989). Products run in the
    autocast dtype where autocast is on; softmax statistics and the gradient of `weight`, summed over chunks, are in
    float32. The host never waits for the device.

    Args:
        hidden: (tokens, hidden_size); there may be none.
        weight: (vocabulary, hidden_size); no gradient is computed for it when it is frozen.
        bias: (vocabulary,) or None.
        labels: (tokens,) int64; -100 where nothing is trained, which adds no loss and no gradient.
        weights: (tokens,) float32, the weight of each label.
        softcap, scale: see `finish_logits`.
        chunk_tokens: tokens whose logits are in memory at a time; see `tokens_per_chunk`.
    """
    inputs = (hidden, weight, bias)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _LinearCrossEntropy.apply(*inputs, labels, weights, softcap, scale, chunk_tokens)  # pyrefly: ignore
    return _in_chunks(*inputs, labels, weights, softcap, scale, chunk_tokens, wanted=(False, False, False))[0]


def finish_logits(logits: Tensor, softcap: float | None, scale: float) -> Tensor:
    """What some models do after their head, in float32: c · tanh(scale · x / c), or scale · x without a cap c.

    The cap is Gemma-2's (arXiv 2408.00118, section 2); the scale Cohere's and Granite's.
    """
    logits = logits.float() * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def tokens_per_chunk(vocabulary: int, dtype: torch.dtype, device_type: str) -> int:
    """The tokens whose logits in `dtype` take at most 1 GiB on a GPU, or stay in the cache of a CPU (8 MiB).

    A multiple of 128 and at least that, unless 128 tokens take more than 1 GiB.
    """
    row = vocabulary * dtype.itemsize
    fitting = (_CACHE_BYTES if device_type == "cpu" else _CHUNK_BYTES) // row
    return max(fitting - fitting % _TILE, min(_TILE, _CHUNK_BYTES // row), 1)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # pyrefly: ignore
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        weights: Tensor,
        softcap: float | None,
        scale: float,
        chunk_tokens: int,
    ) -> Tensor:
        loss, *gradients = _in_chunks(
            hidden, weight, bias, labels, weights, softcap, scale, chunk_tokens, wanted=ctx.needs_input_grad[:3]
        )
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, weight, bias)]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore
        # A factor of no dimensions would be rounded to a half-precision gradient's dtype before it multiplies.
        factor = incoming.reshape(1)
        scaled = [
            None if gradient is None else torch.mul(gradient, factor, out=torch.empty_like(gradient, dtype=dtype))
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes)
        ]
        return (*scaled, None, None, None, None, None)


def _in_chunks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    softcap: float | None,
    scale: float,
    chunk_tokens: int,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The loss, and its gradients by hidden, weight and bias where `wanted`."""
    dtype = product_dtype(hidden)
    loss = torch.zeros((), device=hidden.device)
    for_hidden = torch.empty_like(hidden, dtype=dtype) if wanted[0] else None
    for_weight: Tensor | None = None
    for_bias = torch.zeros(weight.shape[0], device=hidden.device) if wanted[2] else None
    # Casts are made here, once for all chunks.
    with torch.autocast(hidden.device.type, enabled=False):
        vocabulary = weight.shape[0]
        hidden, weight = hidden.to(dtype), _aligned(weight.to(dtype))
        bias = None if bias is None else _aligned(bias.to(dtype))
        # Of few sizes, however many tokens a batch trains, so that the allocator finds its blocks again.
        room = hidden.new_empty(min(chunk_tokens, _power_of_two(hidden.shape[0])), weight.shape[0])
        for start in range(0, hidden.shape[0], chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            chunk = hidden[rows]
            logits = room[: chunk.shape[0]]
            if bias is None:
                torch.mm(chunk, weight.t(), out=logits)
            else:
                torch.addmm(bias, chunk, weight.t(), out=logits)
            loss += _elementwise(logits[:, :vocabulary], labels[rows], weights[rows], softcap, scale, any(wanted))
            # From here on `logits` holds its own gradient.
            logits[:, vocabulary:] = 0
            if for_hidden is not None:
                torch.mm(logits, weight, out=for_hidden[rows])
            if wanted[1]:
                if for_weight is None:
                    for_weight = float_product(logits.t(), chunk)[:vocabulary]
                else:
                    # In pieces: a second gradient of the whole head would be gigabytes.
                    for first in range(0, vocabulary, _HEAD_ROWS):
                        entries = slice(first, first + _HEAD_ROWS)
                        for_weight[entries] += float_product(logits[:, entries].t(), chunk)[: vocabulary - first]
            if for_bias is not None:
                for_bias += logits[:, :vocabulary].sum(0, dtype=torch.float32)
        if wanted[1] and for_weight is None:
            # No token at all: other processes may have some, and wait for this gradient too.
            for_weight = weight.new_zeros(vocabulary, weight.shape[1], dtype=torch.float32)
    return loss, for_hidden, for_weight, for_bias


def _power_of_two(count: int) -> int:
    """The next power of two; 1 for 0."""
    return 1 << max(count - 1, 0).bit_length()


def _aligned(rows: Tensor) -> Tensor:
    """`rows` with zero rows behind them, up to a number that matrix products like."""
    missing = -rows.shape[0] % _ALIGNMENT
    return rows if not missing else torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])


def _loss_and_gradient(
    logits: Tensor, labels: Tensor, weights: Tensor, softcap: float | None, scale: float, wants_gradient: bool
) -> Tensor:
    """The weighted sum of a chunk's losses; with `wants_gradient`, `logits` becomes its own gradient.

    Rows without a label count for nothing even where their logits are not finite.
    """
    finished = finish_logits(logits, softcap, scale)
    log_probabilities = finished.log_softmax(-1)
    trained = labels != IGNORED
    target = torch.where(trained, labels, 0)[:, None]
    losses = -log_probabilities.gather(1, target).squeeze(1)
    loss = torch.where(trained, losses * weights, 0.0).sum()
    if wants_gradient:
        gradient = log_probabilities.exp()
        places = torch.arange(logits.shape[1], device=logits.device)
        # Subtracted before anything is rounded: the probability of a well-known target is close to 1.
        gradient = torch.where(places == target, gradient - 1, gradient) * (weights[:, None] * scale)
        if softcap is not None:
            gradient = gradient * (1 - (finished / softcap).square())
        logits.copy_(torch.where(trained[:, None], gradient, 0.0))
    return loss


def _elementwise(logits: Tensor, *arguments: Any) -> Tensor:
    """`_loss_and_gradient`; on CUDA by a kernel of few passes over the logits."""
    if not logits.is_cuda:
        return _loss_and_gradient(logits, *arguments)
    from swiftlite.speed.cross_entropy_kernel import loss_and_gradient

    return loss_and_gradient(logits, *arguments)
