"""What is stored in blocks of few bits comes back as near as the levels allow."""

import pytest
import torch

from swiftlite.quant.blockwise import BLOCK, from_dynamic, from_uniform, to_dynamic, to_uniform


@pytest.mark.parametrize("bits", [4, 8])
def test_uniform_levels_are_off_by_half_a_level_at_most(bits):
    torch.manual_seed(0)
    values = torch.randn(100, 37)
    codes, scales = to_uniform(values, bits)
    back = from_uniform(codes, scales, values.shape, bits)
    padded = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % BLOCK), value=values[-1, -1].item())
    blocks = padded.view(-1, BLOCK)
    level = (blocks.amax(1) - blocks.amin(1)) / (2**bits - 1)
    allowed = level.repeat_interleave(BLOCK)[: values.numel()].view_as(values) / 2
    assert ((back - values).abs() <= allowed * 1.001).all()
    assert codes.nbytes == blocks.numel() * bits // 8


def test_the_ends_of_a_block_and_a_constant_block_come_back_exactly():
    values = torch.cat([torch.linspace(-1, 3, BLOCK), torch.full((BLOCK,), 0.25)])
    back = from_uniform(*to_uniform(values, 4), values.shape, 4)
    assert back[0] == -1 and back[BLOCK - 1] == 3 and (back[BLOCK:] == 0.25).all()


@pytest.mark.parametrize("signed", [True, False])
def test_dynamic_levels_keep_small_values_beside_large_ones(signed):
    """Within a power of ten the levels lie at most 0.9/64 (signed) of it apart, twice as dense without a sign."""
    torch.manual_seed(0)
    values = torch.rand(4 * BLOCK) * (torch.randn(4 * BLOCK).sign() if signed else 1)
    values[::BLOCK] = 1.0
    back = from_dynamic(*to_dynamic(values, signed=signed), values.shape, signed=signed)
    top = values.abs() > 0.1
    spacing = 0.9 / (64 if signed else 128)
    assert ((back - values)[top].abs() <= spacing).all()
    small = torch.full((BLOCK,), 3e-4)
    small[0] = 1.0
    again = from_dynamic(*to_dynamic(small, signed=signed), small.shape, signed=signed)
    # Three powers of ten below there are an eighth as many levels, at distances of 0.9e-3 / 8 or less.
    torch.testing.assert_close(again[1:], small[1:], rtol=0, atol=0.9e-3 / 8 / 2)


def test_what_divides_never_becomes_zero_and_zero_stays():
    values = torch.tensor([1.0, 1e-12, 0.0])
    back = from_dynamic(*to_dynamic(values, signed=False), values.shape, signed=False)
    assert back[0] == 1 and back[1] > 0 and back[2] == 0
