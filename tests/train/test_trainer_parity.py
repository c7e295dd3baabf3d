"""The loop's losses equal transformers.Trainer's on the same batches; rows spread otherwise change nothing."""

from pathlib import Path

import pytest
import torch

from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft

STEPS = 20
OPTIM = {"learning_rate": 3e-3, "weight_decay": 0.1, "max_grad_norm": 0.5, "warmup_ratio": 0.1}


def run(tiny_model: Path, tiny_data: Path, out: Path, **more) -> list[dict]:
    settings = {
        "model": str(tiny_model),
        "dataset": str(tiny_data),
        "output_dir": str(out),
        "sft_type": "full",
        "max_length": 64,
        "split_dataset_ratio": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "max_steps": STEPS,
        **OPTIM,
    }
    result = run_sft(SftConfig(**(settings | more)))
    return [r for r in read_log(result.run / "log.jsonl") if "loss" in r]


class _Trainer:
    """transformers.Trainer fed with the loop's own batches, labels shifted back."""

    def __init__(self, tiny_model: Path, tiny_data: Path, out: Path):
        from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

        from swiftlite.chat.config import ChatConfig
        from swiftlite.chat.template import choose_template
        from swiftlite.data.config import DataConfig
        from swiftlite.data.loading import load_data
        from swiftlite.data.sampler import EpochPlan
        from swiftlite.train.batches import Collator

        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        data_config = DataConfig(dataset=[str(tiny_data)], max_length=64, split_dataset_ratio=0)
        data = load_data(data_config, choose_template(ChatConfig(), tokenizer, None))
        collator = Collator(data.train, data_config, 0, torch.device("cpu"), 4)
        batches = []
        for epoch in range(6):
            plan = EpochPlan(data.train.lengths, data.train.trained, 4, 2, 1, seed=42, epoch=epoch)
            for k in range(plan.steps):
                for batch in collator.step(plan, k, 0).micro_batches:
                    labels = torch.full_like(batch.labels, -100)
                    labels[:, 1:] = batch.labels[:, :-1]
                    mask = batch.attention_mask
                    mask = torch.ones_like(labels) if mask is None else mask
                    batches.append({"input_ids": batch.input_ids, "labels": labels, "attention_mask": mask})

        class Fed(Trainer):
            def get_train_dataloader(self):
                return batches

        arguments = TrainingArguments(
            str(out),
            max_steps=STEPS,
            gradient_accumulation_steps=2,
            logging_steps=1,
            lr_scheduler_type="cosine",
            adam_beta2=0.95,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            learning_rate=OPTIM["learning_rate"],
            weight_decay=OPTIM["weight_decay"],
            max_grad_norm=OPTIM["max_grad_norm"],
            warmup_steps=2,
        )
        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        self.trainer = Fed(model, arguments, train_dataset=[{}])

    def losses(self) -> list[dict]:
        self.trainer.train()
        return [r for r in self.trainer.state.log_history if "loss" in r]


def test_twenty_steps_equal_transformers_trainer(tiny_model, tiny_data, tmp_path):
    ours = run(tiny_model, tiny_data, tmp_path / "a", batch_size=4, gradient_accumulation_steps=2)
    theirs = _Trainer(tiny_model, tiny_data, tmp_path / "b").losses()
    assert len(ours) == len(theirs) == STEPS
    for a, b in zip(ours, theirs):
        # Trainer logs the loss with rounding to its own display precision.
        assert a["loss"] == pytest.approx(float(b["loss"]), rel=2e-5, abs=6e-5)
        assert a["grad_norm"] == pytest.approx(float(b["grad_norm"]), rel=1e-3)
    assert ours[-1]["loss"] < ours[0]["loss"] - 0.5


@pytest.mark.parametrize(
    "spread",
    [
        {"batch_size": 1, "gradient_accumulation_steps": 8},
        {"batch_size": 1, "gradient_accumulation_steps": 8, "loss_impl": "fused"},
        {"batch_size": 8, "gradient_accumulation_steps": 1, "padding_free": True},
        {"batch_size": 2, "gradient_accumulation_steps": 4, "gradient_checkpointing": False},
        {"batch_size": 8, "gradient_accumulation_steps": 1, "attn_impl": "eager"},
    ],
    ids=["1 x 8", "1 x 8, fused loss", "padding-free", "2 x 4, no checkpointing", "eager attention"],
)
def test_the_same_rows_a_step_give_the_same_losses_however_they_are_spread(tiny_model, tiny_data, tmp_path, spread):
    plain = run(tiny_model, tiny_data, tmp_path / "a", batch_size=8, gradient_accumulation_steps=1, max_steps=8)
    other = run(tiny_model, tiny_data, tmp_path / "b", max_steps=8, **spread)
    for a, b in zip(plain, other):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        assert a["trained_tokens"] == b["trained_tokens"]
