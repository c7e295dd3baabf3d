"""An adapter folded into its base answers as before, and what does not is refused."""

import math

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.tuners.merging import compare, logits_of, merge_adapter

IDS = torch.arange(40)[None]
TARGETS = ["q_proj", "v_proj", "down_proj"]
SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def with_adapter(config):
    torch.manual_seed(0)
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZES)), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "ia3" in name or "magnitude" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules=TARGETS),
        LoraConfig(r=4, target_modules=TARGETS, use_dora=True),
        LoraConfig(r=4, target_modules=TARGETS, use_rslora=True, modules_to_save=["lm_head"]),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
    ids=["lora", "dora", "rslora", "ia3"],
)
def test_in_float32_logits_differ_by_less_than_a_ten_thousandth(config):
    model = with_adapter(config)
    expected = logits_of(model, IDS)
    with model.disable_adapter():
        base = logits_of(model, IDS)
    merged = merge_adapter(model, IDS)
    assert not hasattr(merged.model, "peft_config")
    found = merged.model.eval()(IDS).logits[0]
    assert merged.agreement.largest == (found - expected).abs().max() < 1e-4
    assert merged.agreement.top1 == 1.0 and merged.effect > 100 * merged.agreement.kl
    assert (base - expected).abs().max() > 1e-3


def test_agreement_is_that_of_the_definitions():
    first = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    found = compare(first, second)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    kl = lambda p, q: p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))  # noqa: E731
    assert (found.largest, found.size, found.top1, found.tokens) == (2.0, 2.0, 0.5, 2)
    expected = (kl(sigmoid(2), sigmoid(1)) + kl(sigmoid(-1), sigmoid(1))) / 2
    assert found.kl == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merge_that_changes_the_model_is_refused(dtype, monkeypatch):
    model = with_adapter(LoraConfig(r=4, target_modules=TARGETS)).to(dtype)

    def forgets(safe_merge):
        merged = model.unload()
        nn.init.normal_(merged.lm_head.weight)
        return merged

    monkeypatch.setattr(model, "merge_and_unload", forgets, raising=False)
    with pytest.raises(UserError, match=r"--merge_lora: the merged model is not the same .*nothing was written"):
        merge_adapter(model, IDS)


def test_in_bf16_what_rounding_loses_is_said():
    model = with_adapter(LoraConfig(r=4, target_modules=TARGETS)).bfloat16()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data *= 1e-3
    lines = merge_adapter(model, IDS).lines()
    assert "KL" in lines[0] and "rounding to bfloat16" in lines[1]


def test_prompts_cannot_be_folded_into_weights():
    model = with_adapter(PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with pytest.raises(UserError, match="PromptTuningConfig, which cannot be folded"):
        merge_adapter(model, IDS)
