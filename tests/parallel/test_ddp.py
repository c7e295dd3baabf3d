"""Two data-parallel processes take the same steps as one."""

import pytest
import torch
from safetensors.torch import load_file

from swiftlite.train.reporting import read_log
from tests.children import run_sft_in_child, run_sft_in_ranks


@pytest.mark.parametrize(("sft_type", "impl"), [("full", "fused"), ("lora", "plain")])
def test_two_ranks_equal_one_process(tiny_model, tiny_data, tmp_path, sft_type, impl):
    # 40 rows in steps of 12: the last step leaves one rank a filler.
    common = {
        "model": str(tiny_model),
        "dataset": [str(tiny_data)],
        "sft_type": sft_type,
        "loss_impl": impl,
        "run_name": "r",
        "max_length": 64,
        "split_dataset_ratio": 0.1,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": False,
    }
    one = common | {"output_dir": str(tmp_path / "1"), "batch_size": 3, "gradient_accumulation_steps": 4}
    two = common | {"output_dir": str(tmp_path / "2"), "batch_size": 3, "gradient_accumulation_steps": 2}
    assert run_sft_in_child(one).code == 0
    ended = run_sft_in_ranks(two, ranks=2)
    assert [e.code for e in ended] == [0, 0], ended
    runs = [tmp_path / n / "tiny-llama" / "r" for n in "12"]
    first, second = (read_log(run / "log.jsonl") for run in runs)
    assert len(first) == len(second)
    for a, b in zip(first, second):
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-5)
        assert a.get("trained_tokens") == b.get("trained_tokens")
    weights = [load_file(next((run / "final").glob("*.safetensors"))) for run in runs]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)
