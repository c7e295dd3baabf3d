"""Optimizers and learning-rate schedules, by name; nearly all are the libraries' own."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import Adafactor, get_scheduler

from swiftlite.config.errors import UserError
from swiftlite.speed.apollo import Apollo
from swiftlite.speed.stochastic_adamw import StochasticAdamW
from swiftlite.train.config import OptimConfig, TrainConfig
from swiftlite.tuners.galore.optimizer import GaloreAdamW
from swiftlite.tuners.galore.projection import projected_state_bytes, projected_weights

# Their bytes of states per weight; 8-bit ones with the scale of each block.
_BITSANDBYTES = {"adamw_8bit": 2.04, "paged_adamw": 8.0, "paged_adamw_8bit": 2.04, "lion": 4.0}


def build_optimizers(
    config: TrainConfig, model: nn.Module, groups: list[dict[str, Any]], device: torch.device
) -> list[torch.optim.Optimizer]:
    """One optimizer, or two where some weights need another: AdamW for what muon, apollo and GaLore leave over.

    Raises:
        UserError: the weights are not in a precision that the optimizer can work in.
    """
    o = config.optim
    adam: dict[str, Any] = {"betas": (o.adam_beta1, o.adam_beta2), "eps": o.adam_epsilon}
    if config.galore.use_galore:
        return _galore(config, model, groups, adam, device)
    if o.optim in _BITSANDBYTES:
        return _bitsandbytes(o.optim, model, groups, adam)
    if o.optim == "sgd":
        return [torch.optim.SGD(groups, lr=groups[0]["lr"], fused=device.type == "cuda")]
    if o.optim == "adafactor":
        # The learning rate and its schedule are the user's, as in transformers.Trainer.
        return [Adafactor(groups, scale_parameter=False, relative_step=False, warmup_init=False)]
    if o.optim == "schedule_free":
        return [_schedule_free(groups, adam)]
    if o.optim == "adamw":
        return _adamw(o, groups, adam, device)
    if o.optim == "apollo":
        chosen, rest = _split_chosen(groups, projected_weights(model, o.apollo_rank))
        kind: dict[str, Any] = {"rank": o.apollo_rank, "gap": o.apollo_update_gap, "scale": o.apollo_scale}
        kind |= {"by_tensor": o.apollo_scale_type == "tensor", "seed": config.general.seed}
        first: list[torch.optim.Optimizer] = [Apollo(chosen, **kind, **adam)] if chosen else []
        return first + _adamw(o, rest, adam, device)
    muon, rest = _split_for_muon(model, groups)
    # Updates scaled to AdamW's usual size, so that the same learning rate serves both
    # (Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, section 2.2).
    first = [torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw")] if muon else []
    return first + _adamw(o, rest, adam, device)


def build_optimizers_by_weight(
    config: TrainConfig, model: nn.Module, groups: list[dict[str, Any]], device: torch.device
) -> dict[nn.Parameter, torch.optim.Optimizer]:
    """An optimizer for each weight alone, with the settings of its group."""
    return {
        weight: build_optimizers(config, model, [{**group, "params": [weight]}], device)[0]
        for group in groups
        for weight in group["params"]
    }


@contextlib.contextmanager
def averaged_weights(optimizers: list[torch.optim.Optimizer]) -> Iterator[None]:
    """Around evaluating and saving: what schedule-free training is after is an average of the weights it trains at."""
    averaging: list[Any] = [optimizer for optimizer in optimizers if hasattr(optimizer, "eval")]
    for optimizer in averaging:
        optimizer.eval()
    try:
        yield
    finally:
        go_on_training(averaging)


def go_on_training(optimizers: list[torch.optim.Optimizer]) -> None:
    """After loading, as after `averaged_weights`: the weights that were saved are the average."""
    averaging: list[Any] = [optimizer for optimizer in optimizers if hasattr(optimizer, "train")]
    for optimizer in averaging:
        optimizer.train()


def _adamw(
    config: OptimConfig, groups: list[dict[str, Any]], adam: dict[str, Any], device: torch.device
) -> list[torch.optim.Optimizer]:
    """AdamW, or nothing for no weights."""
    if not groups:
        return []
    if config.optim_precision == "stochastic":
        return [StochasticAdamW(groups, lr=groups[0]["lr"], **adam)]
    return [torch.optim.AdamW(groups, **adam, fused=device.type == "cuda")]


def _galore(
    config: TrainConfig, model: nn.Module, groups: list[dict[str, Any]], adam: dict[str, Any], device: torch.device
) -> list[torch.optim.Optimizer]:
    o = config.optim
    chosen, rest = _split_chosen(groups, _projected(config, model))
    how = {"small_states": o.optim == "adamw_8bit", "stochastic": o.optim_precision == "stochastic"}
    first: list[torch.optim.Optimizer] = (
        [GaloreAdamW(chosen, config.galore, seed=config.general.seed, **adam, **how)] if chosen else []
    )
    return first + _adamw(o, rest, adam, device)


def _projected(config: TrainConfig, model: nn.Module) -> list[nn.Parameter]:
    if config.galore.use_galore:
        return projected_weights(model, config.galore.galore_rank, with_embedding=config.galore.galore_with_embedding)
    return projected_weights(model, config.optim.apollo_rank) if config.optim.optim == "apollo" else []


def _schedule_free(groups: list[dict[str, Any]], adam: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW without a schedule (Defazio et al., "The Road Less Scheduled", arXiv 2405.15682), its authors'."""
    import schedulefree  # pyrefly: ignore

    lowest = min((p.dtype for group in groups for p in group["params"]), key=lambda dtype: dtype.itemsize)
    if lowest.itemsize < 4:
        raise UserError(
            f"--optim schedule_free averages weights in steps that {str(lowest).removeprefix('torch.')} cannot hold; "
            f"pass --optim_precision fp32 (for adapters --lora_dtype fp32)"
        )
    return schedulefree.AdamWScheduleFree(groups, **adam)


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


