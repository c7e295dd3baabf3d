"""Turns every `auto` into a value before the run starts, so that run.yaml repeats exactly this run."""

import math

import torch
from torch import nn
from transformers import PretrainedConfig

from swiftlite.config.errors import UserError
from swiftlite.measure.memory import grow_segments, limit_memory, read_size
from swiftlite.models.device import DTYPES, choose_device, choose_dtype, device_name
from swiftlite.parallel.launch import World
from swiftlite.quant.fp8 import fp8_obstacle
from swiftlite.speed.attention import choose_attention
from swiftlite.speed.varlen import NAME, varlen_obstacle
from swiftlite.train.config import PtConfig, TrainConfig
from swiftlite.train.optimizer import build_schedulers
from swiftlite.train.optimizer_needs import check_optimizer
from swiftlite.tuners.registry import find_tuner, refusal_of

_ROWS_PER_STEP = 16
# Parameters.
_WORTH_COMPILING = 300e6
# These keep joined rows apart by a mask of (total, total) places, which costs more than the padding that joining saves.
APART_BY_MASK = ("sdpa", "eager")


def decide(config: TrainConfig, world: World) -> tuple[torch.device, list[str]]:
    """Writes the decisions into `config`; returns the device and the reasons for the header.

    Raises:
        UserError: something asked for cannot run here.
    """
    config.check_support(world.size)
    device = choose_device(config.model, world.local_rank)
    if device.type == "cuda":
        grow_segments()
    dtype = choose_dtype(config.model, device)
    config.set("dtype", dtype)
    reasons = [f"{dtype} on {device_name(device)}"]
    config.set("gradient_accumulation_steps", _accumulation(config, world))
    if config.optim.learning_rate is None:
        config.set("learning_rate", _learning_rate(config))
    if config.optim.optim_precision == "auto":
        whole = isinstance(config, PtConfig) or dtype == "fp16"
        config.set("optim_precision", "fp32" if whole and find_tuner(config.tuner.sft_type).whole else "same")
    _decide_speed(config, device)
    if config.lora.lora_dtype == "auto":
        config.set("lora_dtype", "fp32")
    config.set("device", device.type)
    _decide_memory(config, device, reasons)
    check_optimizer(config, device, world.size, reasons)
    # A schedule that cannot be made is known before anything is loaded.
    build_schedulers(config.optim, [torch.optim.SGD([torch.zeros(1)], lr=1.0)], total_steps=10)
    if config.run.eval_steps is None:
        config.set("eval_steps", config.run.save_steps)
    if config.run.eval_batch_size is None:
        config.set("eval_batch_size", config.optim.batch_size)
    return device, reasons


def _decide_speed(config: TrainConfig, device: torch.device) -> None:
    speed, quant = config.speed, config.quant
    plain = speed.speed == "off"
    if speed.torch_compile is None and (device.type != "cuda" or plain or isinstance(config, PtConfig)):
        # Of other runs `decide_compile` knows more once the model is there.
        config.set("torch_compile", device.type == "cuda" and not plain)
    if speed.group_linears is None:
        # LISA trains layers that are frozen when they would be grouped.
        takes_turns = config.tuner.sft_type == "full" and config.lisa.lisa_activated_layers > 0
        config.set("group_linears", not plain and not takes_turns)
    if plain and speed.loss_impl == "auto":
        config.set("loss_impl", "plain")
    obstacle = fp8_obstacle(device, DTYPES[config.model.dtype])
    if speed.speed == "max" and "quant_method" not in config.sources:
        refused = refusal_of(config.tuner.sft_type, "fp8", config.to_dict()) is not None
        config.set("quant_method", "fp8" if device.type == "cuda" and obstacle is None and not refused else "none")
    if quant.quant_method == "fp8":
        if obstacle is not None:
            raise UserError(f"--quant_method fp8: {obstacle}; use --quant_method none, or bnb to save memory")
        if not speed.group_linears:
            raise UserError("--quant_method fp8 runs in grouped layers; leave --group_linears and --speed off away")


def decide_compile(config: TrainConfig, model: nn.Module, notes: list[str]) -> None:
    """Compiling takes one or two minutes, which a small model's fine-tuning may not last."""
    if config.speed.torch_compile is not None:
        return
    large = sum(parameter.numel() for parameter in model.parameters()) >= _WORTH_COMPILING
    config.set("torch_compile", large)
    if not large:
        notes.append("layers: not compiled (a model this small is soon trained; --torch_compile true does it)")


def _learning_rate(config: TrainConfig) -> float:
    if isinstance(config, PtConfig) and config.scratch.from_scratch:
        return 5e-4
    return 1e-5 if config.tuner.sft_type == "full" else 1e-4


def decide_attention(config: TrainConfig, device: torch.device, model: PretrainedConfig, notes: list[str]) -> None:
    """Writes the attention implementation for this model into `config`, and why into `notes`; and what it is good for.

    Raises:
        UserError: the one asked for cannot run here.
    """
    attention, why = choose_attention(config.model.attn_impl, device, config.model.dtype, model)
    config.set("attn_impl", attention)
    notes.append(f"attention: {attention} ({why})")
    if config.data.padding_free is None:
        apart_by_mask = attention in APART_BY_MASK or (
            attention == NAME and varlen_obstacle(device, DTYPES[config.model.dtype]) is not None
        )
        joins = device.type == "cuda" and not apart_by_mask and not config.data.packing
        config.set("padding_free", joins)


def _accumulation(config: TrainConfig, world: World) -> int:
    rows, wanted = config.optim.batch_size * world.size, config.optim.global_batch_size
    given = config.optim.gradient_accumulation_steps
    if wanted is None:
        return given or math.ceil(_ROWS_PER_STEP / rows)
    if given is not None and given * rows != wanted:
        raise UserError(
            f"--global_batch_size {wanted} and --gradient_accumulation_steps {given} disagree: {world.size} device(s) "
            f"x batch {config.optim.batch_size} x {given} are {given * rows} rows; leave one of them away"
        )
    if wanted % rows:
        raise UserError(
            f"--global_batch_size: {wanted} rows cannot be made of micro-batches of {config.optim.batch_size} on "
            f"{world.size} device(s); give a multiple of {rows}"
        )
    return wanted // rows


def _decide_memory(config: TrainConfig, device: torch.device, reasons: list[str]) -> None:
    if config.speed.offload_activations:
        if device.type != "cuda":
            raise UserError(
                f"--offload_activations true: only a CUDA device has memory of its own, and this is {device.type}"
            )
        reasons.append("activations: what checkpointed layers keep waits in host memory (--offload_activations)")
    wanted = config.speed.max_memory
    if wanted is None:
        return
    if device.type != "cuda":
        raise UserError(f"--max_memory {wanted}: only a CUDA device has such a limit, and this is {device.type}")
    try:
        limit_memory(read_size(wanted), device)
    except ValueError as error:
        raise UserError(f"--max_memory {wanted}: {error}; give less, or leave it away") from None
    reasons.append(f"memory: PyTorch may take {wanted} of the device (--max_memory)")


def make_repeatable(config: TrainConfig) -> None:
    """Seeds what is random; with `--deterministic`, also picks repeatable GPU kernels."""
    torch.manual_seed(config.general.seed)
    if config.optim.deterministic:
        import os

        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
