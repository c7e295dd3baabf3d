"""Frozen linear layers in fp8 (e4m3): one scale a row, and products with row-wise scaled activations."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
# Gradients times weight scales reach 1e-15 and below.
SMALLEST_SCALE = 1e-30
# Row pitches of a multiple of this many bytes keep fp8 products at full speed (K + 32 cost 7 %, on an H200).
_PITCH = 128
# Three columns a rank: high times high, low times high, high times low.
DIGITS = 3
_MOST_SPARE = 256
# Rows whose largest weight is above this share of all rows' largest keep at least 9 of e4m3's 15 binary orders.
_LEAST_ROW = 2.0**-6
_ADA = (8, 9)


@dataclass
class Fp8Rows:
    """The weights of one or more frozen linear layers with the same input, below each other.

    Attributes:
        rows: (n, in) e4m3; `spare` columns stand behind each row in memory, in which adapters ride along
            (speed/adapter_copies.py).
        scale: (n,) float32; w = rows · scale.
        back_scale: (in,) float32, the one value of `scale` where all rows share it, else None.
        turned: (in, n) e4m3 with spare columns, the rows transposed, where two copies are kept.
    """

    rows: Tensor
    scale: Tensor
    back_scale: Tensor | None
    turned: Tensor | None = None


class Fp8Linear(nn.Linear):
    """A frozen linear layer: `weight` (out, in) in e4m3, `scale` (out,) float32; w = weight · scale.

    Scaled as in "FP8 Formats for Deep Learning" (arXiv 2209.05433, section 4). This forward is the plain one;
    speed/linears.py has the fast one.
    """

    scale: Tensor
    dtype: torch.dtype

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) to (..., out), with the weights brought back to the precision that they came from."""
        weight = dequantise(self.weight, self.scale, self.dtype)
        return nn.functional.linear(input.to(self.dtype), weight, self.bias)


