"""A profile is read from its trace: busy share, gaps, own times, against traces written by hand."""

import gzip
import json
import time

import pytest
import torch

from swiftlite.measure.profile import StepProfiler, Work, read_trace


def event(name, category, start, duration, thread=1):
    return {"ph": "X", "name": name, "cat": category, "ts": start, "dur": duration, "tid": thread}


# Two steps of 100 us. Kernels overlap on two streams and reach over the border; 0-10, 50-80 and 190-200 are idle.
GPU_TRACE = [
    event("ProfilerStep#1", "user_annotation", 1000, 100),
    event("ProfilerStep#2", "user_annotation", 1100, 100),
    event("ProfilerStep#2", "gpu_user_annotation", 1000, 200),
    event("mm", "kernel", 1010, 30),
    event("copy", "gpu_memcpy", 1030, 20, thread=2),
    event("mm", "kernel", 1080, 110),
    event("aten::mm", "cpu_op", 1000, 200),
    event("cudaLaunchKernel", "cuda_runtime", 1000, 200),
    {"ph": "M", "name": "process_name"},
]


def test_overlapping_kernels_count_once():
    assert read_trace(GPU_TRACE, "cuda").busy == pytest.approx((40 + 110) / 200)


def test_each_step_has_its_own_share():
    steps = read_trace(GPU_TRACE, "cuda").steps
    assert [wall for wall, _ in steps] == [0.1, 0.1]
    assert [share for _, share in steps] == pytest.approx([0.6, 0.9])


def test_the_longest_gap_lies_within_the_window():
    assert read_trace(GPU_TRACE, "cuda").longest_gap == pytest.approx(0.030)


def test_kernels_are_listed_by_their_time():
    assert read_trace(GPU_TRACE, "cuda").work == [Work("mm", 1.0, 0.07), Work("copy", 0.5, 0.01)]


def test_an_operators_time_is_without_those_it_called():
    trace = [
        event("ProfilerStep#1", "user_annotation", 0, 1000),
        event("linear", "cpu_op", 0, 500),
        event("mm", "cpu_op", 100, 300),
        event("empty", "cpu_op", 150, 50),
        event("mm", "cpu_op", 600, 100),
        event("backward", "cpu_op", 0, 200, thread=2),
    ]
    found = read_trace(trace, "cpu")
    assert {work.name: work.milliseconds for work in found.work} == pytest.approx(
        {"linear": 0.2, "mm": 0.35, "empty": 0.05, "backward": 0.2}
    )
    assert found.busy == pytest.approx(0.6)


def test_time_outside_operators_is_idle(tmp_path):
    profiler = StepProfiler(tmp_path / "profile", torch.device("cpu"), steps=2)
    a = torch.randn(64, 64)
    profiler.warm_up()
    profile = None
    for _ in range(3):
        assert profile is None
        a @ a
        time.sleep(0.05)
        profile = profiler.step()
    assert profile is not None and len(profile.steps) == 2
    assert profile.busy < 0.5 and profile.longest_gap >= 49
    assert "aten::mm" in (tmp_path / "profile" / "summary.txt").read_text()
    with gzip.open(tmp_path / "profile" / "trace.json.gz") as file:
        assert json.load(file)["traceEvents"]
