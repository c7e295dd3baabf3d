"""What each optimizer needs, said before anything is loaded."""

import importlib.util

import torch

from swiftlite.config.errors import UserError
from swiftlite.train.config import TrainConfig

BITSANDBYTES = ("adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion")


def check_optimizer(config: TrainConfig, device: torch.device, world_size: int, reasons: list[str]) -> None:
    """Sees that the optimizer can run here and be right; `config` has no `auto` in it any more.

    Raises:
        UserError: it cannot; the sentence says what to pass instead.
    """
    if config.galore.use_galore:
        _check_galore(config)
    else:
        _check_package(config.optim.optim, device)
    if config.optim.optim_precision == "stochastic":
        _check_stochastic(config, world_size)
    if config.optim.optim_in_backward:
        _check_in_backward(config, world_size)
    if config.optim.optim == "schedule_free":
        _check_schedule_free(config, reasons)
    if config.optim.optim == "apollo" and config.tuner.sft_type != "full":
        raise UserError(
            f"--optim apollo projects the gradients of whole weights and --sft_type {config.tuner.sft_type} trains "
            f"small matrices beside them; pass --sft_type full, or --optim adamw"
        )


def _check_package(name: str, device: torch.device) -> None:
    if name in BITSANDBYTES:
        if device.type != "cuda":
            raise UserError(f"--optim {name}: bitsandbytes needs a CUDA device; pass --optim adamw")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError(
                f"--optim {name} is bitsandbytes', which is not installed; `pip install 'swiftlite[quant]'`, "
                f"or pass --optim adamw"
            )
    if name == "schedule_free" and importlib.util.find_spec("schedulefree") is None:
        raise UserError(
            "--optim schedule_free is the package schedulefree's, which is not installed; `pip install "
            "'swiftlite[schedule-free]'`, or pass --optim adamw"
        )


def _check_galore(config: TrainConfig) -> None:
    if config.tuner.sft_type != "full":
        raise UserError(
            f"--use_galore true projects the gradients of whole weights and --sft_type {config.tuner.sft_type} trains "
            f"small matrices beside them; pass --sft_type full, or leave it away"
        )
    if config.optim.optim not in ("adamw", "adamw_8bit"):
        raise UserError(
            f"--use_galore true is AdamW on projected gradients and this is --optim {config.optim.optim}; pass --optim "
            f"adamw, or adamw_8bit for projected states in 8 bits"
        )


def _check_stochastic(config: TrainConfig, world_size: int) -> None:
    dtype, sft_type, optim = config.model.dtype, config.tuner.sft_type, config.optim.optim
    if (dtype, sft_type, optim) != ("bf16", "full", "adamw"):
        raise UserError(
            f"--optim_precision stochastic rounds bf16 weights trained whole by AdamW and this is --dtype {dtype} "
            f"--sft_type {sft_type} --optim {optim}; leave it away, or pass --dtype bf16 --sft_type full --optim adamw"
        )
    if world_size > 1:
        # Each process would draw noise of its own, and their copies of the weights would drift apart.
        raise UserError("--optim_precision stochastic needs a single process; pass same or fp32 with several")


def _check_in_backward(config: TrainConfig, world_size: int) -> None:
    needed = {
        "--gradient_accumulation_steps 1": config.optim.gradient_accumulation_steps == 1,
        "--max_grad_norm 0": config.optim.max_grad_norm == 0,
        "--sft_type full": config.tuner.sft_type == "full",
        "--dtype bf16 or fp32": config.model.dtype != "fp16",
        "one process": world_size == 1,
    }
    missing = [what for what, there in needed.items() if not there]
    if missing:
        raise UserError(
            f"--optim_in_backward true updates each weight before the other gradients are known, so it needs "
            f"{', '.join(missing)}"
        )


def _check_schedule_free(config: TrainConfig, reasons: list[str]) -> None:
    """Its average takes the place of a schedule; one that was not asked for gives way."""
    schedule = config.optim.lr_scheduler_type
    if schedule in ("constant", "constant_with_warmup"):
        return
    if not config.sources.get("lr_scheduler_type", "preset").startswith("preset"):
        raise UserError(
            f"--optim schedule_free averages weights instead of lowering the learning rate and --lr_scheduler_type "
            f"{schedule} lowers it; leave it away, or pass constant or constant_with_warmup"
        )
    config.set("lr_scheduler_type", "constant_with_warmup")
    reasons.append("schedule: constant_with_warmup, because schedule_free needs no other")
