"""The decoder layers of a model: what is compiled, checkpointed, quantised and computed in groups."""

from collections.abc import Iterable

from torch import Tensor, nn


def find_layers(model: nn.Module) -> nn.ModuleList | None:
    """The decoder layers: of all lists of modules the one with the most parameters (experts lie inside layers)."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    return max(lists, key=lambda members: _size(members.parameters()), default=None)


def _size(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
