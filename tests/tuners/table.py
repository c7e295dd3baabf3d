"""One row a tuner or variant of one: how it is asked for, what it trains. Tests of the table run over all rows."""

import dataclasses
import re
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from swiftlite.train import run
from swiftlite.train.config import SftConfig
from swiftlite.train.loop import Job
from swiftlite.train.reporting import read_log
from swiftlite.train.result import TrainResult
from swiftlite.train.sft import run_sft


@dataclasses.dataclass(frozen=True)
class Row:
    """One tuner with its flags.

    Attributes:
        flags: what a user passes beside model and data.
        trains: a pattern found in the names of exactly the parameters that training changes.
        parameters: trainable ones of qwen-7b-chat by the seed's table or a formula, with `counted` beside `flags`.
        percent: their share of all parameters, in the seed's four digits.
        falls: the last loss on the same batch is below this share of the first one.
    """

    name: str
    flags: dict[str, Any]
    trains: str
    parameters: int | None = None
    percent: str | None = None
    counted: dict[str, Any] = dataclasses.field(default_factory=dict)
    falls: float = 0.9

    def changes(self, parameter: str) -> bool:
        """Whether this row's training has to change the parameter of that name, or else to leave it as it is."""
        return re.search(self.trains, parameter) is not None


_ALL = {"lora_target_modules": "ALL"}
_FULL = {"sft_type": "full"}
# Widths of the five linear layers in each of qwen-7b's 32, added up: in, and out.
_INPUTS = 4 * 4096 + 11008
_OUTPUTS = 12288 + 4096 + 2 * 11008 + 4096

