"""The fused head and cross-entropy equals the formula: loss and gradients, in chunks, with everything models add."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swiftlite.speed import linear_cross_entropy as module
from swiftlite.speed.linear_cross_entropy import (
    finish_logits,
    linear_cross_entropy,
    tokens_per_chunk,
)

TOKENS, VOCABULARY, HIDDEN = 50, 83, 24


def problem(tokens=TOKENS, device="cpu", dtype=torch.float32, vocabulary=VOCABULARY, hidden_size=HIDDEN, spread=8):
    """hidden, weight, bias, labels, weights, with logits of standard deviation `spread`; a third untrained."""
    torch.manual_seed(tokens)
    hidden = torch.randn(tokens, hidden_size, device=device).to(dtype).requires_grad_()
    weight = (
        (torch.randn(vocabulary, hidden_size, device=device) * spread / hidden_size**0.5).to(dtype).requires_grad_()
    )
    bias = torch.randn(vocabulary, device=device).to(dtype).requires_grad_()
    labels = torch.randint(vocabulary, (tokens,), device=device)
    labels[1::3] = -100
    return hidden, weight, bias, labels, torch.rand(tokens, device=device) * 2


def formula(hidden, weight, bias, labels, weights, softcap=None, scale=1.0):
    """The loss, written out in float64 on leaves of its own; returns it and those leaves."""
    leaves = [t.detach().double().requires_grad_() for t in (hidden, weight, bias)]
    logits = scale * (leaves[0] @ leaves[1].T + leaves[2])
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    for row, label, share in zip(logits, labels.tolist(), weights.double()):
        if label != -100:
            total = total + share * (torch.logsumexp(row, 0) - row[label])
    return total, leaves


def distance(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("chunk_tokens", [1, 16, 25, TOKENS, 1000])
@pytest.mark.parametrize(("softcap", "scale"), [(None, 1.0), (10.0, 1.0), (None, 0.0625), (10.0, 3.0)])
def test_loss_and_gradients_equal_the_formula_in_float64(monkeypatch, chunk_tokens, softcap, scale):
    # The head's gradient in several pieces, of which the last is shorter.
    monkeypatch.setattr(module, "_HEAD_ROWS", 64)
    hidden, weight, bias, labels, weights = problem()
    loss = linear_cross_entropy(
        hidden, weight, bias, labels, weights, softcap=softcap, scale=scale, chunk_tokens=chunk_tokens
    )
    expected, leaves = formula(hidden, weight, bias, labels, weights, softcap, scale)
    (loss * 0.37).backward()
    (expected * 0.37).backward()
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for found, leaf in zip((hidden, weight, bias), leaves):
        assert distance(found.grad, leaf.grad) < 1e-5


def test_a_single_token():
    hidden, weight, bias, labels, weights = problem(tokens=1)
    expected, leaves = formula(hidden, weight, bias, labels, weights)
    linear_cross_entropy(hidden, weight, bias, labels, weights, chunk_tokens=8).backward()
    expected.backward()
    assert distance(hidden.grad, leaves[0].grad) < 1e-5


def test_nothing_trained_is_a_loss_of_zero_and_gradients_of_zero():
    hidden, weight, _, labels, weights = problem()
    loss = linear_cross_entropy(hidden, weight, None, torch.full_like(labels, -100), weights, chunk_tokens=16)
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad.abs().max() == 0 and weight.grad.abs().max() == 0


def test_untrained_rows_count_for_nothing_even_where_they_are_not_finite():
    hidden, weight, _, labels, weights = problem()
    with torch.no_grad():
        hidden[1::3] = math.nan
    loss = linear_cross_entropy(hidden, weight.detach(), None, labels, weights, softcap=10.0, chunk_tokens=16)
    loss.backward()
    assert loss.isfinite() and hidden.grad.isfinite().all()


def test_a_tied_weight_gets_the_gradients_of_head_and_embedding():
    _, weight, _, labels, weights = problem()
    table = nn.Parameter(weight.detach())
    ids = torch.randint(VOCABULARY, (TOKENS,))
    linear_cross_entropy(F.embedding(ids, table), table, None, labels, weights, chunk_tokens=16).backward()
    twin = table.detach().double().requires_grad_()
    logits = F.embedding(ids, twin) @ twin.T
    losses = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    (losses * weights.double()).sum().backward()
    assert distance(table.grad, twin.grad) < 1e-5


@pytest.mark.parametrize("trained", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient_and_the_other_its_own(trained):
    hidden, weight, bias, labels, weights = problem()
    bias = torch.zeros_like(bias)
    expected, leaves = formula(hidden, weight, bias, labels, weights)
    expected.backward()
    frozen, kept = (weight, hidden) if trained == "hidden" else (hidden, weight)
    frozen.requires_grad_(False)
    linear_cross_entropy(hidden, weight, None, labels, weights, chunk_tokens=16).backward()
    assert frozen.grad is None
    assert distance(kept.grad, leaves[0 if trained == "hidden" else 1].grad) < 1e-5


def test_without_gradients_the_loss_is_the_same_and_has_no_graph():
    hidden, weight, bias, labels, weights = problem()
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, bias, labels, weights, chunk_tokens=16)
    assert loss.item() == pytest.approx(formula(hidden, weight, bias, labels, weights)[0].item(), rel=1e-6)
    assert not loss.requires_grad


def test_a_backward_through_a_kept_graph_gives_the_same_again():
    hidden, weight, _, labels, weights = problem()
    loss = linear_cross_entropy(hidden, weight, None, labels, weights, chunk_tokens=16) / 7
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(loss, (hidden, weight))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_autocast_runs_the_products_in_half_and_gradients_come_in_the_dtype_of_the_weights():
    hidden, weight, bias, labels, weights = problem()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, bias, labels, weights, chunk_tokens=16)
    loss.backward()
    rounded = [t.detach().bfloat16() for t in (hidden, weight, bias)]
    expected, leaves = formula(*rounded, labels, weights)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)
    assert loss.item() != formula(hidden, weight, bias, labels, weights)[0].item()
    for found, leaf in zip((hidden, weight, bias), leaves):
        assert found.grad.dtype == torch.float32
        assert distance(found.grad, leaf.grad) < 1e-2


def test_the_weight_gradient_does_not_lose_many_small_chunks_in_half_precision():
    """One token a chunk: a sum kept in bf16 would stop growing at 256 times its addends."""
    tokens, ones = 2000, torch.ones(2000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.zeros(tokens, dtype=torch.int64)
    linear_cross_entropy(ones, weight, None, labels, torch.ones(tokens), chunk_tokens=1).backward()
    # Both logits are 0, so each token's gradient is -1/2 for its label and 1/2 for the other.
    assert weight.grad.flatten().tolist() == [-1000.0, 1000.0]


def test_the_gradient_below_a_cap_is_that_of_its_tanh():
    """At half the cap the slope is 1 - tanh(1/2)^2 of an uncapped one; written out for two logits."""
    cap = 4.0
    logits = torch.tensor([[cap / 2, 0.0]])
    hidden = logits.clone().requires_grad_()
    linear_cross_entropy(
        hidden, torch.eye(2), None, torch.tensor([1]), torch.ones(1), softcap=cap, chunk_tokens=1
    ).backward()
    probability = 1 / (1 + math.exp(-cap * math.tanh(0.5)))
    assert hidden.grad[0, 0].item() == pytest.approx(probability * (1 - math.tanh(0.5) ** 2), rel=1e-5)


@pytest.mark.parametrize(
    ("vocabulary", "dtype", "device", "budget"),
    [
        (151936, torch.bfloat16, "cuda", 2**30),
        (50257, torch.float32, "cuda", 2**30),
        (32000, torch.float16, "cuda", 2**30),
        (4096, torch.float32, "cpu", 2**23),
    ],
)
def test_a_chunk_of_logits_fits_and_another_tile_would_not(vocabulary, dtype, device, budget):
    tokens = tokens_per_chunk(vocabulary, dtype, device)
    size = vocabulary * dtype.itemsize
    assert tokens * size <= budget < (tokens + 128) * size and tokens % 128 == 0


@pytest.mark.parametrize(("vocabulary", "tokens"), [(10**5, 128), (10**7, 26), (10**10, 1)])
def test_a_large_vocabulary_leaves_a_tile_or_what_a_gib_holds_or_a_token(vocabulary, tokens):
    assert tokens_per_chunk(vocabulary, torch.float32, "cpu") == tokens


def test_finish_is_the_cap_of_gemma_2_after_the_scale():
    logits = torch.tensor([0.0, 30.0, -1e9])
    assert finish_logits(logits, 30.0, 2.0).tolist() == pytest.approx([0.0, 30 * math.tanh(2.0), -30.0])
    assert finish_logits(logits[:2], None, 0.5).tolist() == [0.0, 15.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("softcap", "scale"), [(None, 1.0), (30.0, 1.0), (None, 0.0625)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("vocabulary", [32000, 50257])
def test_on_cuda_loss_and_gradients_equal_float64(vocabulary, dtype, softcap, scale):
    # Logits of 30 in bf16 are rounded by up to 0.06, whoever computes them; these stay below 10.
    hidden, weight, bias, labels, weights = problem(1000, "cuda", dtype, vocabulary, 256, spread=2)
    leaves = [t.detach().double().requires_grad_() for t in (hidden, weight, bias)]
    logits = scale * (leaves[0] @ leaves[1].T + leaves[2])
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    losses = F.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    expected = (losses * weights.double()).sum()
    (expected * 0.37).backward()
    loss = linear_cross_entropy(hidden, weight, bias, labels, weights, softcap=softcap, scale=scale, chunk_tokens=384)
    (loss * 0.37).backward()
    half = dtype != torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3 if half else 1e-5)
    for found, leaf in zip((hidden, weight, bias), leaves):
        assert distance(found.grad, leaf.grad) < (1e-2 if half else 1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_the_host_never_waits_and_the_logits_are_never_whole():
    tokens, vocabulary = 4096, 32000
    hidden, weight, _, labels, weights = problem(tokens, "cuda", torch.bfloat16, vocabulary, 256)
    for frozen in (True, False):
        weight.requires_grad_(not frozen)
        linear_cross_entropy(hidden, weight, None, labels, weights, chunk_tokens=512).backward()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        torch.cuda.set_sync_debug_mode("error")
        try:
            linear_cross_entropy(hidden, weight, None, labels, weights, chunk_tokens=512).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        extra = torch.cuda.max_memory_allocated() - before
        assert extra < tokens * vocabulary * 2, "less than the whole logits in bf16"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_what_comes_in_is_not_rounded_to_the_gradients_precision():
    hidden, weight, _, labels, weights = problem(device="cuda", dtype=torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight.detach(), None, labels, weights, chunk_tokens=16)
    factor = 1 + 2**-8 + 2**-9  # in bf16 it would be 1 + 2^-7
    (whole,) = torch.autograd.grad(loss, hidden, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss * factor, hidden)
    assert torch.equal(scaled, (whole.double() * factor).bfloat16())
