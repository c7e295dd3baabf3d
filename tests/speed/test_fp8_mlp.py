"""The gated MLP computed as one operator gives what its fp8 layers give one by one, and only gated MLPs are."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from swiftlite.models.native.qwen import QWenConfig, QWenLMHeadModel
from swiftlite.speed.adapter_copies import AdapterCopies
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.fp8_linears import fp8_linears
from swiftlite.speed.fp8_mlp import fp8_mlp
from swiftlite.speed.gated_mlps import _FastMlp
from swiftlite.speed.linears import Group, _join, speed_up_linears

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}


def llama(**changes):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, intermediate_size=48, **changes))


def qwen2():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, intermediate_size=48))


def qwen1():
    torch.manual_seed(0)
    return QWenLMHeadModel(QWenConfig(**SIZES, intermediate_size=96, seq_length=64, kv_channels=16))


def frozen(model):
    return model.requires_grad_(False)


def with_lora(model, targets, **changes):
    if not targets:
        return frozen(model)
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=targets, **changes))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return model


def fused(model):
    return [module for module in model.modules() if isinstance(module, _FastMlp)]


def one_by_one(model):
    """The same model whose layers compute one by one."""
    model = copy.deepcopy(model)
    for module in fused(model):
        module.__class__ = type(module).__bases__[1]
    assert not fused(model)
    return model


def results(model):
    """Logits, and gradients of the adapters and of what enters the layers."""
    ids = torch.arange(24).view(2, 12) * 7 % 64
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad} | {"input": embedded}
    torch.manual_seed(2)
    gradients = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), list(wanted.values()))
    return {"logits": logits.detach()} | dict(zip(wanted, gradients))


def assert_close(found, expected, tolerance=2e-3):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        distance = ((value - expected[name]).norm() / expected[name].norm()).item()
        assert distance < tolerance, (name, distance)


@pytest.mark.parametrize(
    "targets",
    [
        (),
        ("gate_proj",),
        ("down_proj",),
        ("gate_proj", "up_proj", "down_proj"),
        ("q_proj", "up_proj"),
    ],
)
def test_outputs_and_gradients_are_those_of_the_layers_one_by_one(targets):
    model = with_lora(llama(mlp_bias=True), list(targets))
    notes = speed_up_linears(model, quant_method="fp8")
    assert len(fused(model)) == 2 and any(note.startswith("MLPs: 2 gated ones") for note in notes)
    assert_close(results(model), results(one_by_one(model)))


def test_weights_of_very_unequal_rows_keep_a_scale_each():
    model = frozen(llama())
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight[::3] *= 1e-3
            layer.mlp.down_proj.weight[::3] *= 1e-3
    speed_up_linears(model, quant_method="fp8")
    mlp = fused(model)[0].gated_mlp
    assert mlp.first.stored.back_scale is None and mlp.last.stored.back_scale is None
    assert_close(results(model), results(one_by_one(model)))


@pytest.mark.parametrize(("make", "gate"), [(llama, 0), (qwen2, 0), (qwen1, 1)])
def test_gate_is_found_by_computing(make, gate):
    model = frozen(make())
    speed_up_linears(model, quant_method="fp8")
    assert [module.gated_mlp.gate for module in fused(model)] == [gate] * 2
    assert_close(results(model), results(one_by_one(model)))


class Limited(nn.Module):
    """Looks like an MLP with silu as long as values are small."""

    def __init__(self, mlp):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x):
        gate, up = self.gate_proj(x).clamp(max=7), self.up_proj(x).clamp(-7, 7)
        return self.down_proj(nn.functional.silu(gate) * up)


class WithDropout(Limited):
    def forward(self, x):
        inside = nn.functional.silu(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(nn.functional.dropout(inside, 0.1, self.training))


@pytest.mark.parametrize("kind", ["relu", "gelu", "gelu_pytorch_tanh", Limited, WithDropout])
def test_a_module_that_only_looks_alike_is_left_alone(kind):
    model = frozen(llama(hidden_act=kind if isinstance(kind, str) else "silu"))
    if not isinstance(kind, str):
        for layer in model.model.layers:
            layer.mlp = kind(layer.mlp)
    speed_up_linears(model, quant_method="fp8")
    assert not fused(model)


def test_without_fp8_and_for_another_architecture_nothing_is_fused():
    plain = frozen(llama())
    speed_up_linears(plain)
    gpt2 = frozen(GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64)))
    speed_up_linears(gpt2)
    assert not fused(plain) and not fused(gpt2)


@pytest.mark.parametrize("case", ["disabled", "dropout", "merged", "hook"])
def test_layers_compute_one_by_one_where_something_stands_between(case, monkeypatch):
    model = with_lora(llama(), ["gate_proj", "down_proj"], lora_dropout=0.1 if case == "dropout" else 0.0)
    speed_up_linears(model, quant_method="fp8")
    model.train()
    calls = []
    monkeypatch.setattr("swiftlite.speed.gated_mlps.fp8_mlp", lambda x, *_: calls.append(1) or x)
    if case == "disabled":
        model.disable_adapter_layers()
    elif case == "hook":
        for mlp in fused(model):
            mlp.up_proj.register_forward_hook(lambda *_: None)
    elif case == "merged":
        for mlp in fused(model):
            mlp.down_proj.merged_adapters.append("default")
    if case == "merged":
        assert not any(mlp.gated_mlp.is_plain() for mlp in fused(model))
    else:
        model(input_ids=torch.zeros(1, 4, dtype=torch.int64))
    assert not calls


def test_names_and_files_stay():
    model = with_lora(llama(), ["gate_proj"])
    before = [name for name, _ in model.named_parameters()]
    speed_up_linears(model, quant_method="fp8")
    assert [name for name, _ in model.named_parameters()] == before


@pytest.mark.parametrize(("mode", "targets", "calls"), [
    ("off", ["gate_proj", "up_proj", "down_proj"], [6, 2, 2]),
    ("full", ["gate_proj", "up_proj", "down_proj"], [12, 4, 2]),
    ("full", ["gate_proj"], [12, 2, 2]),
    ("selective", ["q_proj"], [12, 2, 2]),
])  # fmt: skip
def test_compiled_gives_the_same_in_one_graph_and_repeats_no_last_product(mode, targets, calls):
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True  # as compile_layers has it
    torch._dynamo.reset()
    model = with_lora(llama(), targets)
    speed_up_linears(model, quant_method="fp8")
    model.train()
    expected = results(model)
    apply_checkpointing(model, mode)
    backend = CompileCounterWithBackend("aot_eager_decomp_partition")
    for layer in model.base_model.model.model.layers:
        layer.compile(backend=backend, fullgraph=True)
    assert_close(results(model), expected, 1e-5)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        results(model)
    counts = {event.key: event.count for event in profile.key_averages()}
    names = ("fp8_linears", "fp8_gated", "fp8_last_product")
    assert [counts[f"swiftlite::{name}"] for name in names] == calls
    assert backend.frame_count == 1


# What follows runs Triton.


def problem(tokens, hidden, width, ranks, gate, common, device="cuda"):
    """x and the groups of a gated MLP in bfloat16, the same everywhere; on a GPU with copies as in training."""
    torch.manual_seed(0)
    x = torch.randn(tokens, hidden, dtype=torch.bfloat16)
    linears = [nn.Linear(hidden, width), nn.Linear(hidden, width), nn.Linear(width, hidden)]
    if not common:
        for linear in linears:
            linear.weight.data[::5] *= 1e-3
    model = nn.ModuleDict(dict(zip(("one", "two", "down"), linears))).to(torch.bfloat16).requires_grad_(False)
    if any(ranks):
        config = LoraConfig(
            r=8, target_modules=[name for name, rank in zip(model, ranks) if rank], lora_alpha=32,
            rank_pattern={name: rank for name, rank in zip(model, ranks) if rank},
        )  # fmt: skip
        model = inject_adapter_in_model(config, model)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
    model = model.to(device)
    groups = [Group([model["one"], model["two"]]), Group([model["down"]])]
    for group in groups:
        group.store_in_fp8(1)
        for place, member in enumerate(group.members):
            _join(member, group, place)
    adapters = [one for group in groups if device == "cuda" for one in group.keep_copies()]
    if adapters:
        AdapterCopies(adapters).refresh()
    return x.to(device).requires_grad_(), groups, gate


def distances(found, expected):
    pairs = zip(found, expected, strict=True)
    return [
        ((one.cpu().float() - other.cpu().float()).norm() / other.float().norm().cpu()).item() for one, other in pairs
    ]


def outcomes(x, groups, gate, *, fuse):
    """The output, and gradients of x and all adapters."""
    first, last = [group.fp8_layers() for group in groups]
    if fuse:
        y = fp8_mlp(x, first, last, gate)
    else:
        halves = fp8_linears(x, first)
        inside = (nn.functional.silu(halves[gate].float()) * halves[1 - gate].float()).to(x.dtype)
        (y,) = fp8_linears(inside, last)
    torch.manual_seed(3)
    incoming = torch.randn(y.shape).to(y)
    wanted = [x, *(t for layers in (first, last) for t in (*layers.a, *layers.b) if t is not None)]
    return [y.detach(), *torch.autograd.grad(y, wanted, incoming)]


RANKS = [(0, 0, 0), (8, 8, 8), (8, 0, 0), (0, 0, 8), (8, 8, 0), (64, 64, 64)]


@pytest.mark.gpu
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("common", [True, False])
def test_on_a_gpu_the_kernels_give_what_the_layers_give_one_by_one(ranks, gate, common):
    problem_here = problem(257, 512, 1408, ranks, gate, common)
    found, expected = (outcomes(*problem_here, fuse=fuse) for fuse in (True, False))
    assert max(distances(found, expected)) < 5e-3


def exact_outcomes(x, groups, gate):
    """As `outcomes`, in float64 on the stored weights, with nothing between the products rounded."""
    trained, x = [], x.detach().double().requires_grad_()

    def through(x, group):
        layers, parts = group.fp8_layers(), []
        a, b = [[None if t is None else t.detach().double().requires_grad_() for t in s] for s in (layers.a, layers.b)]
        trained.extend(t for t in (*a, *b) if t is not None)
        rows = layers.weights.rows.double() * layers.weights.scale.double()[:, None]
        whole = (x @ rows.t() + layers.bias.double()).split(list(layers.sizes), 1)
        for part, down, up, factor in zip(whole, a, b, layers.factors):
            parts.append(part if down is None else part + factor * (x @ down.t()) @ up.t())
        return parts

    halves = through(x, groups[0])
    (y,) = through(nn.functional.silu(halves[gate]) * halves[1 - gate], groups[1])
    torch.manual_seed(3)
    incoming = torch.randn(y.shape).bfloat16().double()
    return [y.detach(), *torch.autograd.grad(y, [x, *trained], incoming)]


@pytest.mark.gpu
@pytest.mark.parametrize("ranks", RANKS)
def test_a_gpu_is_as_close_to_float64_as_the_cpu(ranks):
    """Not to each other: an adapter that rides along may change a row's scale, and so how all of it is rounded."""
    here, there = (problem(257, 512, 1408, ranks, 1, True, device) for device in ("cuda", "cpu"))
    exact = exact_outcomes(*there)
    found, reference = (distances(outcomes(*one, fuse=True), exact) for one in (here, there))
    # Rounded twice to a mantissa of 3 bits, each time by 2.6 % of its size on average.
    assert max(reference) < 5e-2
    assert all(one < 1.05 * other + 1e-3 for one, other in zip(found, reference, strict=True)), (found, reference)


@pytest.mark.gpu
def test_an_adapter_far_larger_than_its_row_does_not_overflow():
    x, groups, gate = problem(64, 512, 1408, (8, 8, 8), 0, True)
    for group in groups:
        for member in group.members:
            for tensor in (member.lora_A["default"].weight, member.lora_B["default"].weight):
                tensor.data *= 100
    AdapterCopies([one for group in groups for one in group.keep_copies()]).refresh()
    found, expected = (outcomes(x, groups, gate, fuse=fuse) for fuse in (True, False))
    assert max(distances(found, expected)) < 5e-3
