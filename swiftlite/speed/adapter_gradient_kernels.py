"""Triton kernels of what an adapter takes from a gradient: both of its products, of one read of the gradient."""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Tokens and columns of a tile, and the programs a launch aims at: a few for each of an H100's or H200's 132 processors.
TOKENS = 64
COLUMNS = 128
WARPS = 8
STAGES = 3
PROGRAMS = 264


def adapter_products(g: Tensor, up: Tensor, read: Tensor, back: Tensor) -> Tensor:
    """g @ up into `back`, rounded to its type, and g.T @ read in float32, (columns, rank).

    Args:
        g: (tokens, columns); rows may lie apart.
        up: (columns, rank), contiguous. read, back: (tokens, rank); rows may lie apart.
    """
    tokens, columns = g.shape
    rank = up.shape[1]
    grid = tiles(tokens, columns, TOKENS, COLUMNS, PROGRAMS)
    sums = torch.empty(grid[0], tokens, rank, dtype=torch.float32, device=g.device)
    shares = torch.empty(grid[1], columns, rank, dtype=torch.float32, device=g.device)
    _products[grid](
        g, up, read, sums, shares, g.stride(0), read.stride(0), tokens, columns, RANK=rank, RANK_BLOCK=rank_block(rank),
        TOKENS=TOKENS, COLUMNS=COLUMNS, num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    add_up(sums, back)
    return add_up(shares, torch.empty(columns, rank, dtype=torch.float32, device=g.device))


def tiles(tokens: int, columns: int, height: int, width: int, programs: int) -> tuple[int, int]:
    """How many programs share the columns, and how many the tokens."""
    across = triton.cdiv(columns, width)
    return across, max(min(programs // across, triton.cdiv(tokens, height)), 1)


def rank_block(rank: int) -> int:
    """Blocks of 8 gave wrong digits on a GPU."""
    return max(triton.next_power_of_2(rank), 16)


@triton.jit
def _products(
    g, up, read, sums, shares, stride, read_stride: tl.constexpr, tokens, columns,
    RANK: tl.constexpr, RANK_BLOCK: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    b = load_up(up, column, columns, RANK, RANK_BLOCK)
    share = tl.zeros((COLUMNS, RANK_BLOCK), tl.float32)
    sums += tl.program_id(0).to(tl.int64) * tokens * RANK
    for start in range(tl.program_id(1) * TOKENS, tokens, tl.num_programs(1) * TOKENS):
        token = (start + tl.arange(0, TOKENS)).to(tl.int64)
        inside = (token < tokens)[:, None] & (column < columns)[None, :]
        tile = tl.load(g + token[:, None] * stride + column[None, :], mask=inside, other=0.0)
        share = add_products(tile, b, read, read_stride, sums, share, token, tokens, RANK, RANK_BLOCK)
    store_share(shares, share, column, columns, RANK, RANK_BLOCK)


@triton.jit
def load_up(up, column, columns, RANK: tl.constexpr, RANK_BLOCK: tl.constexpr):
    rank = tl.arange(0, RANK_BLOCK)
    inside = (column < columns)[:, None] & (rank < RANK)[None, :]
    return tl.load(up + column[:, None] * RANK + rank[None, :], mask=inside, other=0.0)


@triton.jit
def add_products(
    tile, b, read, read_stride, sums, share, token, tokens, RANK: tl.constexpr, RANK_BLOCK: tl.constexpr
):  # fmt: skip
    """Writes tile @ b and returns share + tile.T @ read; no rows are written for tokens that there are not."""
    rank = tl.arange(0, RANK_BLOCK)
    inside = ((token >= 0) & (token < tokens))[:, None] & (rank < RANK)[None, :]
    tl.store(sums + token[:, None] * RANK + rank[None, :], tl.dot(tile, b), mask=inside)
    its_read = tl.load(read + token[:, None] * read_stride + rank[None, :], mask=inside, other=0.0)
    return tl.dot(tl.trans(tile), its_read, share)


@triton.jit
def store_share(shares, share, column, columns, RANK: tl.constexpr, RANK_BLOCK: tl.constexpr):
    rank = tl.arange(0, RANK_BLOCK)
    inside = (column < columns)[:, None] & (rank < RANK)[None, :]
    place = (tl.program_id(1) * columns + column).to(tl.int64)[:, None] * RANK + rank[None, :]
    tl.store(shares + place, share, mask=inside)


def add_up(parts: Tensor, out: Tensor) -> Tensor:
    """The sum of parts (n, rows, rank), written to out (rows, rank), whose rows may lie apart."""
    n, rows, rank = parts.shape
    count = max(triton.next_power_of_2(n), 16)
    block = max(8192 // count, 16)
    _add_up[(triton.cdiv(rows * rank, block),)](
        parts, out, n, rows * rank, out.stride(0), RANK=rank, PARTS=count, BLOCK=block, num_warps=4
    )
    return out


@triton.jit
def _add_up(parts, out, n, size, stride, RANK: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part = tl.arange(0, PARTS).to(tl.int64)
    inside = (part < n)[:, None] & (place < size)[None, :]
    values = tl.load(parts + part[:, None] * size + place[None, :], mask=inside, other=0.0)
    target = out + (place // RANK).to(tl.int64) * stride + place % RANK
    tl.store(target, tl.sum(values, 0).to(out.dtype.element_ty), mask=place < size)
