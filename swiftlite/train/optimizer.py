"""Optimizers and learning-rate schedules, by name; nearly all are the libraries' own."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import Adafactor, get_scheduler

from swiftlite.config.errors import UserError
from swiftlite.speed.stochastic_adamw import StochasticAdamW
from swiftlite.train.config import OptimConfig

# Their bytes of states per weight; 8-bit ones with the scale of each block.
_BITSANDBYTES = {"adamw_8bit": 2.04, "paged_adamw": 8.0, "paged_adamw_8bit": 2.04, "lion": 4.0}


def check_optimizer(config: OptimConfig, device: torch.device, dtype: str, sft_type: str, world_size: int) -> None:
    """Sees, before anything is loaded, that the optimizer can run here; `config` has no `auto` in it any more.

    Raises:
        UserError: it cannot; the sentence says what to pass instead.
    """
    if config.optim in _BITSANDBYTES:
        if device.type != "cuda":
            raise UserError(f"--optim {config.optim}: bitsandbytes needs a CUDA device; pass --optim adamw")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError(
                f"--optim {config.optim} is bitsandbytes', which is not installed; `pip install 'swiftlite[quant]'`, "
                f"or pass --optim adamw"
            )
    if config.optim_precision == "stochastic":
        given = f"--dtype {dtype} --sft_type {sft_type} --optim {config.optim}"
        if (dtype, sft_type, config.optim) != ("bf16", "full", "adamw"):
            raise UserError(
                f"--optim_precision stochastic rounds bf16 weights trained whole by AdamW and this is {given}; leave "
                f"it away, or pass --dtype bf16 --sft_type full --optim adamw"
            )
        if world_size > 1:
            # Each process would draw noise of its own, and their copies of the weights would drift apart.
            raise UserError("--optim_precision stochastic needs a single process; pass same or fp32 with several")
    if config.optim_in_backward:
        needed = {
            "--gradient_accumulation_steps 1": config.gradient_accumulation_steps == 1,
            "--max_grad_norm 0": config.max_grad_norm == 0,
            "--sft_type full": sft_type == "full",
            "--dtype bf16 or fp32": dtype != "fp16",
            "one process": world_size == 1,
        }
        missing = [what for what, there in needed.items() if not there]
        if missing:
            raise UserError(
                f"--optim_in_backward true updates each weight before the other gradients are known, so it needs "
                f"{', '.join(missing)}"
            )


def build_optimizers(
    config: OptimConfig, model: nn.Module, groups: list[dict[str, Any]], device: torch.device
) -> list[torch.optim.Optimizer]:
    """One optimizer; two for muon (AdamW for embeddings, head, norms and biases) and 8 bits (32 for embeddings)."""
    fused = device.type == "cuda"
    adam = {"betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon}
    if config.optim in _BITSANDBYTES:
        return _bitsandbytes(config.optim, model, groups, adam)
    if config.optim == "sgd":
        return [torch.optim.SGD(groups, lr=groups[0]["lr"], fused=fused)]
    if config.optim == "adafactor":
        # The learning rate and its schedule are the user's, as in transformers.Trainer.
        return [Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)]
    if config.optim == "adamw":
        if config.optim_precision == "stochastic":
            return [StochasticAdamW(groups, lr=groups[0]["lr"], **adam)]
        return [torch.optim.AdamW(groups, **adam, fused=fused)]
    muon, rest = _split_for_muon(model, groups)
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        # Updates scaled to AdamW's usual size, so that the same learning rate serves both
        # (Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, section 2.2).
        optimizers.append(torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"))
    if rest:
        optimizers.append(torch.optim.AdamW(rest, **adam, fused=fused))
    return optimizers


def build_optimizers_by_weight(
    config: OptimConfig, model: nn.Module, groups: list[dict[str, Any]], device: torch.device
) -> dict[nn.Parameter, torch.optim.Optimizer]:
    """An optimizer for each weight alone, with the settings of its group."""
    return {
        weight: build_optimizers(config, model, [{**group, "params": [weight]}], device)[0]
        for group in groups
        for weight in group["params"]
    }


def _bitsandbytes(
    name: str, model: nn.Module, groups: list[dict[str, Any]], adam: dict[str, Any]
) -> list[torch.optim.Optimizer]:
    """Its optimizer, or for 8 bits two: rows of embeddings are trained too unevenly for them (its own advice)."""
    from bitsandbytes import optim  # pyrefly: ignore

    if name == "lion":
        return [optim.Lion32bit(groups, betas=adam["betas"])]
    if name == "paged_adamw":
        return [optim.PagedAdamW32bit(groups, **adam)]
    kinds = (
        (optim.AdamW8bit, optim.AdamW32bit) if name == "adamw_8bit" else (optim.PagedAdamW8bit, optim.PagedAdamW32bit)
    )
    embeddings = _embeddings(model)
    parts = _split(groups, lambda p: id(p) not in embeddings)
    return [kind(part, **adam) for kind, part in zip(kinds, parts) if part]


def state_bytes(config: OptimConfig, model: nn.Module) -> int:
    """Bytes of the states that the optimizer keeps from its first step on, wherever they lie."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if config.optim == "adafactor":
        return sum(4 * (p.numel() if p.dim() < 2 else p.numel() // p.shape[-1] + p.shape[-1]) for p in trained)
    if config.optim in _BITSANDBYTES:
        whole = _embeddings(model) if "8bit" in config.optim else set()
        return int(sum(p.numel() * (8 if id(p) in whole else _BITSANDBYTES[config.optim]) for p in trained))
    # Muon's matrices need one moment; its embeddings and head, AdamW's, need two.
    moments = 0 if config.optim == "sgd" else 2
    return sum(moments * p.numel() * p.element_size() for p in trained)


def resident_state_bytes(config: OptimConfig, model: nn.Module) -> int:
    """`state_bytes` on the device: paged states make room when it is needed."""
    return 0 if config.optim.startswith("paged") else state_bytes(config, model)


def build_schedulers(
    config: OptimConfig, optimizers: list[torch.optim.Optimizer], total_steps: int
) -> list[torch.optim.lr_scheduler.LRScheduler]:
    """One schedule per optimizer; warm-up in steps, or as a share of `total_steps` rounded up.

    Raises:
        UserError: the schedule lacks a setting or does not know one.
    """
    warmup = config.warmup_steps or -(-total_steps * config.warmup_ratio // 1)
    try:
        return [
            get_scheduler(
                config.lr_scheduler_type,
                optimizer,
                num_warmup_steps=int(warmup),
                num_training_steps=total_steps,
                scheduler_specific_kwargs=dict(config.lr_scheduler_kwargs),
            )
            for optimizer in optimizers
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"--lr_scheduler_type {config.lr_scheduler_type} with --lr_scheduler_kwargs: {error}"
        ) from error


def _embeddings(model: nn.Module) -> set[int]:
    return {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}


def _split_for_muon(model: nn.Module, groups: list[dict[str, Any]]) -> tuple[list[dict], list[dict]]:
    """Matrices of linear layers inside the decoder go to Muon; a tied head counts as an embedding."""
    head = model.get_output_embeddings()  # pyrefly: ignore
    outer = _embeddings(model) | ({id(p) for p in head.parameters()} if head is not None else set())
    return _split(groups, lambda p: p.dim() == 2 and id(p) not in outer)


def _split(groups: list[dict[str, Any]], chosen: Callable[[nn.Parameter], bool]) -> tuple[list[dict], list[dict]]:
    """The groups with the chosen parameters, and those with the others; none of them empty."""
    parts: tuple[list[dict], list[dict]] = ([], [])
    for group in groups:
        for part, wanted in zip(parts, (True, False)):
            params = [p for p in group["params"] if chosen(p) == wanted]
            if params:
                part.append({**group, "params": params})
    return parts
