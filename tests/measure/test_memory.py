"""Peak memory: what is allocated shows, and the CPU's number is labelled as resident memory."""

import sys

import pytest
import torch

from swiftlite.measure.memory import GIB, PeakMemory, peak_memory, reset_peak


def test_cpu_peak_is_at_least_a_tensor_just_filled():
    before = peak_memory("cpu")
    if reset_peak("cpu"):
        before = peak_memory("cpu")
    block = torch.ones(64 * 1024**2)
    grown = peak_memory("cpu").reserved_gib - before.reserved_gib
    # Pages freed by earlier tests may be reused, so not all of it need be new.
    assert grown > 0 if sys.platform == "linux" else grown >= 0
    assert peak_memory("cpu").reserved_gib > block.nbytes / GIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of resident memory")
def test_reset_starts_the_cpu_peak_again():
    block = torch.ones(128 * 1024**2)
    high = peak_memory("cpu").reserved_gib
    del block
    if not reset_peak("cpu"):
        pytest.skip("this system does not let a process write /proc/self/clear_refs")
    assert peak_memory("cpu").reserved_gib < high - 0.25


def test_cpu_numbers_are_labelled_as_rss():
    assert list(peak_memory("cpu").as_dict()) == ["peak_rss_gib"]


def test_cuda_numbers_keep_both_names():
    peak = PeakMemory(1.5, 2.0, "cuda")
    assert peak.as_dict() == {"peak_allocated_gib": 1.5, "peak_reserved_gib": 2.0}


@pytest.mark.gpu
def test_cuda_peak_covers_a_freed_tensor():
    reset_peak("cuda")
    before = peak_memory("cuda").allocated_gib
    block = torch.empty(GIB // 4, device="cuda")
    del block
    assert peak_memory("cuda").allocated_gib - before == pytest.approx(1, abs=0.01)
