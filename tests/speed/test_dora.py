"""DoRA computed in groups equals PEFT's DoRA, and its norms those of the matrix written out."""

import copy
import functools

import pytest
import torch
from peft import LoraConfig
from torch import nn
from torch._dynamo.utils import counters

from swiftlite.quant.fp8 import dequantise
from swiftlite.speed import dora
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.linears import speed_up_linears
from tests.speed.test_compile import graphs
from tests.speed.test_linears import (
    ALL,
    LAYERS,
    VOCABULARY,
    adapted,
    bare,
    both,
    check_equal,
    fill,
    groups_of,
    loss_of,
    qwen_folder,
)

__all__ = ["bare", "qwen_folder"]


def with_dora(model: nn.Module, targets: list[str], **settings) -> nn.Module:
    """DoRA whose B is not zero and whose magnitudes are not the norms."""
    model = adapted(model, targets, use_dora=True, **settings)
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1 + 0.2 * torch.randn_like(parameter)
    return model


def row_norms(weight, a, b, factor):
    """As the paper writes them, in float64."""
    return (weight.double() + factor * b.double() @ a.double()).norm(dim=1)


@pytest.mark.parametrize(
    ("name", "targets", "settings"),
    [
        ("llama", "all", {}),
        ("llama", ["v_proj"], {}),
        ("llama", ["k_proj", "up_proj", "down_proj"], {"use_rslora": True}),
        ("llama", ["q_proj", "v_proj", "gate_proj"], {"rank_pattern": {"v_proj": 3}, "alpha_pattern": {"v_proj": 5}}),
        ("qwen2", "all", {}),
        ("qwen2", ["q_proj", "o_proj"], {}),
        ("qwen", "all", {}),
    ],
)
def test_losses_and_gradients_are_those_of_peft(bare, name, targets, settings):
    model, fast, notes = both(with_dora(bare(name), ALL[name] if targets == "all" else targets, **settings))
    assert any("DoRA" in note for note in notes)
    check_equal(model, fast)


def test_the_readers_of_one_input_form_groups(bare):
    _, fast, _ = both(with_dora(bare("llama"), ["q_proj", "up_proj"]))
    assert {"q_proj", "k_proj", "v_proj"} in groups_of(fast) and {"gate_proj", "up_proj"} in groups_of(fast)


def test_norms_are_those_of_the_matrix_written_out_in_float64(bare):
    _, fast, _ = both(with_dora(bare("qwen2"), ALL["qwen2"]))
    for module in fast.modules():
        if getattr(module, "dora", None) is not None:
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            expected = row_norms(module.base_layer.weight, a, b, 3.0)
            assert ((module.norms - expected).abs() / expected).max() < 1e-6


def test_norms_follow_the_optimizer(bare):
    model, fast, _ = both(with_dora(bare("llama"), ALL["llama"]))
    for one in (model, fast):
        optimizer = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.05)
        for seed in range(3):
            optimizer.zero_grad()
            loss_of(one, seed).backward()
            optimizer.step()
    check_equal(model, fast)


def test_norms_of_a_frozen_adapter_are_taken_once_until_someone_writes_to_it(bare, monkeypatch):
    model, fast, _ = both(with_dora(bare("llama"), ["q_proj"]).eval().requires_grad_(False))
    taken = []
    take = dora.take_norms
    monkeypatch.setattr(dora, "take_norms", lambda layers: taken.extend(layers) or take(layers))
    assert loss_of(fast).item() == pytest.approx(loss_of(model).item(), rel=1e-6) and not taken
    for one in (model, fast):
        fill(one)
    assert loss_of(fast).item() == pytest.approx(loss_of(model).item(), rel=1e-6) and len(taken) == LAYERS


def test_names_and_saved_files_are_those_of_peft(bare, tmp_path):
    model, fast, _ = both(with_dora(bare("qwen2"), ALL["qwen2"]))
    assert list(fast.state_dict()) == list(model.state_dict())
    for folder, one in (("plain", model), ("fast", fast)):
        one.save_pretrained(tmp_path / folder, save_embedding_layers=False)
    weights = [(tmp_path / f / "adapter_model.safetensors").read_bytes() for f in ("plain", "fast")]
    assert weights[0] == weights[1]


def test_two_forward_passes_before_one_backward(bare):
    """As preference tuning has them."""
    _, fast, _ = both(with_dora(bare("llama"), ALL["llama"]))
    (loss_of(fast, 0) + loss_of(fast, 1)).backward()


def test_dropout_draws_as_peft_does_and_only_in_training(bare):
    model, fast, _ = both(with_dora(bare("qwen2"), ALL["qwen2"], lora_dropout=0.5))
    check_equal(model, fast)
    check_equal(model.eval(), fast.eval())


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_checkpointed_layers_have_the_same_gradients(bare, mode):
    model, fast, _ = both(with_dora(bare("qwen2"), ALL["qwen2"]))
    apply_checkpointing(fast, mode)
    check_equal(model, fast)


@pytest.mark.parametrize("checkpointing", ["off", "full"])
def test_compiled_layers_share_two_whole_graphs_with_the_same_gradients(bare, monkeypatch, checkpointing):
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    model, fast, _ = both(with_dora(bare("qwen2"), ALL["qwen2"]))
    apply_checkpointing(fast, checkpointing)
    assert "compiled for all lengths" in compile_layers(fast, dynamic=True)
    check_equal(model, fast)
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *fast.named_parameters()]:
            if "lora_B" in name:
                parameter *= 1.5
    check_equal(model, fast)
    assert graphs() == 2
    torch._dynamo.reset()


