"""Whole runs with these tuners: the loss falls, a resumed run ends bit for bit the same, infer opens the result."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.infer.sampling import Sampling
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft

CASES = {
    "lora and noise": {"sft_type": "lora", "neftune_noise_alpha": 5, "lora_dropout": 0.1},
    "longlora": {"sft_type": "longlora", "gradient_checkpointing": True},
    "loreft": {"sft_type": "loreft", "reft_rank": 8, "neftune_noise_alpha": 5, "gradient_checkpointing": True},
    "prompt_tuning": {"sft_type": "prompt_tuning", "neftune_noise_alpha": 5, "gradient_checkpointing": True},
    "prefix_tuning": {"sft_type": "prefix_tuning"},
    "p_tuning": {"sft_type": "p_tuning", "gradient_checkpointing": True},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_run_learns_resumes_and_answers(name, tiny_model, tiny_data, tmp_path):
    given = {
        "model": str(tiny_model),
        "dataset": [str(tiny_data)],
        "output_dir": str(tmp_path),
        "run_name": "r",
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 8,
        "save_steps": 4,
        "logging_steps": 1,
        "learning_rate": 2e-2,
        "split_dataset_ratio": 0,
    }
    run = tmp_path / "tiny-llama" / "r"
    assert run_sft(SftConfig(**given, **CASES[name])).exit_code == 0
    losses = [record["loss"] for record in read_log(run / "log.jsonl")]
    assert losses[-1] < losses[0]
    expected = {file.name: load_file(file) for file in (run / "final").glob("*.safetensors")}

    shutil.rmtree(run / "final")
    assert run_sft(SftConfig(**given, **CASES[name], resume=str(run))).exit_code == 0
    for file, tensors in expected.items():
        resumed = load_file(run / "final" / file)
        assert resumed.keys() == tensors.keys() and all(torch.equal(resumed[k], tensors[k]) for k in tensors)

    engine = Engine.load(InferConfig(model=str(run)))
    answer = engine.generate([[{"role": "user", "content": "Count to 3 please."}]], Sampling(max_new_tokens=8))[0]
    assert answer.tokens > 0
