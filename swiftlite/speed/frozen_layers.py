"""Finds the frozen linear layers that can be computed by groups, and which of them read the same input."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from swiftlite.models.modes import in_mode
from swiftlite.speed.autocast import autocast_dtype
from swiftlite.speed.dora import is_dora


def suitable_linears(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """The frozen, plain linear layers in decoder layers, bare or under one LoRA or DoRA adapter; none twice."""
    found = [module for layer in layers for module in _outermost(layer) if _is_suitable(module)]
    # A layer that several decoder layers share is found in each.
    return list(dict.fromkeys(found))


def base_of(member: nn.Module) -> Any:
    """The layer itself, which an adapter may stand on."""
    return member.base_layer if isinstance(member, LoraLinear) else member


def _outermost(layer: nn.Module) -> list[nn.Module]:
    """Linear layers and LoRA layers inside, without what is inside those."""
    found = []
    for child in layer.children():
        known = isinstance(child, (nn.Linear, LoraLinear))
        found += [child] if known else _outermost(child)
    return found


def _is_suitable(module: nn.Module) -> bool:
    base = base_of(module)
    if type(base) is not nn.Linear or base._forward_hooks or base._forward_pre_hooks:
        return False
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return False
    if autocast_dtype(base.weight.device.type) not in (None, base.weight.dtype):
        # Kept in float32 by a model in half precision: autocast casts it, forward and back.
        return False
    if not isinstance(module, LoraLinear):
        return True
    if type(module) is not LoraLinear or len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    known = name not in module.lora_variant or is_dora(module, name)
    return known and name in module.lora_A and not module.lora_bias.get(name) and not module.fan_in_fan_out


def has_dropout(module: Any) -> bool:
    """Whether the layer's adapter reads its input through a dropout in training."""
    return isinstance(module, LoraLinear) and not isinstance(
        module.lora_dropout[module.active_adapters[0]], nn.Identity
    )


@torch.no_grad()
def readers_of_one_input(model: nn.Module, modules: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """Groups the modules by the input they get in a small forward pass, in the order of their calls."""
    calls: list[tuple[nn.Module, Tensor]] = []
    hooks = [m.register_forward_pre_hook(lambda module, args: calls.append((module, args[0]))) for m in modules]
    try:
        ids = torch.zeros(1, 8, dtype=torch.int64, device=next(model.parameters()).device)
        with in_mode(model, training=False):
            model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    groups: list[list[nn.Module]] = []
    seen: set[int] = set()
    last: Tensor | None = None
    for module, read in calls:
        if id(module) in seen:
            continue
        seen.add(id(module))
        kind = base_of(module).weight
        # Those with dropout before their adapter leave their group in training, which must not wait for them.
        before = groups[-1][-1] if groups else module
        same_kind = base_of(before).weight.dtype == kind.dtype and has_dropout(before) == has_dropout(module)
        alike = last is read and groups and same_kind
        if alike:
            groups[-1].append(module)
        else:
            groups.append([module])
        last = read
    return groups + [[module] for module in modules if id(module) not in seen]
