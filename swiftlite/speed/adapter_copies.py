"""Keeps what frozen_linears wants of every adapter up to date: half-precision copies, and fp8 digits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from swiftlite.quant import fp8


class Adapter:
    """One LoRA adapter and where its copies go.

    Attributes:
        a, b: (rank, in) and (out, rank), the trained ones; factor: s.
        down: (rank, in), A in half precision, a slice of its group's. up: (out, rank), s · B.
        weight: the base's e4m3 weight (out, in) with its row `scale` (out,), whose spare columns take B, or None.
        limits, first: (ranks,) float32 of the group, and where this adapter's begin.
        digits, back_limits: (in, spare) e4m3 and (rank,) float32 for A.
    """

    def __init__(self, a: Tensor, b: Tensor, factor: float, down: Tensor) -> None:
        self.a, self.b, self.factor, self.down = a, b, factor, down
        self.up = torch.empty(b.shape, dtype=down.dtype, device=down.device)
        self.weight: Tensor | None = None
        self.scale: Tensor | None = None
        self.limits: Tensor | None = None
        self.first = 0
        self.digits: Tensor | None = None
        self.back_limits: Tensor | None = None

    def ride_along(self, weight: Tensor, scale: Tensor, limits: Tensor, first: int) -> list[Tensor]:
        """Lets the digits stand in the spare columns of the e4m3 base weight, and of that weight transposed.

        Returns:
            What the backward pass needs: back_limits and digits.
        """
        rank, columns = self.a.shape
        self.weight, self.scale, self.limits, self.first = weight, scale, limits, first
        zeros = torch.zeros(columns, fp8.spare_columns(rank), dtype=torch.int8, device=weight.device)
        self.digits = zeros.view(fp8.E4M3)
        self.back_limits = torch.empty(rank, dtype=torch.float32, device=weight.device)
        return [self.back_limits, self.digits]

    def row(self) -> list[int]:
        """What adapter_kernels.py reads of an adapter, in its order."""
        tensors = (self.a, self.b, self.down, self.up, self.weight, self.scale, self.limits, self.digits)
        pointers = [0 if tensor is None else tensor.data_ptr() for tensor in (*tensors, self.back_limits)]
        sizes = [self.b.shape[0], self.a.shape[1], self.a.shape[0], self.first]
        ranks = 0 if self.limits is None else len(self.limits)
        pitch = 0 if self.weight is None else self.weight.stride(0)
        spare = 0 if self.digits is None else self.digits.shape[1]
        return [*pointers, *sizes, ranks, pitch, spare]


class AdapterCopies:
    """The copies of all adapters of a model, on a CUDA device.

    An adapter changes with each optimizer step; hundreds of small casts would keep the device waiting for their
    launches, so two kernels write all of them. Done before every forward pass, whether something changed or not: it
    takes some microseconds, and nobody has to remember it.
    """

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self.adapters = list(adapters)
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
            longest=max(max(one.a.shape[1], one.b.shape[0]) for one in self.adapters),
            rank=max(one.a.shape[0] for one in self.adapters),
            source=first.a.dtype,
            target=first.down.dtype,
        )
