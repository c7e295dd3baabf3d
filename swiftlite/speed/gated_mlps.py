"""Finds the gated MLPs of a model whose layers are in fp8 or carry adapters, and has each computed as one operator."""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from swiftlite.models.modes import in_mode
from swiftlite.speed.autocast import autocast_dtype
from swiftlite.speed.dora import is_dora
from swiftlite.speed.fp8_mlp import fp8_mlp
from swiftlite.speed.half_mlp import LARGEST_RANK, half_mlp

if TYPE_CHECKING:
    from swiftlite.speed.linears import Group

# Sizes of the gate in the trial: silu differs from its like around 1, and limits show far away from it.
_TRIAL_SIZES = (0.5, 1.0, 2.0, 4.0, 20.0)
_TRIAL_ROWS = 4
# Far above what half precision rounds off, far below what another activation makes.
_TRIAL_TOLERANCE = 0.02


class GatedMlp:
    """What a module computes: down(silu(gate(x)) · up(x)).

    Attributes:
        first: the group of gate and up; gate: the place of gate in it. last: that of down.
    """

    def __init__(self, module: nn.Module, first: "Group", last: "Group", gate: int) -> None:
        self.module, self.first, self.last, self.gate = module, first, last, gate

    def join(self) -> None:
        """Lets the module be computed as one; to be called once both groups are stored in fp8, if they are to be."""
        module: Any = self.module
        module.__class__ = _fast(type(module))
        module.gated_mlp = self

    def gains(self) -> bool:
        """Whether the module is faster computed as one: in fp8, or with an adapter on each of its layers.

        DoRA scales what a layer gives, for which the MLP as one operator has no place.
        """
        members = [*self.first.members, *self.last.members]
        if any(is_dora(m, m.active_adapters[0]) for m in members if isinstance(m, LoraLinear)):
            return False
        if self.first.stored is not None or self.last.stored is not None:
            return self.first.stored is not None and self.last.stored is not None
        return all(group.takes_half_mlp(LARGEST_RANK) for group in (self.first, self.last))

    def is_plain(self) -> bool:
        """Whether nothing but LoRA without dropout stands between the weights and what they give now."""
        return all(_is_plain(member) for group in (self.first, self.last) for member in group.members)

    def compute(self, x: Tensor) -> Tensor:
        """The module's output for x (..., in)."""
        if self.first.stored is not None:
            return fp8_mlp(x, self.first.fp8_layers(), self.last.fp8_layers(), self.gate)
        dtype = autocast_dtype(x.device.type) or self.first.dtype
        return half_mlp(x, self.first.half_layers(dtype), self.last.half_layers(dtype), self.gate)


class _FastMlp(nn.Module):
    gated_mlp: GatedMlp

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs or not self.gated_mlp.is_plain():
            return super().forward(*args, **kwargs)  # pyrefly: ignore
        return self.gated_mlp.compute(args[0])


@functools.cache
def _fast(kind: type[nn.Module]) -> type[nn.Module]:
    """One subclass for all modules of a kind, so that their layers share what is compiled."""
    return type(f"Fast{kind.__name__}", (_FastMlp, kind), {"__module__": kind.__module__})


def find_gated_mlps(layers: Iterable[nn.Module], groups: Sequence["Group"]) -> list[GatedMlp]:
    """The modules inside `layers` with exactly three linear layers, two of which are a group and the third is another,
    that compute down(silu(gate(x)) · up(x)), as a trial shows. To be called before anything is stored in fp8.
    """
    of = {id(member): group for group in groups for member in group.members}
    found = []
    for layer in layers:
        nearest: dict[frozenset[int], nn.Module] = {}
        for module in layer.modules():
            inside = frozenset(id(part) for part in module.modules() if id(part) in of)
            if len(inside) == 3:
                # Parents come before their children.
                nearest[inside] = module
        for inside, module in nearest.items():
            theirs = sorted({of[place] for place in inside}, key=lambda group: -len(group.members))
            if [len(group.members) for group in theirs] != [2, 1]:
                continue
            first, last = theirs
            gate = _place_of_gate(module, first, last) if _nothing_else(module, first, last) else None
            if gate is not None:
                found.append(GatedMlp(module, first, last, gate))
    return found


def _nothing_else(module: nn.Module, first: "Group", last: "Group") -> bool:
    """Whether the layers fit each other and hold all of the module's weights."""
    members = [*first.members, *last.members]
    theirs = {id(tensor) for member in members for tensor in (*member.parameters(), *member.buffers())}
    alone = all(id(tensor) in theirs for tensor in (*module.parameters(), *module.buffers()))
    return alone and first.sizes[0] == first.sizes[1] == last.members[0].in_features and first.dtype == last.dtype


@torch.no_grad()
def _place_of_gate(module: nn.Module, first: "Group", last: "Group") -> int | None:
    """The place of gate in the first group, found by computing; None where the module computes something else."""
    members: list[Any] = [*first.members, *last.members]
    device = next(module.parameters()).device
    sizes = torch.tensor(_TRIAL_SIZES, device=device).repeat_interleave(_TRIAL_ROWS)
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(len(sizes), members[0].in_features, generator=generator, device=device).to(first.dtype)
    try:
        # In training mode, or a dropout between the layers would not be seen; those in adapters are seen to elsewhere.
        with in_mode(module, training=True):
            for member in members:
                member.eval()
            for place in (0, 1):
                gate, up, down = members[place], members[1 - place], members[2]
                scaled = x * (sizes / gate(x).float().pow(2).mean(1).sqrt()).to(x.dtype)[:, None]
                expected = down(nn.functional.silu(gate(scaled)) * up(scaled)).float()
                distance = (module(scaled).float() - expected).norm(dim=1) / expected.norm(dim=1)
                if bool((distance < _TRIAL_TOLERANCE).all()):
                    return place
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # A module that takes no single tensor, or gives none, is none of these.
        return None
    return None


def _is_plain(member: Any) -> bool:
    if member._forward_hooks or member._forward_pre_hooks:
        return False
    return not isinstance(member, LoraLinear) or member.is_plain()  # pyrefly: ignore
