"""Finds the frozen linear layers that read the same input, and has each such group computed as one operator."""

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers
from swiftlite.quant.fp8 import Fp8Linear, Fp8Rows, describe_fp8, fits_fp8, spare_columns, to_fp8
from swiftlite.speed.adapter_copies import Adapter, keep_copies, riders
from swiftlite.speed.autocast import autocast_dtype
from swiftlite.speed.dora import DoraLayer, DoraNorms, is_dora
from swiftlite.speed.fp8_linears import Fp8Layers, fp8_linears
from swiftlite.speed.frozen_layers import base_of, has_dropout, readers_of_one_input, suitable_linears
from swiftlite.speed.frozen_linears import frozen_linears
from swiftlite.speed.gated_mlps import find_gated_mlps
from swiftlite.speed.half_mlp import HalfLayers


class Group:
    """Layers that a model calls one after the other with the same input.

    The first one called computes the outputs of all; the others are handed theirs. A layer that is called with
    another input, or out of turn, computes again, so the order only matters for speed.

    Attributes:
        stored: the members' weights, where they are in fp8.
        copies, riders: of the members' adapters, kept up to date by AdapterCopies on a CUDA device.
        dora: of each member whose adapter is DoRA, once all weights are stored as they will be.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        self.members = list(members)
        self.input: Tensor | None = None
        self.outputs: Sequence[Tensor] | None = None
        self.stored: Fp8Rows | None = None
        self.bias: Tensor | None = None
        self.sizes = [base_of(member).out_features for member in self.members]
        self.copies: list[Tensor] = []
        self.riders: list[Tensor] = []
        self.dora: list[DoraLayer | None] = [None] * len(self.members)
        first = base_of(self.members[0])
        self.dtype: torch.dtype = first.dtype if isinstance(first, Fp8Linear) else first.weight.dtype

    def output(self, place: int, x: Tensor) -> Tensor:
        """What member number `place` makes of x."""
        if self.outputs is None or self.input is not x or place == 0:
            self.input, self.outputs = x, self.compute(x)
        output = self.outputs[place]
        if place == len(self.members) - 1:
            self.input = self.outputs = None
        return output

    def compute(self, x: Tensor) -> Sequence[Tensor]:
        """The outputs of all members."""
        outputs = self._compute_lora(x)
        # DoRA's factors stand behind the products, in an expression of its own that a compiler joins to what follows.
        return [out if dora is None else dora.output(out) for out, dora in zip(outputs, self.dora)]

    def _compute_lora(self, x: Tensor) -> Sequence[Tensor]:
        """The same before DoRA scales its layers' outputs and adds their biases."""
        if self.stored is not None:
            return fp8_linears(x, self.fp8_layers())
        a, b, factors, copies, _ = self._adapters()
        dtype = autocast_dtype(x.device.type) or self.dtype
        weights = [base_of(member).weight for member in self.members]
        return frozen_linears(x, weights, self._biases(), a, b, factors, copies=copies, dtype=dtype)

    def _biases(self) -> list[Tensor | None]:
        return [None if _is_dora(member) else base_of(member).bias for member in self.members]

    def fp8_layers(self) -> Fp8Layers:
        """The members and their adapters, once they are stored in fp8."""
        assert self.stored is not None
        a, b, factors, copies, riders = self._adapters()
        return Fp8Layers(self.stored, self.sizes, self.bias, a, b, factors, copies, riders, self.dtype)

    def takes_half_mlp(self, largest_rank: int) -> bool:
        """Whether half_mlp.py can compute the members: an adapter on each, and no bias."""
        adapters = [_adapter(member)[0] for member in self.members]
        alone = all(base_of(member).bias is None for member in self.members)
        return alone and all(a is not None and a.shape[0] <= largest_rank for a in adapters)

    def half_layers(self, dtype: torch.dtype) -> HalfLayers:
        """The members and their adapters, of which each has one."""
        a, b, factors, copies, _ = self._adapters()
        return HalfLayers([base_of(member).weight for member in self.members], a, b, factors, copies, dtype)

    def _adapters(self) -> Any:
        """a, b and s of each member; their copies and riders."""
        a, b, factors = map(list, zip(*(_adapter(member) for member in self.members)))
        # The copies are of all adapters that were there at first; one may have been deleted since.
        if len(self.copies) == 1 + sum(one is not None for one in a):
            return a, b, factors, self.copies, self.riders
        return a, b, factors, [], []

    def store_in_fp8(self, copies: int) -> int:
        """Stores the members' weights in fp8; returns how many they are."""
        bases = [base_of(member) for member in self.members]
        ranks = sum(a.shape[0] for a, _, _ in map(_adapter, self.members) if a is not None)
        self.stored = to_fp8(bases, spare=spare_columns(ranks), copies=copies)
        biases = self._biases()
        if any(bias is not None for bias in biases):
            zeros = [base.weight.new_zeros(base.out_features, dtype=self.dtype) for base in bases]
            self.bias = torch.cat([zero if bias is None else bias for zero, bias in zip(zeros, biases)])
        return self.stored.rows.numel()

    def find_dora(self) -> list[DoraLayer]:
        """The members whose adapter is DoRA, with their norms; to be called once the members have joined."""
        self.dora = [DoraLayer(m, m.adapter) if _is_dora(m) else None for m in self.members]  # pyrefly: ignore
        for member, dora in zip(self.members, self.dora):
            if dora is not None:
                member.dora = dora  # pyrefly: ignore
        return [dora for dora in self.dora if dora is not None]

    def keep_copies(self) -> list[Adapter]:
        """Makes room for copies of this group's adapters, and says which they are of."""
        present = [(base_of(m), *_adapter(m)) for m in self.members if isinstance(m, LoraLinear)]
        if not present:
            return []
        ranks = [a.shape[0] for _, a, _, _ in present]
        columns, device = present[0][0].in_features, present[0][1].device
        down = torch.empty(sum(ranks), columns, dtype=self.dtype, device=device)
        made = [Adapter(a, b, factor, part) for (_, a, b, factor), part in zip(present, down.split(ranks))]
        self.copies = [down, *(one.up for one in made)]
        if self.stored is not None and spare_columns(sum(ranks)):
            self.riders, first = riders(sum(ranks), columns, device), 0
            for one, (base, _, _, _) in zip(made, present):
                one.weight, one.scale, one.riders, one.first = base.weight, base.scale, self.riders, first
                one.back_scale = self.stored.back_scale
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
    """PEFT's LoRA layer, computed by its group: the same parameters, names, files and methods.

    Attributes:
        adapter: the name of the one adapter that the group computes. With another one active, the layer is PEFT's.
        dora: of that adapter, where it is DoRA.
    """

    group: Group
    place: int
    adapter: str
    dora: DoraLayer | None

    def has_own_adapter(self) -> bool:
        """Whether the adapter that the group was made for, and no other, is on the layer now."""
        return not self.disable_adapters and not self.merged and self.active_adapters == [self.adapter]

    def is_plain(self) -> bool:
        """Whether the layer has to give what its group computes."""
        return self.has_own_adapter() and not (self.training and has_dropout(self))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not self.has_own_adapter():
            return super().forward(x, *args, **kwargs)
        if not self.is_plain():
            return self._with_dropout(x, self.lora_dropout[self.adapter])
        return self.group.output(self.place, x)

    def _with_dropout(self, x: Tensor, dropout: nn.Module) -> Tensor:
        """The adapter reads another input than its layer; it is still multiplied in the layer's precision.

        DoRA's does so twice: y = x W^T + bias + (f - 1) · d W^T + f · s (d A^T) B^T for what the dropout left, d.
        """
        out = self.base_layer(x)
        a, b, factor = _adapter(self)
        assert a is not None and b is not None
        read = dropout(x.to(out.dtype))
        update = read @ a.to(out.dtype).t() @ (b * factor).to(out.dtype).t()
        if self.dora is None:
            return out + update
        again: Any = self.base_layer(read)
        again = again if self.base_layer.bias is None else again - self.base_layer.bias
        scale = self.dora.factor()
        return out + ((scale - 1) * again + scale * update).to(out.dtype)


