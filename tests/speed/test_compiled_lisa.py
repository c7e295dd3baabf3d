"""Compiled layers under LISA: two graphs serve every draw, and compute what uncompiled layers do, in little memory."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.models.layers import find_layers
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.compile import compile_layers
from swiftlite.train.config import SftConfig
from swiftlite.tuners.lisa.tuner import LisaTuner
from tests.speed.test_compile import graphs, make, step


def lisa(model: nn.Module) -> LisaTuner:
    settings = {"sft_type": "full", "lisa_activated_layers": 1, "lisa_step_interval": 1}
    tuner = LisaTuner(SftConfig(model="nano", dataset="demo", **settings))
    tuner.apply(model)
    return tuner


def check_draws(draws: int) -> None:
    model = make("llama")
    tuner = lisa(model)
    apply_checkpointing(model, "full")
    compile_layers(model, dynamic=True)
    assert graphs() == 2, "one awake, one asleep"
    seen = set()
    for number in range(draws):
        tuner.before_step(model, [], number)
        seen.add(tuple(tuner.awake))
        loss, gradients = step(model, 3, 21)
        reference = make("llama")
        lisa(reference).before_step(reference, [], number)
        expected, theirs = step(reference, 3, 21)
        assert loss == pytest.approx(expected, rel=1e-5) and gradients.keys() == theirs.keys()
        for name, gradient in theirs.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7)
    assert len(seen) == len(find_layers(model) or ())
    assert graphs() == 2


def test_no_draw_is_compiled_anew(traced):
    check_draws(12)


@pytest.mark.slow
def test_no_draw_is_compiled_anew_in_machine_code(fresh):
    check_draws(6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_memory_is_that_of_the_layers_awake():
    with torch.device("cuda"):
        sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16, "num_attention_heads": 8}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=512, **sizes)).bfloat16()
        ids = torch.zeros(1, 8, dtype=torch.int64)
    tuner = lisa(model)
    optimizer = torch.optim.AdamW(tuner.parameter_groups(model, 1e-3, 0.0), fused=True)
    weights = sum(p.numel() for p in model.parameters())
    awake = sum(p.numel() for p in model.parameters() if p.requires_grad)
    torch.cuda.reset_peak_memory_stats()
    for number in range(8):
        tuner.before_step(model, [optimizer], number)
        model(input_ids=ids, use_cache=False).logits.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    # In bytes: bf16 weights; of those awake gradients and two moments too; activations and cuBLAS' workspace. With
    # gradients and moments of all weights it would be three times as much.
    assert torch.cuda.max_memory_allocated() < 2 * weights + 6 * awake + 128 * 2**20
