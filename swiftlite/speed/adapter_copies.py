"""Keeps what frozen_linears wants of every adapter up to date: half-precision copies, and fp8 digits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from swiftlite.quant import fp8


class Adapter:
    """One LoRA adapter and where its copies go.

    Attributes:
        a, b: (rank, in) and (out, rank), the trained ones; factor: s.
        down: (rank, in), A in half precision, a slice of its group's. up: (out, rank), s · B.
        weight: the base's e4m3 weight (out, in), whose spare columns take B, or None; scale: (out,) float32.
        riders: of the group, limits and back_limits, (ranks,) float32 each, and digits, (in, spare) e4m3 for the A.
        first: where this adapter's ranks begin among the group's. back_scale: see Fp8Rows.
    """

    def __init__(self, a: Tensor, b: Tensor, factor: float, down: Tensor) -> None:
        self.a, self.b, self.factor, self.down = a, b, factor, down
        self.up = torch.empty(b.shape, dtype=down.dtype, device=down.device)
        self.weight: Tensor | None = None
        self.scale: Tensor | None = None
        self.riders: list[Tensor] = []
        self.first = 0
        self.back_scale: Tensor | None = None

    def row(self) -> list[int]:
        """What adapter_kernels.py reads of an adapter, in its order."""
        limits, back_limits, digits = self.riders or (None, None, None)
        tensors = (self.a, self.b, self.down, self.up, self.weight, self.scale, limits, digits, back_limits)
        pointers = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        sizes = [self.b.shape[0], self.a.shape[1], self.a.shape[0], self.first]
        ranks = 0 if limits is None else len(limits)
        pitch = 0 if self.weight is None else self.weight.stride(0)
        spare = 0 if digits is None else digits.shape[1]
        back_scale = 0 if self.back_scale is None else self.back_scale.data_ptr()
        return [*pointers, *sizes, ranks, pitch, spare, back_scale]


def riders(ranks: int, columns: int, device: torch.device) -> list[Tensor]:
    """Room for the limits, back_limits and digits of a group's adapters; see adapter_kernels.py."""
    limits, back_limits = torch.empty(2, ranks, dtype=torch.float32, device=device).unbind()
    digits = torch.zeros(columns, fp8.spare_columns(ranks), dtype=torch.int8, device=device)
    return [limits, back_limits, digits.view(fp8.E4M3)]


class AdapterCopies:
    """The copies of all adapters of a model, on a CUDA device.

    An adapter changes with each optimizer step; hundreds of small casts would keep the device waiting for their
    launches, so two kernels write all of them. Done before every forward pass, whether something changed or not: it
    takes some microseconds, and nobody has to remember it.
    """

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self.adapters = list(adapters)
        self._longest = max(max(one.a.shape[1], one.b.shape[0]) for one in self.adapters)
        self._rank = max(one.a.shape[0] for one in self.adapters)
        self._sources: list[int] = []
        self._table = torch.empty(0)
        self._factors = torch.empty(0)

    @torch.no_grad()
    def refresh(self) -> None:
        """Writes every copy anew."""
        from swiftlite.speed.adapter_kernels import write_copies

        sources = [t.data_ptr() for one in self.adapters for t in (one.a, one.b)]
        if sources != self._sources:
            device = self.adapters[0].a.device
            self._table = torch.tensor([one.row() for one in self.adapters], dtype=torch.int64).to(device)
            self._factors = torch.tensor([one.factor for one in self.adapters], dtype=torch.float32).to(device)
            self._sources = sources
        first = self.adapters[0]
        write_copies(
            self._table,
            self._factors,
            longest=self._longest,
            rank=self._rank,
            source=first.a.dtype,
            target=first.down.dtype,
        )


def keep_copies(decoder: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Has the copies written before every forward pass of `decoder`."""
    # The kernels write adapters of one kind at a time.
    for kind in dict.fromkeys(map(_kind, adapters)):
        copies = AdapterCopies([one for one in adapters if _kind(one) == kind])
        decoder.register_forward_pre_hook(lambda *_, copies=copies: copies.refresh())


def _kind(adapter: Adapter) -> tuple[torch.dtype, torch.dtype, torch.device]:
    return adapter.a.dtype, adapter.down.dtype, adapter.a.device