def fp8_obstacle(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> str | None:
    """Why fp8 products with outputs in `dtype` cannot run there; None where they can, on a CPU by emulation."""
    if device.type == "cpu":
        return None
    if device.type != "cuda" or torch.version.hip:
        return "it needs an NVIDIA GPU of compute capability 8.9 or above (RTX 40, L4, H100, ...)"
    capability = torch.cuda.get_device_capability(device)
    if capability < _ADA:
        return f"this GPU's compute capability is {capability[0]}.{capability[1]}, and fp8 products start at 8.9"
    if dtype is not torch.bfloat16:
        # PyTorch's row-wise kernels have no other outputs, but for those of cuBLAS on compute capability 9.0.
        return (
            f"its products are made in bf16 on GPUs, and this is {str(dtype).removeprefix('torch.')}; pass --dtype bf16"
        )
    return None


def fits_fp8(linear: nn.Linear) -> bool:
    """Whether the hardware's products take such a layer: sizes in multiples of 16, and nothing in it trains."""
    sizes = linear.in_features % 16 == 0 and linear.out_features % 16 == 0
    return sizes and type(linear) is nn.Linear and not any(p.requires_grad for p in linear.parameters())


def spare_columns(ranks: int) -> int:
    """Columns that an adapter of so many ranks needs behind each row; 0 where a product of its own is cheaper."""
    columns = -(-DIGITS * ranks // _PITCH) * _PITCH
    return columns if columns <= _MOST_SPARE else 0


@torch.no_grad()
def to_fp8(linears: Sequence[nn.Linear], *, spare: int = 0, copies: int = 1) -> Fp8Rows:
    """Stores linear layers that read the same input in fp8, in place.

    One scale serves all rows unless they differ so much that the smallest would lose digits: a float's precision does
    not depend on its scale, and gradients then need no multiplication by row scales on their way back.

    Args:
        spare: columns kept free behind each row.
        copies: 2 keeps the transposed rows too.
    """
    weights = [linear.weight.data for linear in linears]
    limits = torch.cat([weight.abs().amax(1).float() for weight in weights])
    common = bool((limits[limits > 0] > limits.max() * _LEAST_ROW).all())
    scale = (limits.max().expand_as(limits).contiguous() if common else limits) / LARGEST
    scale = scale.clamp_min_(SMALLEST_SCALE)
    n, columns = len(scale), weights[0].shape[1]
    storage = torch.zeros(n, columns + spare, dtype=torch.int8, device=scale.device).view(E4M3)
    sizes = [len(weight) for weight in weights]
    parts = zip(linears, weights, storage[:, :columns].split(sizes), scale.split(sizes))
    for linear, weight, rows, its_scale in parts:
        rows.view(torch.int8).copy_(_rounded(weight.float() / its_scale[:, None]).view(torch.int8))
        linear.__class__ = Fp8Linear
        assert isinstance(linear, Fp8Linear)
        linear.dtype = weight.dtype
        linear.weight = nn.Parameter(rows, requires_grad=False)
        linear.register_buffer("scale", its_scale, persistent=False)
    rows = storage[:, :columns]
    back_scale = scale[0].expand(columns).contiguous() if common else None
    turned = None
    if copies == 2:
        turned = torch.zeros(columns, n + spare, dtype=torch.int8, device=scale.device).view(E4M3)[:, :n]
        turned.view(torch.int8).copy_(rows.view(torch.int8).t())
    return Fp8Rows(rows, scale, back_scale, turned)


def describe_fp8(layers: Iterable[nn.Module], stored: int, first: int = 0) -> list[str]:
    """What the header should say once `stored` weights of the decoder layers are in fp8, and what is not.

    Args:
        first: decoder layers before this one are not in fp8, as was asked for.
    """
    left, frozen = Counter[str](), 0
    for number, layer in enumerate(layers):
        frozen += sum(
            p.numel() for n, p in layer.named_parameters() if p.dim() > 1 and not p.requires_grad and "lora_" not in n
        )
        for name, module in layer.named_modules():
            plain = isinstance(module, nn.Linear) and not isinstance(module, Fp8Linear)
            if plain and number >= first and "lora_" not in name and not module.weight.requires_grad:
                left[name.removesuffix(".base_layer").rsplit(".", 1)[-1]] += 1
    notes = [
        f"fp8: {stored / 1e6:,.1f} of {frozen / 1e6:,.1f} million frozen weights of the layers (asked for: numbers "
        "change a little)"
    ]
    if first:
        notes.append(f"not in fp8: the first {first} of the decoder layers (--fp8_from_layer)")
    if left:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(left.items()))
        notes.append(
            "not in fp8, being no multiples of 16, partly trained, or under another adapter than LoRA or DoRA: " + names
        )
    return notes


def whole_rows(view: Tensor) -> Tensor:
    """Rows together with the spare columns behind them."""
    return view.as_strided((view.shape[0], view.stride(0)), (view.stride(0), 1))


def dequantise(rows: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """rows · scale in `dtype`; (rows, columns) and (rows,)."""
    return (rows.float() * scale[:, None]).to(dtype)


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) to e4m3 and one float32 scale a row, (rows, 1), so that the largest becomes 448."""
    scale = (x.abs().amax(-1, keepdim=True).float() / LARGEST).clamp_min(SMALLEST_SCALE)
    return _rounded(x.float() / scale), scale


def _rounded(x: Tensor) -> Tensor:
    return x.clamp(-LARGEST, LARGEST).to(E4M3)


def product(
    rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """(rows · scale) @ (weight · weight_scale).T + bias, (tokens, n) in `dtype`.

    Args:
        rows, scale: (tokens, k) e4m3 and (tokens, 1) float32.
        weight, weight_scale: (n, k) e4m3 and (n,) float32.
    """
    if rows.is_cuda:
        return torch._scaled_mm(
            rows, weight.t(), scale_a=scale, scale_b=weight_scale[None], bias=bias, out_dtype=dtype, use_fast_accum=True
        )
    out = (rows.float() @ weight.float().t()) * scale * weight_scale
    return (out if bias is None else out + bias.float()).to(dtype)
