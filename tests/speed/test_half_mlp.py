"""The gated MLP with adapters in half precision, computed as one, gives what PEFT's own layers give one by one."""

import copy

import pytest
import torch
from torch import nn

from swiftlite.speed.gated_mlps import _FastMlp
from swiftlite.speed.half_mlp import HalfLayers, half_mlp
from swiftlite.speed.linears import speed_up_linears
from tests.speed.test_fp8_mlp import assert_close, llama, qwen1, qwen2, results, with_lora

MLP = ["gate_proj", "up_proj", "down_proj"]


def fused(model):
    return [module for module in model.modules() if isinstance(module, _FastMlp)]


@pytest.mark.parametrize(
    ("make", "targets"),
    [(llama, MLP), (qwen2, ["q_proj", *MLP]), (qwen1, ["w1", "w2", "c_proj"])],
)
def test_outputs_and_gradients_are_those_of_peft(make, targets):
    model = with_lora(make(), targets)
    plain = copy.deepcopy(model)
    notes = speed_up_linears(model)
    assert len(fused(model)) == 2 and "MLPs: 2 gated ones, each computed as one operator between its products" in notes
    assert_close(results(model), results(plain), tolerance=1e-5)


@pytest.mark.parametrize("targets", [["gate_proj", "up_proj"], ["q_proj"], []])
def test_without_an_adapter_on_each_layer_nothing_is_fused(targets):
    model = with_lora(llama(), targets)
    speed_up_linears(model)
    assert not fused(model)


def test_with_a_bias_nothing_is_fused():
    model = with_lora(llama(mlp_bias=True), MLP)
    speed_up_linears(model)
    assert not fused(model)


def test_adapters_of_unlike_ranks_and_factors():
    model = with_lora(llama(), MLP, rank_pattern={"up_proj": 2}, alpha_pattern={"gate_proj": 3})
    plain = copy.deepcopy(model)
    speed_up_linears(model)
    assert len(fused(model)) == 2
    assert_close(results(model), results(plain), tolerance=1e-5)


def test_a_disabled_adapter_is_not_there():
    model = with_lora(llama(), MLP)
    plain = copy.deepcopy(model)
    speed_up_linears(model)
    ids = torch.arange(24).view(2, 12)
    with model.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits)


def test_the_first_layer_needs_no_gradient_of_its_input():
    model = with_lora(llama(), MLP)
    plain = copy.deepcopy(model)
    speed_up_linears(model)
    found, expected = ([p.grad for p in one.parameters() if p.requires_grad] for one in map(_trained, (model, plain)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def _trained(model):
    model(torch.arange(24).view(2, 12)).logits.square().sum().backward()
    return model


@pytest.mark.gpu
@pytest.mark.parametrize(("tokens", "columns", "rank"), [(200, 512, 8), (33, 272, 5), (64, 1024, 64)])
def test_a_gpu_in_bf16_is_as_close_to_float64_as_layers_one_by_one(tokens, columns, rank):
    def tensors(device, dtype):
        generator = torch.Generator().manual_seed(0)

        def new(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        def move(t):
            return t.bfloat16().to(device, dtype)

        shapes = [(columns, 128), (columns, 128), (128, columns)]
        weights = [new(*shape) / shape[1] ** 0.5 for shape in shapes]
        adapters = [(new(rank, i) / i**0.5, new(o, rank) * 0.1) for o, i in shapes]
        x = new(tokens, 128)
        weights = [move(w) for w in weights]
        a, b = ([move(pair[k]).requires_grad_() for pair in adapters] for k in (0, 1))
        return move(x).requires_grad_(), weights, a, b

    def run(device, dtype, fuse):
        x, weights, a, b = tensors(device, dtype)
        if fuse:
            first = HalfLayers(weights[:2], a[:2], b[:2], [0.5, 2.0], [], dtype)
            y = half_mlp(x, first, HalfLayers(weights[2:], a[2:], b[2:], [1.5], [], dtype), 0)
        else:

            def layer(x, k, s):
                return x @ weights[k].t() + s * (x @ a[k].t() @ b[k].t())

            y = layer(nn.functional.silu(layer(x, 0, 0.5)) * layer(x, 1, 2.0), 2, 1.5)
        torch.manual_seed(1)
        y.backward(torch.randn(y.shape, dtype=torch.float64).to(device, dtype))
        return [t.double().cpu() for t in (y.detach(), x.grad, *(p.grad for p in (*a, *b)))]

    exact = run("cpu", torch.float64, False)
    distances = [
        [((t - e).norm() / e.norm()).item() for t, e in zip(run("cuda", torch.bfloat16, fuse), exact)]
        for fuse in (True, False)
    ]
    for one, plain in zip(*distances):
        assert one < 1.2 * plain + 1e-3, distances
