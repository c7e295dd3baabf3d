"""Matrix products whose results are not rounded to half precision, for sums over many tokens."""

import torch
from torch import Tensor


def float_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32, (n, k) and (k, m); CUDA never rounds it. Summed over tokens, fp16 could overflow."""
    if a.is_cuda and a.dtype.itemsize == 2:
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a, b).float()