def state_bytes(config: TrainConfig, model: nn.Module) -> int:
    """Bytes of the states that the optimizers keep from their first step on, wherever they lie."""
    o, galore = config.optim, config.galore
    chosen = {id(p): p for p in _projected(config, model)}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    if galore.use_galore:
        small = o.optim == "adamw_8bit"
        projected = sum(projected_state_bytes(p, galore, small_states=small) for p in chosen.values())
        return projected + sum(2 * p.nbytes for p in trained)
    if o.optim == "adafactor":
        return sum(4 * (p.numel() if p.dim() < 2 else p.numel() // p.shape[-1] + p.shape[-1]) for p in trained)
    if o.optim in _BITSANDBYTES:
        whole = _embeddings(model) if "8bit" in o.optim else set()
        return int(sum(p.numel() * (8 if id(p) in whole else _BITSANDBYTES[o.optim]) for p in trained))
    # Muon's matrices need one moment; its embeddings and head, AdamW's, need two.
    moments = 0 if o.optim == "sgd" else 2
    apollo = sum(8 * o.apollo_rank * max(p.shape) for p in chosen.values())
    return apollo + sum(moments * p.nbytes for p in trained)


def resident_state_bytes(config: TrainConfig, model: nn.Module) -> int:
    """`state_bytes` on the device: paged states make room when it is needed."""
    return 0 if config.optim.optim.startswith("paged") else state_bytes(config, model)


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


def _split_chosen(groups: list[dict[str, Any]], chosen: list[nn.Parameter]) -> tuple[list[dict], list[dict]]:
    found = {id(p) for p in chosen}
    return _split(groups, lambda p: id(p) in found)


def _split(groups: list[dict[str, Any]], chosen: Callable[[nn.Parameter], bool]) -> tuple[list[dict], list[dict]]:
    """The groups with the chosen parameters, and those with the others; none of them empty."""
    parts: tuple[list[dict], list[dict]] = ([], [])
    for group in groups:
        for part, wanted in zip(parts, (True, False)):
            params = [p for p in group["params"] if chosen(p) == wanted]
            if params:
                part.append({**group, "params": params})
    return parts
