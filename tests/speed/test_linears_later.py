"""Grouped linear layers do what PEFT's do one by one, whatever happens to their adapters after the grouping."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from swiftlite.speed.linears import speed_up_linears

IDS = torch.arange(20).view(2, 10)
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


def make_model(dropout: float = 0.0) -> PeftModel:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=64, num_hidden_layers=2, **SIZES))
    return get_peft_model(model, settings(["q_proj", "v_proj", "gate_proj", "down_proj"], lora_dropout=dropout)).eval()


def settings(targets: list[str], **more) -> LoraConfig:
    return LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **more)


def logits(model: PeftModel) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def switch(model: PeftModel, config: LoraConfig) -> None:
    torch.manual_seed(1)
    model.add_adapter("other", config)
    model.set_adapter("other")
    for name, weight in model.named_parameters():
        if name.endswith("lora_B.other.bias"):
            weight.data.fill_(1.0)


@pytest.mark.parametrize(
    "config", [settings(["q_proj"]), settings(["q_proj"], use_dora=True), settings(["k_proj"], lora_bias=True)]
)
def test_an_adapter_added_later_is_computed_by_peft(config):
    plain, grouped = make_model(), make_model()
    speed_up_linears(grouped)
    for model in (plain, grouped):
        switch(model, copy.deepcopy(config))
    torch.testing.assert_close(logits(grouped), logits(plain))
    for model in (plain, grouped):
        model.set_adapter("default")
    torch.testing.assert_close(logits(grouped), logits(plain))


def test_a_deleted_adapter_is_computed_no_more():
    plain, grouped = make_model(), make_model()
    speed_up_linears(grouped)
    for model in (plain, grouped):
        switch(model, settings(["q_proj"]))
        model.delete_adapter("default")
    torch.testing.assert_close(logits(grouped), logits(plain))


def test_merging_and_copies_of_the_model_keep_its_logits():
    grouped = make_model()
    expected = logits(grouped)
    speed_up_linears(grouped)
    torch.testing.assert_close(logits(copy.deepcopy(grouped)), expected)
    torch.testing.assert_close(logits(grouped.merge_and_unload()), expected)


def test_layers_with_dropout_leave_nothing_of_their_group_in_memory():
    model = make_model(dropout=0.5).train()
    speed_up_linears(model)
    logits(model).sum().backward()
    assert all(module.group.outputs is None for module in model.modules() if hasattr(module, "group"))


def test_layers_kept_in_float32_train_under_autocast():
    plain, grouped, losses = make_model().bfloat16(), make_model().bfloat16(), []
    with torch.autocast("cpu", torch.bfloat16):
        for model in (plain, grouped):
            model.get_submodule("base_model.model.model.layers.1.mlp.up_proj").float()
            if model is grouped:
                speed_up_linears(model)
            losses.append(logits(model).float().square().mean())
    for loss in losses:
        loss.backward()
    for ours, theirs in zip(grouped.parameters(), plain.parameters()):
        if theirs.grad is not None:
            assert (ours.grad - theirs.grad).norm() <= 0.05 * theirs.grad.norm()


@pytest.mark.parametrize("method", ["none", "fp8"])
def test_a_model_may_change_what_a_layer_gave_it_in_place(method):
    model = make_model().train()
    speed_up_linears(model, quant_method=method)
    attention = model.get_submodule("base_model.model.model.layers.0.self_attn")
    x = torch.randn(2, 10, 32, requires_grad=True)
    (expected,) = torch.autograd.grad(attention.q_proj(x).sum() * 2, x)
    query = attention.q_proj(x)
    query *= 2
    (changed,) = torch.autograd.grad(query.sum(), x)
    torch.testing.assert_close(changed, expected)
