"""Block expansion: copies of decoder layers that change nothing until they are trained."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from swiftlite.config.errors import UserError
from swiftlite.models.dummy import build_dummy
from swiftlite.models.layers import find_layers
from swiftlite.models.modes import in_mode

# What writes into the residual stream, in the names of Llama and its like, of GPT-2 and Qwen-1, of GLM and of Phi.
_OUTPUTS = {"o_proj", "out_proj", "down_proj", "c_proj", "dense", "dense_4h_to_h", "fc2"}
# Far above rounding, far below what a layer that is no identity changes.
_SAME = 1e-3


def expand(model: PreTrainedModel, blocks: int, groups: int) -> list[int]:
    """Adds `blocks` layers to `model` and its config; returns their numbers.

    The old layers stand in `groups` of equal size; behind each come its share of copies of its last layer, whose
    projections into the residual stream are zero (Wu et al., "LLaMA Pro", arXiv 2401.02415, section 3.2): with both at
    zero attention and MLP add nothing, and the model computes what it did. That is seen to by a trial (not on meta).

    Raises:
        UserError: the layers cannot be grouped so, the expanded model computes something else, or its config could not
            describe it.
    """
    layers = find_layers(model)
    if layers is None or len(layers) % groups:
        there = 0 if layers is None else len(layers)
        fits = [n for n in range(1, there + 1) if there % n == 0]
        raise UserError(
            f"--llamapro_num_new_blocks {blocks}: the {there} layers of {type(model).__name__} cannot stand in "
            f"{groups} groups of one size; give {' or '.join(map(str, fits)) or 'another model'} as "
            "the number of blocks, or as --llamapro_num_groups one of these that divides it"
        )
    before = _logits(model)
    origins = _origins(len(layers), blocks, groups)
    new = [number for number, origin in enumerate(origins) if number and origin == origins[number - 1]]
    for number in new:
        layers.insert(number, _silent_copy(layers[number - 1]))
    for number, layer in enumerate(layers):
        for module in layer.modules():
            # The place in the cache.
            if hasattr(module, "layer_idx"):
                module.layer_idx = number  # pyrefly: ignore
    _expand_config(model.config.get_text_config(), origins)
    after = _logits(model)
    if before is not None and after is not None and not (after - before).norm() <= _SAME * before.norm():
        raise UserError(
            f"--sft_type llamapro: copies of the layers of {type(model).__name__} do not stay silent, so it cannot be "
            "expanded without changing what it computes; choose another --sft_type"
        )
    _check_reopens(model)
    return new


def _origins(layers: int, blocks: int, groups: int) -> list[int]:
    """For each layer of the expanded model, the old layer that it is or is a copy of."""
    size, copies = layers // groups, blocks // groups
    return [n for n in range(layers) for _ in range(1 + copies * ((n + 1) % size == 0))]


def _silent_copy(layer: nn.Module) -> nn.Module:
    new = copy.deepcopy(layer)
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            if _OUTPUTS & set(name.split(".")):
                parameter.zero_()
    return new


def _expand_config(config: Any, origins: list[int]) -> None:
    """The number of layers, and what is listed layer by layer (`layer_types`)."""
    old = config.num_hidden_layers
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == old and "layer" in name:
            setattr(config, name, [value[origin] for origin in origins])
    config.num_hidden_layers = len(origins)


def _check_reopens(model: PreTrainedModel) -> None:
    """Raises a UserError when the config describes another model: some kinds of layer go by number (every second one
    with experts, say), which new layers have moved."""
    # Building a model writes its attention into the config.
    again = build_dummy(copy.deepcopy(model.config), model.dtype, torch.device("meta"), "eager", 0)
    shapes, described = ({n: p.shape for n, p in m.named_parameters()} for m in (model, again))
    if shapes != described:
        raise UserError(
            f"--sft_type llamapro: which layer of {type(model).__name__} is of which kind goes by its number, so a "
            "deeper one could not be opened again; choose other --llamapro_num_groups, or another --sft_type"
        )


@torch.no_grad()
def _logits(model: PreTrainedModel) -> torch.Tensor | None:
    """Of a short row, in float32; None for a model without weights."""
    device = next(model.parameters()).device
    if device.type == "meta":
        return None
    ids = torch.arange(1, 17, device=device)[None] % model.config.get_text_config().vocab_size
    with in_mode(model, training=False):
        return model(input_ids=ids, use_cache=False).logits.float()