def _adapter(member: nn.Module) -> tuple[Any, Any, float]:
    """a, b and s, of the adapter that its group was made for."""
    name = _adapter_name(member)
    if not isinstance(member, LoraLinear) or name not in member.lora_A:
        return None, None, 1.0
    return member.lora_A[name].weight, member.lora_B[name].weight, member.scaling[name]


def _is_dora(member: nn.Module) -> bool:
    """Whether the adapter that its group was made for is DoRA."""
    return is_dora(member, _adapter_name(member))


def _adapter_name(member: nn.Module) -> Any:
    return member.adapter if isinstance(member, FastLoraLinear) else getattr(member, "active_adapters", [None])[0]


def speed_up_linears(model: nn.Module, *, quant_method: str = "none", copies: int = 1, first: int = 0) -> list[str]:
    """Groups the frozen linear layers of all decoder layers, and stores them in fp8 if that is wanted.

    To be called once the tuner is on the model and before it is compiled. Nothing changes for layers that train,
    carry another adapter than LoRA or DoRA, or are no plain linear layers.

    Args:
        copies: 2 keeps the transposed weights in fp8 too.
        first: decoder layers before this one are not stored in fp8.

    Returns:
        What the header should say; nothing when there is nothing to group.

    Raises:
        UserError: fp8 is wanted and no layer can be stored in it.
    """
    layers = find_layers(model)
    suitable = suitable_linears(layers or ())
    if not suitable and quant_method != "fp8":
        return []
    groups = [Group(members) for members in readers_of_one_input(model, suitable)]
    if quant_method == "fp8":
        groups = [piece for group in groups for piece in _split_by_fp8(group)]
    mlps = find_gated_mlps(layers or (), groups)
    stored, left = 0, set(suitable_linears(layers[:first])) if layers else set()
    for group in groups:
        if quant_method == "fp8" and group.members[0] not in left and fits_fp8(base_of(group.members[0])):
            stored += group.store_in_fp8(copies)
        for place, member in enumerate(group.members):
            _join(member, group, place)
    mlps = [mlp for mlp in mlps if mlp.gains()]
    for mlp in mlps:
        mlp.join()
    if quant_method == "fp8" and not stored:
        raise UserError(
            "--quant_method fp8: no frozen linear layer of this model fits (sizes must be multiples of 16, adapters "
            "LoRA or DoRA; the first layers stay out with --fp8_from_layer); leave it away"
        )
    if base_of(suitable[0]).weight.is_cuda:
        torch.cuda.empty_cache()
        keep_copies(_decoder_of(model), [one for group in groups for one in group.keep_copies()])
    dora = [layer for group in groups for layer in group.find_dora()]
    if dora:
        _decoder_of(model).register_forward_pre_hook(DoraNorms(dora).refresh)
    notes = [f"linears: {len(suitable)} frozen ones, computed in {len(groups)} groups that read the same input"]
    if stored:
        notes += describe_fp8(layers or (), stored, first)
    if dora:
        notes.append(f"DoRA: {len(dora)} layers, whose norms are taken without making B·A")
    if mlps:
        notes.append(f"MLPs: {len(mlps)} gated ones, each computed as one operator between its products")
    return notes


