"""nf4 bases: the codes are those of QLoRA's paper, gradients follow the stored weights, adapters stay PEFT's."""

import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers
from swiftlite.quant.bnb import to_nf4
from swiftlite.speed.linears import speed_up_linears
from swiftlite.train.config import SftConfig

CPU = torch.device("cpu")
# Of 64 weights each, divided by their largest size (arXiv 2305.14314, appendix E).
NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip


def llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "attention_bias": True}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes, **heads)).to(dtype)


def in_nf4(weight: torch.Tensor) -> torch.Tensor:
    blocks = weight.detach().reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    codes = (blocks / largest)[..., None].sub(NF4).abs().argmin(-1)
    return (NF4[codes] * largest).view_as(weight)


def test_a_missing_package_is_named_with_its_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
    with pytest.raises(UserError, match="--quant_method bnb needs bitsandbytes: pip install bitsandbytes"):
        to_nf4(llama(), [], CPU)


def test_full_training_has_nothing_frozen_to_store():
    with pytest.raises(UserError, match=r"--quant_method bnb stores frozen weights and --sft_type full trains them"):
        SftConfig(model="nano", dataset="demo", sft_type="full", quant_method="bnb")


def check_nf4(device: torch.device) -> None:
    """Weights, and with an adapter the losses and gradients, are those of a model of the rounded weights."""
    model, reference = llama().to(device), llama()
    for layer in reference.model.layers:
        for linear in layer.modules():
            if isinstance(linear, nn.Linear):
                linear.weight.data = in_nf4(linear.weight)
    stored = to_nf4(model, find_layers(model), device)
    assert stored == 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    results = []
    for one in (model, reference):
        torch.manual_seed(1)
        wrapped = get_peft_model(one, config)
        ids = torch.arange(32)[None]
        loss = wrapped(input_ids=ids.to(one.device), labels=ids.to(one.device), use_cache=False).loss
        loss.backward()
        results.append((loss.item(), {n: p.grad.cpu() for n, p in wrapped.named_parameters() if p.grad is not None}))
    assert speed_up_linears(model) == []
    (loss, gradients), (expected, references) = results
    # Double quantisation stores the blocks' largest sizes in 8 bits.
    assert loss == pytest.approx(expected, rel=1e-3)
    assert gradients.keys() == references.keys() and references
    for name, gradient in references.items():
        assert (gradients[name] - gradient).norm() < 0.02 * gradient.norm(), name


def test_on_a_cpu_a_model_in_nf4_is_that_of_its_rounded_weights():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (swiftlite[quant])")
    check_nf4(CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_a_model_in_nf4_is_that_of_its_rounded_weights():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (swiftlite[quant])")
    check_nf4(torch.device("cuda"))
