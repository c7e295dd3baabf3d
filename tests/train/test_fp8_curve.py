"""What training on a base in fp8 costs: 300 steps of nano on GSM8K, beside the same without fp8."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from swiftlite import SftConfig, run_sft
from swiftlite.models.families.nano import FOLDER
from swiftlite.train.reporting import read_log
from tests.shared_data import SHARED, needs_shared

pytestmark = [pytest.mark.slow, needs_shared]
GSM8K = SHARED / "data" / "eval" / "gsm8k"
SETTINGS = {
    "model": "nano",
    "dataset": [str(GSM8K / "train.jsonl")],
    "lora_rank": 16,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_length": 512,
    "learning_rate": 2e-3,
    "gradient_checkpointing": "off",
    "max_steps": 300,
    "logging_steps": 5,
    "device": "cpu",
    "eval_strategy": "no",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Run folders by --quant_method; on a CPU fp8 is emulated, and all else is fp32."""
    out = tmp_path_factory.mktemp("curve")
    return {
        method: run_sft(SftConfig(**SETTINGS, output_dir=str(out), run_name=f"in-{method}", quant_method=method)).run
        for method in ("none", "fp8")
    }


def deviations(runs: dict[str, Path]) -> torch.Tensor:
    """(fp8 - plain) / plain at each logged step."""
    plain, fp8 = (
        torch.tensor([r["loss"] for r in read_log(runs[method] / "log.jsonl") if "loss" in r])
        for method in ("none", "fp8")
    )
    assert len(plain) == 61
    return (fp8 - plain) / plain


@torch.no_grad()
def answer_loss(adapter: Path, rows: int = 200) -> float:
    """Of the first answers in GSM8K's test set, a token, in float32 and without fp8."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    model, tokenizer = PeftModel.from_pretrained(model, str(adapter)).eval(), AutoTokenizer.from_pretrained(FOLDER)
    total, tokens = 0.0, 0
    for line in (GSM8K / "test.jsonl").read_text(encoding="utf-8").splitlines()[:rows]:
        row = json.loads(line)
        prompt = tokenizer(f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        answer = tokenizer(f"{row['answer']}<|im_end|>")["input_ids"]
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
        tokens += len(answer)
    return total / tokens


def test_an_adapter_trained_on_fp8_is_as_good_without_it(runs):
    plain, fp8 = (answer_loss(runs[method] / "final") for method in ("none", "fp8"))
    assert abs(fp8 - plain) <= 0.005 * plain


def test_the_loss_in_fp8_stays_close(runs):
    """Around what was measured: about 0.5 % above on the mean, 1.5 % at the most."""
    found = deviations(runs)
    assert found.mean().abs() < 0.008 and found.abs().max() < 0.02


@pytest.mark.xfail(strict=True, reason="nano is too small for fp8: about half of the 61 logged losses deviate by more")
def test_the_loss_in_fp8_stays_within_half_a_percent_at_every_logged_step(runs):
    assert deviations(runs).abs().max() <= 0.005
