"""Tuners that choose or add layers: a resumed run ends where a straight one does, and infer opens what is left."""

import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from swiftlite.infer.config import InferConfig
from swiftlite.infer.loading import load_parts
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft

TUNERS = {
    # A checkpoint in the middle of a period, and one at its end.
    "lisa": {"sft_type": "full", "lisa_activated_layers": 1, "lisa_step_interval": 3},
    "lisa that keeps states": {
        "sft_type": "full",
        "lisa_activated_layers": 1,
        "lisa_step_interval": 2,
        "lisa_keep_states": True,
    },
    "llamapro": {"sft_type": "llamapro", "llamapro_num_new_blocks": 2},
    "adapter": {"sft_type": "adapter", "adapter_length": 8},
}
IDS = torch.arange(20).view(2, 10)


def weights(run) -> dict[str, torch.Tensor]:
    (file,) = (run / "final").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("name", TUNERS)
def test_a_resumed_run_ends_as_the_straight_one_and_infer_opens_it(name, tiny_model, tiny_data, tmp_path):
    settings = {
        "model": str(tiny_model),
        "dataset": str(tiny_data),
        "output_dir": str(tmp_path),
        "max_length": 64,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 8,
        "learning_rate": 1e-2,
        "save_steps": 4,
        "logging_steps": 1,
        "split_dataset_ratio": 0,
    }
    straight = run_sft(SftConfig(**settings, **TUNERS[name])).run
    losses = [record["loss"] for record in read_log(straight / "log.jsonl") if "loss" in record]
    assert min(losses[-2:]) < losses[0] - 0.01 and all(map(math.isfinite, losses))
    copy = tmp_path / "copy"
    shutil.copytree(straight, copy)
    run_sft(SftConfig(resume=str(copy / "checkpoint-4")))
    expected, resumed = weights(straight), weights(copy)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(resumed[n], expected[n]) for n in expected)

    served = load_parts(InferConfig(model=str(copy), device="cpu", dtype="fp32")).model
    held = dict(served.named_parameters())
    assert all(torch.equal(held[n], tensor) for n, tensor in resumed.items())
    plain = AutoModelForCausalLM.from_pretrained(tiny_model if name == "adapter" else copy / "final")
    same = torch.allclose(served(IDS).logits, plain(IDS).logits, atol=1e-5)
    assert same is (name != "adapter")
