"""Random weights at a model's true shape, made on the device itself: no download, no copy through the CPU."""

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights


def build_dummy(
    config: PretrainedConfig, dtype: torch.dtype, device: torch.device, attn_impl: str, seed: int
) -> PreTrainedModel:
    """A causal LM of that shape: matrices normal(0, 0.02), norms one, biases zero.

    The draw depends on `seed` and on the device's generator; on `meta` nothing is drawn.
    """
    with torch.device(device), no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attn_impl)
    model.tie_weights()
    if device.type != "meta":
        _fill(model, torch.Generator(device).manual_seed(seed))
    return model


@torch.no_grad()
def _fill(model: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, 0.02, generator=generator)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.fill_(1.0)
