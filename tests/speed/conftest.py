"""Graphs that tests make, and what they leave behind."""

import functools

import pytest
import torch
from torch._dynamo.utils import counters


@pytest.fixture
def fresh():
    """No graphs of other tests, and the limit on recompilations as it was."""
    torch._dynamo.reset()
    counters.clear()
    limit = torch._dynamo.config.recompile_limit
    yield
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch, fresh):
    """Graphs are made as ever, but not turned into machine code, which takes most of the time."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
