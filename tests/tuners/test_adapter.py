"""Bottleneck adapters against Houlsby's formula: where they stand, how they start, what is saved."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.infer.config import InferConfig
from swiftlite.infer.loading import load_parts
from swiftlite.speed.linears import speed_up_linears
from swiftlite.train.config import SftConfig
from swiftlite.tuners.added import load_saved_adapters
from swiftlite.tuners.registry import make_tuner

IDS = torch.arange(20).view(2, 10)


def base_of(folder) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def adapted(folder, **settings):
    config = SftConfig(model=str(folder), dataset="demo", sft_type="adapter", **settings)
    tuner = make_tuner("adapter", config)
    torch.manual_seed(0)
    return tuner, tuner.apply(base_of(folder))


def test_the_adapted_model_starts_as_the_base(tiny_model):
    _, model = adapted(tiny_model)
    assert torch.equal(model(IDS).logits, base_of(tiny_model)(IDS).logits)


def test_the_seeds_preset_starts_as_ms_swift_does(tiny_model):
    """Xavier weights, biases of deviation 1e-6: no identity."""
    _, model = adapted(tiny_model, preset="seed")
    bound = (6 / (32 + 128)) ** 0.5
    for layer in model.model.layers:
        up, down = layer.mlp.adapter.up, layer.mlp.adapter.down
        for weight in (up.weight, down.weight):
            assert weight.abs().max() <= bound and weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert 0 < up.bias.std() < 2e-6
    assert not torch.allclose(model(IDS).logits, base_of(tiny_model)(IDS).logits, atol=1e-4)


def test_logits_are_those_of_the_formula_behind_each_mlp(tiny_model):
    _, model = adapted(tiny_model, adapter_length=5, adapter_act="relu", adapter_init="xavier")
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {n: tuple(p.shape) for n, p in weights.items()} == {
        f"model.layers.{i}.mlp.adapter.{n}": shape
        for i in (0, 1)
        for n, shape in (
            ("down.weight", (5, 32)),
            ("down.bias", (5,)),
            ("up.weight", (32, 5)),
            ("up.bias", (32,)),
        )
    }
    reference = base_of(tiny_model)
    for i, layer in enumerate(reference.model.layers):

        def after(module, inputs, y, i=i):
            w = {n.split("adapter.")[1]: p for n, p in weights.items() if f"layers.{i}." in n}
            return y + F.linear(F.linear(y, w["down.weight"], w["down.bias"]).relu(), w["up.weight"], w["up.bias"])

        layer.mlp.register_forward_hook(after)
    torch.testing.assert_close(model(IDS).logits, reference(IDS).logits)


def test_all_adapter_weights_learn_and_nothing_else(tiny_model):
    tuner, model = adapted(tiny_model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(tuner.parameter_groups(model, 1e-2, 0.0))
    # From zero, `up` learns in the first step and `down` from the second one on.
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if ".adapter." in n}


def test_frozen_layers_may_be_grouped_under_it(tiny_model):
    _, model = adapted(tiny_model, preset="seed")
    _, grouped = adapted(tiny_model, preset="seed")
    assert speed_up_linears(grouped) == ["linears: 14 frozen ones, computed in 8 groups that read the same input"]
    for one in (model, grouped):
        one(input_ids=IDS, labels=IDS).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(grouped.get_parameter(name).grad, parameter.grad)


def test_a_saved_adapter_goes_on_where_it_was_and_serves_inference(tiny_model, tmp_path):
    tuner, model = adapted(tiny_model, adapter_length=7, preset="seed")
    tuner.save(model, tmp_path)
    assert all(".adapter." in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    expected = model(IDS).logits
    # The adapter's own settings hold.
    again = make_tuner("adapter", SftConfig(model=str(tiny_model), dataset="demo", sft_type="adapter"))
    loaded = again.load(base_of(tiny_model), tmp_path)
    assert torch.equal(loaded(IDS).logits, expected)
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    served = load_saved_adapters(base_of(tiny_model).bfloat16(), {"own": tmp_path})
    assert not any(p.requires_grad or p.dtype != torch.bfloat16 for p in served.parameters())
    parts = load_parts(InferConfig(model=str(tiny_model), adapters=[str(tmp_path)], device="cpu", dtype="fp32"))
    torch.testing.assert_close(parts.model(IDS).logits, expected)


def test_an_adapter_cannot_be_merged_and_another_kind_is_refused(tiny_model, tmp_path):
    tuner, model = adapted(tiny_model)
    tuner.save(model, tmp_path)
    settings = {"model": str(tiny_model), "adapters": [str(tmp_path)], "device": "cpu"}
    with pytest.raises(UserError, match="modules beside the weights"):
        load_parts(InferConfig(**settings, merge_lora=True))
    lora = SftConfig(model=str(tiny_model), dataset="demo")
    lora_folder = tmp_path / "lora"
    lora_tuner = make_tuner("lora", lora)
    lora_tuner.save(lora_tuner.apply(base_of(tiny_model)), lora_folder)
    with pytest.raises(UserError, match="it holds a LORA adapter, not adapter"):
        tuner.load(base_of(tiny_model), lora_folder)
    with pytest.raises(UserError, match="was made by --sft_type adapter"):
        lora_tuner.load(base_of(tiny_model), tmp_path)
