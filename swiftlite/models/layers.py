"""The decoder layers of a model: what is compiled, checkpointed, quantised and computed in groups."""

from collections.abc import Iterable

from torch import Tensor, nn


def find_layers(model: nn.Module) -> nn.ModuleList | None:
    """The decoder layers: of all lists of modules the one with the most parameters (experts lie inside layers)."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    return max(lists, key=lambda members: _size(members.parameters()), default=None)


def find_last_norm(model: nn.Module) -> nn.Module | None:
    """The normalisation that follows the decoder layers; None where nothing looks like one."""
    layers = find_layers(model)
    decoder = next((m for m in model.modules() if any(child is layers for child in m.children())), None)
    if layers is None or decoder is None:
        return None
    children = list(decoder.children())
    behind = children[next(i for i, child in enumerate(children) if child is layers) + 1 :]
    norms = [one for one in behind if "norm" in type(one).__name__.lower()]
    return norms[0] if len(norms) == 1 else None


def _size(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
