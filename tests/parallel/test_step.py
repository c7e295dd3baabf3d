"""How a step is applied, or left out: clipped, scaled, on the device alone where the optimizer can."""

import pytest
import torch

from swiftlite.parallel.launch import World
from swiftlite.parallel.strategy import SingleDevice

SCALE = 2.0**10


@pytest.fixture
def strategy():
    """As for fp16 on a GPU."""
    strategy = SingleDevice(torch.device("cpu"), "fp16", World())
    strategy.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    return strategy


@pytest.mark.parametrize("fused", [True, False])
def test_a_scaled_step_equals_one_without_scale(strategy, fused):
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 8)) for _ in range(2))
    optimizer = torch.optim.AdamW([ours], lr=0.1, fused=fused)
    reference = torch.optim.AdamW([theirs], lr=0.1)
    for _ in range(3):
        strategy.backward((ours**3).sum())
        norm = strategy.step([optimizer], [ours], max_norm=1.0)
        (theirs**3).sum().backward()
        expected = torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        reference.step()
        reference.zero_grad()
        torch.testing.assert_close((norm, ours.data), (expected, theirs.data))


@pytest.mark.parametrize("fused", [True, False])
def test_an_overflow_changes_nothing_but_the_scale(strategy, fused):
    weight = torch.nn.Parameter(torch.ones(8))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    strategy.backward(weight.sum())
    strategy.step([optimizer], [weight], max_norm=1.0)
    before = {name: value.clone() for name, value in optimizer.state[weight].items()}
    kept = weight.detach().clone()
    strategy.backward((weight * torch.inf).sum())
    norm = strategy.step([optimizer], [weight], max_norm=1.0)
    assert not torch.isfinite(norm)
    assert torch.equal(weight, kept)
    assert all(torch.equal(value, before[name]) for name, value in optimizer.state[weight].items())
    assert strategy.scaler.get_scale() == SCALE / 2
