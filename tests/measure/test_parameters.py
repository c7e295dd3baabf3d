"""Parameter counts against closed formulas and the percentages printed in ms-swift's tables."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from swiftlite.measure.parameters import count_parameters, parameter_line

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def on_meta(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def qwen_7b():
    """Qwen-7B's shape: Qwen2 with attention bias has the same elements as the fused original."""
    return on_meta(
        Qwen2Config(
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            intermediate_size=11008,
            vocab_size=151936,
            tie_word_embeddings=False,
        )
    )


def llama3_8b():
    return on_meta(
        LlamaConfig(
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            intermediate_size=14336,
            vocab_size=128256,
            tie_word_embeddings=False,
        )
    )


def repack(model, as_buffers):
    """Replaces the block linears' weights by 4-bit ones, two to a byte, as parameters or buffers."""
    for module in model.model.layers.modules():
        if isinstance(module, nn.Linear):
            packed = torch.empty(module.weight.numel() // 2, 1, dtype=torch.uint8, device="meta")
            del module.weight
            if as_buffers:
                module.register_buffer("weight", packed)
                bias, module.bias = module.bias, None
                if bias is not None:
                    module.register_buffer("packed_bias", bias.detach())
            else:
                module.weight = nn.Parameter(packed, requires_grad=False)
    return model


def with_rank_8(base, targets, features):
    """Adds trained A and B of rank 8 to each decoder layer for `features` = (in, out) of each target."""
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    for layer in base.model.layers:
        for target in targets:
            fan_in, fan_out = features[target]
            layer.add_module(f"{target}_A", nn.Linear(fan_in, 8, bias=False, device="meta"))
            layer.add_module(f"{target}_B", nn.Linear(8, fan_out, bias=False, device="meta"))
    return base


def test_qwen_7b_total_equals_the_published_formula():
    assert count_parameters(qwen_7b()).total == 7_721_324_544


def test_full_training_trains_everything():
    count = count_parameters(qwen_7b())
    assert count.trainable == count.total
    assert count.trainable_percent == 100


def test_line_has_ms_swifts_wording():
    model = qwen_7b().requires_grad_(False)
    model.model.norm.weight.requires_grad_(True)
    # 4096 / 7721324544 = 0.0001%; buffers: the rotary inverse frequencies (64) and their original.
    assert parameter_line(model) == (
        "Qwen2ForCausalLM: 7721.3245M Params (0.0041M Trainable [0.0001%]), 0.0001M Buffers."
    )


def test_lora_total_includes_the_adapter():
    rank = 8
    adapted = get_peft_model(qwen_7b(), LoraConfig(r=rank, target_modules=["o_proj", "down_proj"]))
    adapter = 32 * rank * ((4096 + 4096) + (11008 + 4096))
    count = count_parameters(adapted)
    assert count.trainable == adapter
    assert count.total == 7_721_324_544 + adapter


def test_peft_class_name_is_shown_as_given():
    adapted = get_peft_model(qwen_7b(), LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert parameter_line(adapted).startswith("PeftModelForCausalLM: ")


def test_4bit_weights_count_as_stored_as_in_the_unsloth_row():
    features = {"q_proj": (4096, 4096), "k_proj": (4096, 1024), "v_proj": (4096, 1024)}
    model = with_rank_8(repack(llama3_8b(), as_buffers=False), features, features)
    count = count_parameters(model)
    assert count.trainable == 4_718_592
    assert count.total == 4_545_318_912
    assert f"{count.trainable_percent:.4f}" == "0.1038"


def test_weights_held_as_buffers_are_not_parameters_as_in_the_awq_row():
    mlp = {"gate_proj": (4096, 11008), "up_proj": (4096, 11008), "down_proj": (11008, 4096)}
    features = {name: mlp.get(name, (4096, 4096)) for name in LINEARS}
    count = count_parameters(with_rank_8(repack(qwen_7b(), as_buffers=True), LINEARS, features))
    assert count.trainable == 19_988_480
    assert count.total == 2 * 151936 * 4096 + 65 * 4096 + 19_988_480
    assert f"{count.trainable_percent:.4f}" == "1.5802"


def test_tied_weights_count_once():
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    assert count_parameters(nn.Sequential(embedding, head)).total == 40


def test_zero3_partitions_count_at_their_true_size():
    layer = nn.Linear(4, 4, bias=False)
    layer.weight = nn.Parameter(torch.empty(0))
    layer.weight.ds_numel = 16
    assert count_parameters(layer).total == 16


@pytest.mark.parametrize("model", [nn.ReLU()])
def test_no_parameters_is_zero_percent(model):
    assert parameter_line(model) == "ReLU: 0.0000M Params (0.0000M Trainable [0.0000%]), 0.0000M Buffers."
