"""Finds the frozen linear layers that read the same input, and has each such group computed as one operator."""

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from swiftlite.config.errors import UserError
from swiftlite.quant.fp8 import Fp8Linear, fits_fp8, spare_columns, to_fp8
from swiftlite.speed.adapter_copies import Adapter, AdapterCopies
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
        # Of the adapters; see frozen_linears.
        self.copies: list[Tensor] = []
        self.digits: list[Tensor] = []

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
            copies=self.copies,
            digits=self.digits,
            dtype=dtype,
        )

    def keep_copies(self) -> list[Adapter]:
        """Makes room for copies of this group's adapters, and says which they are of."""
        bases = [base_of(member) for member in self.members]
        adapters = [_adapter(member) for member in self.members]
        present = [(base, a, b, factor) for base, (a, b, factor) in zip(bases, adapters) if a is not None]
        if not present:
            return []
        ranks = [a.shape[0] for _, a, _, _ in present]
        stored = isinstance(bases[0], FastFp8Linear)
        dtype, device = bases[0].dtype if stored else bases[0].weight.dtype, bases[0].weight.device
        down = torch.empty(sum(ranks), bases[0].in_features, dtype=dtype, device=device)
        made = [Adapter(a, b, factor, part) for (_, a, b, factor), part in zip(present, down.split(ranks))]
        self.copies = [down, *(one.up for one in made)]
        if stored and spare_columns(sum(ranks)):
            limits = torch.empty(sum(ranks), dtype=torch.float32, device=device)
            self.digits, first = [limits], 0
            for one, (base, _, _, _) in zip(made, present):
                self.digits += one.ride_along(base.weight, base.scale, limits, first)
                first += one.a.shape[0]
        return made


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


def _adapter(member: nn.Module) -> tuple[Any, Any, float]:
    if not isinstance(member, LoraLinear):
        return None, None, 1.0
    name = member.active_adapters[0]
    return member.lora_A[name].weight, member.lora_B[name].weight, member.scaling[name]


def speed_up_linears(model: nn.Module, *, quant_method: str = "none", copies: int = 1) -> list[str]:
    """Groups the frozen linear layers of all decoder layers, and stores them in fp8 if that is wanted.

    To be called once the tuner is on the model and before it is compiled. Nothing changes for layers that train,
    carry another adapter than plain LoRA, or are no plain linear layers.

    Returns:
        What the header should say; nothing when there is nothing to group.

    Raises:
        UserError: fp8 is wanted and no layer can be stored in it.
    """
    layers = find_layers(model)
    suitable = [m for layer in layers or () for m in _outermost(layer) if _is_suitable(m)]
    if not suitable and quant_method != "fp8":
        return []
    groups = [Group(members) for members in _readers_of_one_input(model, suitable)]
    if quant_method == "fp8":
        groups = [piece for group in groups for piece in _split_by_fp8(group)]
    stored = 0
    for group in groups:
        bases = [base_of(member) for member in group.members]
        if quant_method == "fp8" and fits_fp8(bases[0]):
            ranks = [0 if a is None else a.shape[0] for a, _, _ in map(_adapter, group.members)]
            for base in bases:
                to_fp8(base, spare=spare_columns(sum(ranks)), copies=copies)
                stored += base.weight.numel()
        for place, member in enumerate(group.members):
            _join(member, group, place)
    if quant_method == "fp8" and not stored:
        raise UserError(
            "--quant_method fp8: no frozen linear layer of this model fits (sizes must be multiples of 16, adapters "
            "plain LoRA); leave it away"
        )
    if base_of(suitable[0]).weight.is_cuda:
        torch.cuda.empty_cache()
        _keep_copies(model, groups)
    notes = [f"linears: {len(suitable)} frozen ones, computed in {len(groups)} groups that read the same input"]
    if stored:
        notes.append(
            f"fp8: {stored / 1e9:.2f} billion frozen weights of the layers (asked for; it changes the numbers a little)"
        )
    return notes


def _keep_copies(model: nn.Module, groups: list[Group]) -> None:
    adapters = [one for group in groups for one in group.keep_copies()]
    if adapters:
        copies = AdapterCopies(adapters)
        decoder: Any = getattr(model, "get_base_model", lambda: model)().base_model
        decoder.register_forward_pre_hook(lambda *_: copies.refresh())


def _split_by_fp8(group: Group) -> list[Group]:
    """A group is stored one way."""
    halves = [[m for m in group.members if fits_fp8(base_of(m)) == fits] for fits in (True, False)]
    return [Group(half) for half in halves if half]


def _join(member: Any, group: Group, place: int) -> None:
    # As FSDP2 and parametrizations do it: a subclass with another forward, everything else as it was.
    if isinstance(member, LoraLinear):
        member.__class__ = FastLoraLinear
        base = base_of(member)
        if isinstance(base, Fp8Linear):
            base.__class__ = FastFp8Linear
            base.group, base.place = Group([base]), 0
    else:
        member.__class__ = FastFp8Linear if isinstance(member, Fp8Linear) else FastLinear
    member.group, member.place = group, place


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