ROWS = [
    Row(
        "lora",
        {"learning_rate": 3e-3},
        r"lora_[AB]\.",
        parameters=17_891_328,
        percent="0.2312",
        counted=_ALL,
    ),
    Row(
        "rslora",
        {"use_rslora": True, "learning_rate": 1e-3},
        r"lora_[AB]\.",
        parameters=17_891_328,
        counted=_ALL,
    ),
    Row(
        "dora",
        {"use_dora": True, "learning_rate": 3e-3},
        r"lora_([AB]|magnitude_vector)\.",
        parameters=19_251_200,
        percent="0.2487",
        counted=_ALL,
    ),
    Row(
        "lora+",
        {"lora_lr_ratio": 16, "learning_rate": 5e-4},
        r"lora_[AB]\.",
        parameters=17_891_328,
        counted=_ALL,
    ),
    Row(
        "adalora",
        {"sft_type": "adalora", "adalora_target_r": 11, "learning_rate": 1e-2},
        r"lora_[ABE]\.",
        parameters=26_838_912,
        percent="0.3464",
        counted=_ALL,
    ),
    Row(
        "ia3",
        {"sft_type": "ia3", "learning_rate": 2e-2},
        r"ia3_l\.",
        # 32 layers: outputs of both attention layers, inputs of the three of the MLP.
        parameters=32 * (12288 + 4096 + 4096 + 4096 + 11008),
        counted={"ia3_feedforward_modules": ["w1", "w2", "mlp.c_proj"]},
    ),
    Row(
        "vera",
        {"sft_type": "vera", "learning_rate": 2e-2},
        r"vera_lambda_[bd]\.",
        # The rank and the width of the outputs.
        parameters=32 * (5 * 256 + _OUTPUTS),
    ),
    # Not counted on a 7B: PEFT keeps a square matrix of each layer's width, 23 GB.
    Row("boft", {"sft_type": "boft", "learning_rate": 1e-2}, r"boft_[Rs]\."),
    Row(
        "oft",
        {"sft_type": "oft", "learning_rate": 3e-3},
        r"oft_R\.",
        # Skew-symmetric blocks of 32.
        parameters=32 * _INPUTS // 32 * (32 * 31 // 2),
    ),
    # Not counted on a 7B: PEFT shuffles the places of all weights of each layer, for minutes.
    Row("fourierft", {"sft_type": "fourierft", "learning_rate": 1e-2}, r"fourierft_spectrum\."),
    Row("miss", {"sft_type": "miss", "learning_rate": 1e-3}, r"miss_block\.", parameters=32 * 64 * _OUTPUTS),
    Row(
        "miss-bat",
        {"sft_type": "miss", "miss_variant": "bat", "learning_rate": 1e-3},
        r"miss_block\.",
        parameters=32 * 64 * _OUTPUTS,
    ),
    Row("full", {"sft_type": "full", "learning_rate": 3e-4}, r"", parameters=7_721_324_544),
    Row(
        "galore", _FULL | {"use_galore": True, "galore_rank": 32, "learning_rate": 3e-3}, r"", parameters=7_721_324_544
    ),
    Row(
        "q-galore",
        _FULL | {"use_galore": True, "galore_rank": 32, "galore_quantization": True, "learning_rate": 1e-4},
        r"",
    ),
    Row(
        "lisa",
        _FULL | {"lisa_activated_layers": 2, "learning_rate": 3e-4},
        # Layers drawn with the default seed, and what no draw puts to sleep.
        r"layers\.[15]\.|embed_tokens|model\.norm",
        parameters=1_649_455_104,
        percent="21.3623",
    ),
    Row(
        "lisa-4",
        _FULL | {"lisa_activated_layers": 4, "learning_rate": 3e-4},
        r"layers\.[1245]\.|embed_tokens|model\.norm",
        parameters=2_054_246_400,
        percent="26.6048",
    ),
    Row(
        "llamapro",
        {"sft_type": "llamapro", "llamapro_num_new_blocks": 2, "learning_rate": 3e-3},
        r"layers\.[37]\.",
        parameters=809_582_592,
        percent="9.4900",
        counted={"llamapro_num_new_blocks": 4},
    ),
    Row(
        "adapter",
        {"sft_type": "adapter", "learning_rate": 1e-2},
        r"\.adapter\.",
        parameters=33_689_600,
        percent="0.4344",
    ),
    Row(
        "longlora",
        {"sft_type": "longlora", "learning_rate": 3e-3},
        r"lora_[AB]\.|modules_to_save",
        # LoRA, embedding and all norms.
        parameters=17_891_328 + 151_936 * 4096 + 65 * 4096,
    ),
    Row(
        "loreft",
        {"sft_type": "loreft", "reft_positions": "all", "learning_rate": 1e-2},
        r"\.loreft\.",
        parameters=32 * (2 * 4 * 4096 + 4),
    ),
    Row("prompt_tuning", {"sft_type": "prompt_tuning", "learning_rate": 1e-1}, r"prompt_encoder", parameters=20 * 4096),
    Row("prefix_tuning", {"sft_type": "prefix_tuning", "learning_rate": 1e-2}, r"prompt_encoder"),
    Row("p_tuning", {"sft_type": "p_tuning", "learning_rate": 2e-3}, r"prompt_encoder"),
]


@dataclasses.dataclass
class Trained:
    """A short run: losses of its steps, all parameters before and after, and what trained them."""

    losses: list[float]
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]
    model: nn.Module
    run: Path


def settings(row: Row) -> dict[str, Any]:
    """The row's flags, and those of a short run on a CPU: one batch, again and again."""
    common = {
        "model": "nano",
        "dataset": "demo#16",
        "dtype": "fp32",
        "max_steps": 8,
        "batch_size": 16,
        "gradient_accumulation_steps": 1,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0.0,
        "split_dataset_ratio": 0.0,
        "save_strategy": "no",
        "logging_steps": 1,
        "run_name": "r",
    }
    return common | row.flags


def train(row: Row, folder: Path, **more: Any) -> Trained:
    """Eight steps of nano on the same 16 conversations of the demo, as `swiftlite sft` takes them."""
    kept: list[tuple[Job, dict[str, torch.Tensor]]] = []
    run_job = run.run_job

    def run_and_keep(job: Job) -> TrainResult:
        kept.append((job, weights(job.model)))
        return run_job(job)

    with mock.patch.object(run, "run_job", run_and_keep):
        result = run_sft(SftConfig(**(settings(row) | {"output_dir": str(folder)} | more)))
    (job, before), losses = kept[0], [line["loss"] for line in read_log(result.run / "log.jsonl") if "loss" in line]
    return Trained(losses, before, weights(job.model), job.model, result.run)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters of the model as they are now."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
