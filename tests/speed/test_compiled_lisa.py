"""Compiled layers under LISA: two graphs serve every draw, and compute what uncompiled layers do."""

import torch
from torch._dynamo.utils import counters

from swiftlite.models.layers import find_layers
from swiftlite.speed.checkpointing import apply_checkpointing
from swiftlite.speed.compile import compile_layers
from swiftlite.train.config import SftConfig
from swiftlite.tuners.registry import make_tuner
from tests.speed.test_compile import make, step


def lisa(model):
    settings = {"sft_type": "full", "lisa_activated_layers": 1, "lisa_step_interval": 1}
    tuner = make_tuner("full", SftConfig(model="nano", dataset="demo", **settings))
    tuner.apply(model)
    return tuner


def test_no_draw_is_compiled_anew(traced):
    model = make("llama")
    tuner = lisa(model)
    apply_checkpointing(model, "full")
    compile_layers(model, dynamic=True)
    first = counters["stats"]["unique_graphs"]
    assert first == 2, "one awake, one asleep"
    seen = set()
    for number in range(12):
        tuner.before_step(model, [], number)
        seen.add(tuple(tuner.awake))
        loss, gradients = step(model, 3, 21)
        reference = make("llama")
        lisa(reference).before_step(reference, [], number)
        expected, theirs = step(reference, 3, 21)
        assert abs(loss - expected) <= 1e-5 * expected and gradients.keys() == theirs.keys()
        for name, gradient in theirs.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7)
    assert len(seen) == len(find_layers(model))
    assert counters["stats"]["unique_graphs"] == first
