"""Stochastic rounding is right on average, keeps what nearest rounding loses, and is AdamW otherwise."""

import copy

import pytest
import torch

from swiftlite.speed.compiled_function import CompiledOrEager
from swiftlite.speed.stochastic_adamw import StochasticAdamW, _update, stochastically_rounded

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


@pytest.mark.parametrize("value", [1.001, -1.001, 3e-5, 1.0039, -250.3, 0.0])
def test_the_mean_of_many_roundings_is_the_value(value):
    torch.manual_seed(0)
    n = 200_000
    rounded = stochastically_rounded(torch.full((n,), value)).double()
    exact = torch.tensor(value).double()
    assert len(rounded.unique()) <= 2
    # Neighbours lie at most 2^-7 apart; the mean of n draws strays by 5 standard errors at most.
    assert (rounded.mean() - exact).abs() <= 5 * 2**-8 * exact.abs() / n**0.5 + 1e-30
    assert ((rounded - exact).abs() <= 2**-7 * exact.abs()).all()


def test_bf16_numbers_and_what_is_not_finite_stay():
    values = torch.tensor([1.0, -0.5, 0.0, float("inf"), -float("inf"), float("nan")])
    assert torch.equal(stochastically_rounded(values).float().nan_to_num(7.0), values.nan_to_num(7.0))


def trained(weight: torch.Tensor, gradients: list[torch.Tensor], kind: type, **settings) -> torch.Tensor:
    weight = torch.nn.Parameter(weight.clone())
    optimizer = kind([weight], **(SETTINGS | settings))
    for gradient in gradients:
        weight.grad = gradient.to(weight.dtype)
        optimizer.step()
    return weight.detach()


def test_in_float32_it_is_torchs_adamw():
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 5), [torch.randn(4, 5) for _ in range(6)]
    torch.testing.assert_close(
        trained(start, gradients, StochasticAdamW), trained(start, gradients, torch.optim.AdamW), rtol=1e-6, atol=1e-7
    )


def test_updates_too_small_for_bf16_survive_on_average():
    """Each step moves a weight of 1 by 1e-3, half of what nearest rounding would notice."""
    torch.manual_seed(0)
    start, gradients = torch.ones(4096, dtype=torch.bfloat16), [torch.ones(4096)] * 40
    settings = {"lr": 1e-3, "weight_decay": 0.0}
    assert torch.equal(trained(start, gradients, torch.optim.AdamW, **settings), start)
    moved = 1 - trained(start, gradients, StochasticAdamW, **settings).float()
    assert moved.mean().item() == pytest.approx(40 * 1e-3, rel=0.02)


def test_the_second_moment_follows_gradients_though_its_changes_are_small():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = StochasticAdamW([weight], lr=1e-3, betas=(0.9, 0.999))
    for _ in range(600):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert optimizer.state[weight]["exp_avg_sq"].float().mean().item() == pytest.approx(1 - 0.999**600, rel=0.02)


def test_a_bad_step_changes_nothing():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, dtype=torch.bfloat16))
    optimizer = StochasticAdamW([weight], **SETTINGS)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    before = [weight.detach().clone(), *(t.clone() for t in optimizer.state[weight].values())]
    weight.grad = torch.full_like(weight, float("nan"))
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, [weight, *optimizer.state[weight].values()]))


def test_a_resumed_optimizer_goes_on_bit_identically():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(64, dtype=torch.bfloat16))
    optimizer = StochasticAdamW([weight], **SETTINGS)
    gradients = torch.randn(6, 64).bfloat16()
    for g in gradients[:3]:
        weight.grad = g.clone()
        optimizer.step()
    again = torch.nn.Parameter(weight.detach().clone())
    resumed = StochasticAdamW([again], **SETTINGS)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    state = torch.get_rng_state()
    for w, o in ((weight, optimizer), (again, resumed)):
        torch.set_rng_state(state)
        for g in gradients[3:]:
            w.grad = g.clone()
            o.step()
    assert torch.equal(weight, again)


def test_the_update_compiles_in_one_graph_for_all_sizes():
    torch._dynamo.reset()
    compiled = torch.compile(_update, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (8, 33):
        torch.manual_seed(0)
        flat = [torch.randn(size).bfloat16() for _ in range(2)] + [torch.zeros(size, dtype=torch.bfloat16)] * 2
        ours, theirs = [[t.clone() for t in flat] for _ in range(2)]
        rest = (torch.ones(1), torch.tensor([1e-2, 0.9, 0.95, 1e-8, 0.1]), torch.zeros(1))
        state = torch.get_rng_state()
        compiled(*ours, *rest)
        torch.set_rng_state(state)
        _update(*theirs, *rest)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_where_nothing_compiles_the_update_runs_as_it_is_and_says_so(monkeypatch):
    def no_compiler(_):
        def fail(*args):
            raise RuntimeError("no C compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    doubled = CompiledOrEager(lambda values: values.mul_(2))
    values = torch.ones(3)
    with pytest.warns(UserWarning, match="runs uncompiled, which is slower: no C compiler found"):
        doubled(values)
    doubled(values)
    assert values.tolist() == [4.0] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_compiled_on_cuda_small_updates_survive_and_runs_repeat():
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        start = torch.ones(4096, 8, dtype=torch.bfloat16, device="cuda")
        gradients = [torch.ones_like(start)] * 40
        results.append(trained(start, gradients, StochasticAdamW, lr=1e-3, weight_decay=0.0))
    assert (1 - results[0].float()).mean().item() == pytest.approx(40e-3, rel=0.02)
    assert torch.equal(*results)