def _decoder_of(model: nn.Module) -> Any:
    """What every forward pass goes through, once."""
    return getattr(model, "get_base_model", lambda: model)().base_model  # pyrefly: ignore


def _split_by_fp8(group: Group) -> list[Group]:
    """A group is stored one way."""
    halves = [[m for m in group.members if fits_fp8(base_of(m)) == fits] for fits in (True, False)]
    return [Group(half) for half in halves if half]


def _join(member: Any, group: Group, place: int) -> None:
    # As FSDP2 and parametrizations do it: a subclass with another forward, everything else as it was.
    if isinstance(member, LoraLinear):
        name = member.active_adapters[0]
        member.__class__ = FastLoraLinear
        assert isinstance(member, FastLoraLinear)
        member.adapter, member.dora = name, None
        base = base_of(member)
        if isinstance(base, Fp8Linear):
            # For when the adapter is disabled, or reads its input through a dropout.
            alone = Group([base])
            alone.stored, alone.bias = _part_of(group, place), base.bias
            _join(base, alone, 0)
    elif not isinstance(member, FastFp8Linear):
        member.__class__ = FastFp8Linear if isinstance(member, Fp8Linear) else FastLinear
    member.group, member.place = group, place


def _part_of(group: Group, place: int) -> Fp8Rows:
    """One member's share of its group's weights."""
    stored = group.stored
    assert stored is not None
    end = sum(group.sizes[: place + 1])
    part = slice(end - group.sizes[place], end)
    return Fp8Rows(stored.rows[part], stored.scale[part], stored.back_scale)
