"""An adapter's two products with a gradient, made of one read of it on a GPU, are the two products."""

import pytest
import torch

from swiftlite.speed.frozen_linears import _made_of_one_read, adapter_gradients


@pytest.mark.gpu
@pytest.mark.parametrize(("tokens", "columns", "rank"), [(1, 64, 8), (257, 1408, 8), (640, 512, 3), (300, 176, 32)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_both_products_are_those_of_double_precision_rounded_once(tokens, columns, rank, dtype):
    torch.manual_seed(0)
    # Rows that lie apart, as the parts of one product's columns do.
    g = torch.randn(tokens, columns + 64, device="cuda", dtype=dtype)[:, 32:-32]
    up, x = torch.randn(columns, rank, device="cuda", dtype=dtype), torch.randn(tokens, 48, device="cuda", dtype=dtype)
    read = torch.randn(tokens, 2 * rank, device="cuda", dtype=dtype)
    assert _made_of_one_read(g, up)
    # The first layer has no adapter, the two others have one each.
    (for_a, first, second), back = adapter_gradients([g, g, g], x, read, [None, up, up])
    expected = torch.cat([g.double() @ up.double()] * 2, 1)
    torch.testing.assert_close(back.double(), expected, rtol=1e-2, atol=1e-2 * expected.std().item())
    for found, its_read in zip((first, second), read.double().chunk(2, 1)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), g.double().t() @ its_read, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(for_a.double(), back.double().t() @ x.double(), rtol=1e-4, atol=1e-2)


@pytest.mark.gpu
def test_products_are_the_same_each_time():
    torch.manual_seed(0)
    g, up, read = (
        torch.randn(size, device="cuda", dtype=torch.bfloat16) for size in ((2000, 1408), (1408, 8), (2000, 8))
    )
    one, other = (adapter_gradients([g], g, read, [up]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip([*one[0], one[1]], [*other[0], other[1]]))