def test_without_its_adapter_a_model_is_its_base(bare):
    base = bare("qwen2").eval()
    expected = loss_of(base)
    _, fast, _ = both(with_dora(copy.deepcopy(base), ALL["qwen2"]))
    with fast.disable_adapter():
        assert loss_of(fast).item() == pytest.approx(expected.item(), rel=1e-6)


def test_merged_adapters_count_once_and_copies_have_norms_of_their_own(bare):
    model, fast, _ = both(with_dora(bare("qwen2"), ALL["qwen2"]))
    other = copy.deepcopy(fast)
    with torch.no_grad():
        for name, parameter in [*other.named_parameters(), *model.named_parameters()]:
            if "lora_B" in name:
                parameter *= 2
    assert loss_of(other).item() == pytest.approx(loss_of(model).item(), rel=1e-6)
    expected = loss_of(fast).item()
    assert loss_of(fast.merge_and_unload()).item() == pytest.approx(expected, rel=1e-5)


def test_other_adapters_are_those_of_peft(bare):
    model, fast, _ = both(with_dora(bare("llama"), ["q_proj", "v_proj"]))
    for one in (model, fast):
        torch.manual_seed(4)
        config = LoraConfig(r=2, target_modules=["q_proj", "k_proj"], use_dora=True, init_lora_weights=False)
        one.add_adapter("later", config)
        one.set_adapter("later")
    check_equal(model, fast)
    for one in (model, fast):
        one.set_adapter("default")
    check_equal(model, fast)


def in_fp8_and_written_out(bare, **settings) -> tuple[nn.Module, nn.Module]:
    """A model in fp8, and PEFT's on the weights that it rounded to."""
    fast = with_dora(bare("llama"), ALL["llama"], **settings)
    plain = copy.deepcopy(fast)
    notes = speed_up_linears(fast, quant_method="fp8")
    assert any(note.startswith("fp8: 0.0 of 0.0") for note in notes) and not any("not in fp8" in n for n in notes)
    rounded = dict(fast.named_modules())
    for name, module in plain.named_modules():
        if name.endswith("base_layer"):
            base = rounded[name]
            module.weight.data = dequantise(base.weight, base.scale, torch.float32)
    return fast, plain


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_on_an_fp8_base_the_norms_are_those_of_the_rounded_weights(bare, dropout):
    fast, plain = in_fp8_and_written_out(bare, lora_dropout=dropout)
    found = {}
    for one in (plain, fast):
        torch.manual_seed(5)
        loss = loss_of(one)
        loss.backward()
        found[one] = loss.item()
    # What is left is the rounding of activations to e4m3.
    assert found[fast] == pytest.approx(found[plain], rel=5e-3)
    for (name, ours), (_, theirs) in zip(fast.named_parameters(), plain.named_parameters()):
        if theirs.grad is not None and "self_attn.q" not in name and "self_attn.k" not in name:
            assert (ours.grad - theirs.grad).norm() < 0.15 * theirs.grad.norm(), name
    for (name, module), (_, other) in zip(fast.named_modules(), plain.named_modules()):
        if getattr(module, "dora", None) is not None:
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            expected = row_norms(other.base_layer.weight, a, b, 3.0)
            assert ((module.norms - expected).abs() / expected).max() < 1e-6, name


def test_in_bf16_gradients_are_as_close_to_float64_as_those_of_peft(bare):
    model = with_dora(bare("qwen2"), ALL["qwen2"])
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    model, fast, _ = both(model)
    exact_model = copy.deepcopy(model).double()
    loss_of(exact_model).backward()
    errors = []
    with torch.autocast("cpu", torch.bfloat16):
        for one in (fast, model):
            loss_of(one).backward()
    exact = {n: p.grad for n, p in exact_model.named_parameters() if p.grad is not None}
    for one in (fast, model):
        grads = {n: p.grad for n, p in one.named_parameters() if p.grad is not None}
        assert {g.dtype for g in grads.values()} == {torch.float32}
        errors.append(sum((grads[n].double() - e).norm() / e.norm() for n, e in exact.items()))
    assert errors[0] <= 1.05 * errors[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("method", "allowed"), [("none", 1.1), ("fp8", 12.0)])
@pytest.mark.parametrize("compiled", [False, True])
def test_on_cuda_bf16_gradients_are_near_those_of_float64(bare, method, allowed, compiled):
    """In bf16 as near as PEFT's; e4m3 has five bits less, and here the softmax of small scores makes the most of it."""
    torch._dynamo.reset()
    model = with_dora(bare("qwen2"), ALL["qwen2"])
    exact_model = copy.deepcopy(model).double()
    loss_of(exact_model).backward()
    exact = {n: p.grad for n, p in exact_model.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to("cuda", torch.float32 if "lora_" in name else torch.bfloat16)
    errors = []
    ids = torch.randint(3, VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(0)).cuda()
    for fast in (False, True):
        one = copy.deepcopy(model)
        with torch.autocast("cuda", torch.bfloat16):
            if fast:
                speed_up_linears(one, quant_method=method)
            if fast and compiled:
                assert "compiled for all lengths" in compile_layers(one, dynamic=True)
            one(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        grads = {n: p.grad.cpu().double() for n, p in one.named_parameters() if p.grad is not None}
        assert grads.keys() == exact.keys()
        errors.append(sum((grads[n] - e).norm() / e.norm() for n, e in exact.items()))
    assert errors[1] <= allowed * errors[0]
