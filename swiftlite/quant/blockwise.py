"""Tensors in blocks of few bits, each with a scale of its own: optimizer moments in 8, projections in 4."""

import functools

import torch
from torch import Tensor

# Elements that share a scale, as in bitsandbytes' optimizers and in Q-GaLore.
BLOCK = 256


def to_uniform(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced levels between the least and the largest value of each block (Q-GaLore, arXiv 2407.08296, 3.2).

    Args:
        values: any shape.
        bits: 4 (two codes a byte) or 8.

    Returns:
        uint8 codes (bytes,) and float32 (blocks, 2): each block's least value and the distance of its levels.
    """
    blocks = _blocks(values)
    least, most = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    distance = (most - least) / (2**bits - 1)
    codes = ((blocks - least) / distance.clamp(min=1e-30)).round().clamp(0, 2**bits - 1).to(torch.uint8).flatten()
    if bits == 4:
        codes = codes[::2] | codes[1::2] << 4
    return codes, torch.cat([least, distance], 1)


def from_uniform(codes: Tensor, scales: Tensor, shape: torch.Size, bits: int) -> Tensor:
    """The float32 values of `to_uniform`, off by half a distance at most."""
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], 1)
    blocks = codes.view(-1, BLOCK) * scales[:, 1:] + scales[:, :1]
    return blocks.flatten()[: shape.numel()].view(shape)


def to_dynamic(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Levels that are finer the smaller the value, over seven powers of ten (Dettmers et al., arXiv 2110.02861, 2.2).

    Without `signed` values are 0 or above, and one above 0 never becomes 0: the root of a second moment divides.

    Returns:
        uint8 codes (elements, filled up to whole blocks) and float32 (blocks,): each block's largest magnitude.
    """
    blocks = _blocks(values)
    largest = blocks.abs().amax(1, keepdim=True)
    levels = _dynamic_levels(signed, values.device)
    borders = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks / largest.clamp(min=1e-30), borders, out_int32=True)
    if not signed:
        codes = torch.where((codes == 0) & (blocks > 0), 1, codes)
    return codes.to(torch.uint8).flatten(), largest.flatten()


def from_dynamic(codes: Tensor, scales: Tensor, shape: torch.Size, *, signed: bool) -> Tensor:
    """The float32 values of `to_dynamic`."""
    blocks = _dynamic_levels(signed, codes.device)[codes.int()].view(-1, BLOCK) * scales[:, None]
    return blocks.flatten()[: shape.numel()].view(shape)


def _blocks(values: Tensor) -> Tensor:
    """(blocks, BLOCK) in float32, filled up with the last value, which moves no block's limits."""
    flat = values.float().flatten()
    missing = -flat.numel() % BLOCK
    return torch.cat([flat, flat[-1:].expand(missing)]).view(-1, BLOCK)


@functools.cache
def _dynamic_levels(signed: bool, device: torch.device) -> Tensor:
    """The 256 levels, rising: in each power of ten twice as many as in the one below, and 0 and 1."""
    levels = [torch.tensor([0.0, 1.0])]
    for power in range(7):
        borders = torch.linspace(0.1, 1, 2 ** (power if signed else power + 1) + 1)
        positive = 10.0 ** (power - 6) * (borders[1:] + borders[:-1]) / 2
        levels += [positive, -positive] if signed else [positive]
    return torch.cat(levels).sort().values.to(device)
