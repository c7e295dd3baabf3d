"""Optimizers and learning-rate schedules, by name; both are the libraries' own."""

from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from swiftlite.config.errors import UserError
from swiftlite.train.config import OptimConfig


def build_optimizers(
    config: OptimConfig, model: nn.Module, groups: list[dict[str, Any]], device: torch.device
) -> list[torch.optim.Optimizer]:
    """One optimizer, or two for muon: Muon for hidden matrices, AdamW for embeddings, head, norms and biases."""
    fused = device.type == "cuda"
    betas = (config.adam_beta1, config.adam_beta2)
    if config.optim == "sgd":
        return [torch.optim.SGD(groups, lr=groups[0]["lr"], fused=fused)]
    if config.optim == "adamw":
        return [torch.optim.AdamW(groups, betas=betas, eps=config.adam_epsilon, fused=fused)]
    muon, rest = _split_for_muon(model, groups)
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        # Updates scaled to AdamW's usual size, so that the same learning rate serves both
        # (Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, section 2.2).
        optimizers.append(torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw"))
    if rest:
        optimizers.append(torch.optim.AdamW(rest, betas=betas, eps=config.adam_epsilon, fused=fused))
    return optimizers


def state_bytes(config: OptimConfig, parameters: list[nn.Parameter]) -> int:
    """Bytes on the device that the optimizer will keep from its first step on."""
    moments = {"adamw": 2, "muon": 2, "sgd": 0}[config.optim]
    return sum(moments * p.numel() * p.element_size() for p in parameters)


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


def _split_for_muon(model: nn.Module, groups: list[dict[str, Any]]) -> tuple[list[dict], list[dict]]:
    """Matrices of linear layers inside the decoder go to Muon; a tied head counts as an embedding."""
    outer = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    head = model.get_output_embeddings()  # pyrefly: ignore
    outer |= {id(p) for p in head.parameters()} if head is not None else set()
    muon, rest = [], []
    for group in groups:
        inner = [p for p in group["params"] if p.dim() == 2 and id(p) not in outer]
        others = [p for p in group["params"] if p.dim() != 2 or id(p) in outer]
        if inner:
            muon.append({**group, "params": inner})
        if others:
            rest.append({**group, "params": others})
    return muon, rest
