"""Where fp8 products can run, told before a model is loaded."""

import pytest
import torch

from swiftlite.quant.fp8 import fp8_obstacle


@pytest.mark.parametrize(
    ("capability", "dtype", "runs"),
    [((8, 9), torch.bfloat16, True), ((9, 0), torch.float16, False), ((8, 0), torch.bfloat16, False)],
)
def test_fp8_needs_a_recent_gpu_and_bf16(monkeypatch, capability, dtype, runs):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert (fp8_obstacle(torch.device("cuda"), dtype) is None) == runs
