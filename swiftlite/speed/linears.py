"""Finds the frozen linear layers that read the same input, and has each such group computed as one operator."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from swiftlite.quant.fp8 import Fp8Linear, fits_fp8, spare_columns, to_fp8
from swiftlite.speed.compile import find_layers
from swiftlite.speed.frozen_linears import frozen_linears


class Group:
    """Layers that a model calls one after the other with the same input.

    The first one called computes the outputs of all; the others are handed theirs. A layer that is called with
    another input, or out of turn, computes again, so the order only matters for speed.
    """

    def __init__(self, members: list[nn.Module]) -> None:
        self.members = members
        self.input: Tensor | None = None
        self.outputs: list[Tensor] | None = None

    def output(self, place: int, x: Tensor) -> Tensor:
        """What member number `place` makes of x."""
        if self.outputs is None or self.input is not x or place == 0:
            self.input, self.outputs = x, self.compute(x)
        output = self.outputs[place]
        if place == len(self.members) - 1:
            self.input = self.outputs = None
        return output

    def compute(self, x: Tensor) -> list[Tensor]:
        """The outputs of all members."""
        bases = [base_of(member) for member in self.members]
        adapters = [_adapter(member) for member in self.members]
        first: Any = bases[0]
        stored = isinstance(first, FastFp8Linear)
        kind = x.device.type
        dtype = first.dtype if stored else first.weight.dtype
        if not stored and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        return frozen_linears(
            x,
            [base.weight for base in bases],
            [base.bias for base in bases],
            *map(list, zip(*adapters)),
            scales=[base.scale for base in bases] if stored else (),
            transposed=[base.transposed for base in bases] if hasattr(first, "transposed") else (),
            dtype=dtype,
        )


class FastLinear(nn.Linear):
    """A frozen nn.Linear whose group computes it."""

    group: Group
    place: int

    def forward(self, input: Tensor) -> Tensor:
        return self.group.output(self.place, input)


class FastFp8Linear(Fp8Linear):
    """The same in fp8."""

    group: Group
    place: int

    def forward(self, input: Tensor) -> Tensor:
        return self.group.output(self.place, input)


class FastLoraLinear(LoraLinear):
    """PEFT's LoRA layer, computed by its group: the same parameters, names, files and methods."""

    group: Group
    place: int

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or args or kwargs or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        dropout = self.lora_dropout[self.active_adapters[0]]
        if self.training and not isinstance(dropout, nn.Identity):
            return self._with_dropout(x, dropout)
        return self.group.output(self.place, x)

    def _with_dropout(self, x: Tensor, dropout: nn.Module) -> Tensor:
        """The adapter reads another input than its layer; it is still multiplied in the layer's precision."""
        out = self.base_layer(x)
        a, b, factor = _adapter(self)
        assert a is not None and b is not None
        return out + dropout(x.to(out.dtype)) @ a.to(out.dtype).t() @ (b * factor).to(out.dtype).t()


def base_of(member: nn.Module) -> Any:
    """The layer itself, which an adapter may stand on."""
    return member.base_layer if isinstance(member, LoraLinear) else member


def _adapter(member: nn.Module) -> tuple[Tensor | None, Tensor | None, float]:
    if not isinstance(member, LoraLinear):
        return None, None, 1.0
    name = member.active_adapters[0]
    return member.lora_A[name].weight, member.lora_B[name].weight, member.scaling[name]


def speed_up_linears(model: nn.Module, *, quant_method: str = "none", copies: int = 1) -> str | None:
    """Groups the frozen linear layers of all decoder layers, and stores them in fp8 if that is wanted.

    To be called once the tuner is on the model and before it is compiled. Nothing changes for layers that train,
    carry another adapter than plain LoRA, or are no plain linear layers.

    Returns:
        What the header should say, or None when there is nothing to group.
    """
    layers = find_layers(model)
    suitable = [m for layer in layers or () for m in _outermost(layer) if _is_suitable(m)]
    if not suitable:
        return None
    groups = [Group(members) for members in _readers_of_one_input(model, suitable)]
    if quant_method == "fp8":
        groups = [piece for group in groups for piece in _split_by_fp8(group)]
    stored = 0
    for group in groups:
        bases = [base_of(member) for member in group.members]
        if quant_method == "fp8" and fits_fp8(bases[0]):
            ranks = [0 if a is None else a.shape[0] for a, _, _ in map(_adapter, group.members)]
            for base, _rank in zip(bases, ranks):
                to_fp8(base, spare=spare_columns(sum(ranks)), copies=copies)
                stored += base.weight.numel()
        for place, member in enumerate(group.members):
            _join(member, group, place)
    if stored and torch.cuda.is_available():
        torch.cuda.empty_cache()
    sizes = Counter(len(group.members) for group in groups)
    line = f"linears: {len(suitable)} frozen ones in {len(groups)} groups of {_counts(sizes)} that read one input"
    return line + (f"; {stored / 1e9:.2f} billion of their weights in fp8" if quant_method == "fp8" else "")


def _counts(sizes: Counter[int]) -> str:
    return " and ".join(str(size) for size in sorted(sizes))


def _split_by_fp8(group: Group) -> list[Group]:
    """A group is stored one way."""
    halves = [[m for m in group.members if fits_fp8(base_of(m)) == fits] for fits in (True, False)]
    return [Group(half) for half in halves if half]


def _join(member: nn.Module, group: Group, place: int) -> None:
    # As FSDP2 and parametrizations do it: a subclass with another forward, everything else as it was.
    if isinstance(member, LoraLinear):
        member.__class__ = FastLoraLinear
        base = base_of(member)
        if isinstance(base, Fp8Linear):
            base.__class__ = FastFp8Linear
            base.group, base.place = Group([base]), 0
    else:
        member.__class__ = FastFp8Linear if isinstance(member, Fp8Linear) else FastLinear
    member.group, member.place = group, place  # pyrefly: ignore


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
    if not isinstance(module, LoraLinear):
        return True
    if type(module) is not LoraLinear or len(module.active_adapters) != 1 or module.lora_variant:
        return False
    name = module.active_adapters[0]
    return name in module.lora_A and not module.lora_bias.get(name) and not module.fan_in_fan_out


@torch.no_grad()
def _readers_of_one_input(model: nn.Module, modules: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """Groups the modules by the input they get in a small forward pass, in the order of their calls."""
    calls: list[tuple[nn.Module, Tensor]] = []
    hooks = [m.register_forward_pre_hook(lambda module, args: calls.append((module, args[0]))) for m in modules]
    was_training = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        ids = torch.zeros(1, 8, dtype=torch.int64, device=next(model.parameters()).device)
        model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in was_training:
            module.training = mode
    groups: list[list[nn.Module]] = []
    seen: set[int] = set()
    last: Tensor | None = None
    for module, read in calls:
        if id(module) in seen:
            continue
        seen.add(id(module))
        kind = base_of(module).weight
        alike = last is read and groups and base_of(groups[-1][-1]).weight.dtype == kind.dtype
        if alike:
            groups[-1].append(module)
        else:
            groups.append([module])
        last = read
    return groups + [[module] for module in modules if id(module) not in seen]
