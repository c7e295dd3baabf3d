"""What fits into the device's memory: `--gradient_checkpointing auto` tries it out, and says what to do if nothing."""

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator

import numpy as np
import torch

from swiftlite.config.errors import UserError
from swiftlite.data.bins import BinDataset
from swiftlite.data.collate import Batch
from swiftlite.data.sampler import MicroBatch
from swiftlite.data.tokens import TokenizedDataset
from swiftlite.measure.memory import GIB, read_size
from swiftlite.models.device import device_name
from swiftlite.models.layers import find_layers
from swiftlite.models.modes import in_mode
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.speed.checkpointing import MEANINGS, apply_checkpointing
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.train.batches import Collator
from swiftlite.train.config import TrainConfig
from swiftlite.train.optimizer import resident_state_bytes

# Of the device: for fragments between tensors, and for what a step needs beside its batch.
_MARGIN = 0.05


def fit_checkpointing(
    config: TrainConfig,
    loss: LossModule,
    batch: Batch,
    strategy: SingleDevice,
    compile_model: Callable[[], str] | None,
    notes: list[str],
) -> None:
    """Compiles the layers, and turns `auto` into the fastest mode that fits, on the model and in `config`.

    On CUDA `batch` runs forward and backward, mode by mode; processes choose the same.
    Weights, gradients and random state stay as they were. Elsewhere nothing is tried, and nothing recomputed.

    Args:
        loss: the model with its loss, not wrapped.
        batch: the largest micro-batch there can be (`longest_batch`).
        compile_model: compiles the layers and returns a note; None where they are not to be compiled.
        notes: gets what was chosen and why, for the header.

    Raises:
        UserError: not even full checkpointing fits.
    """
    if config.optim.gradient_checkpointing != "auto":
        _compile(compile_model, strategy, notes)
        return
    tried: list[str] = []
    if strategy.device.type != "cuda":
        tried.append(f"memory is tried out on CUDA only, and this is {strategy.device.type}")
        _compile(compile_model, strategy, notes)
    modes = list(MEANINGS) if find_layers(loss.model) is not None else ["off"]
    if config.speed.offload_activations:
        modes.remove("off")
    for mode in modes:
        if strategy.device.type == "cuda":
            obstacle = _try(mode, config, loss, batch, strategy, compile_model, notes)
            if strategy.any(obstacle is not None):
                tried.append(f"{mode}: {obstacle or 'another process has no room'}")
                continue
        config.set("gradient_checkpointing", mode)
        why = "; ".join(tried) or "the longest batch fits"
        notes.append(f"checkpointing: {mode}, {MEANINGS[mode]} ({why})")
        return
    raise out_of_memory(config, strategy.device, f"before the first step ({'; '.join(tried)})")


@contextlib.contextmanager
def within_memory(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Around what happens before the first step: too little memory becomes one sentence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(config, device, "before the first step") from error
    except UserError as error:
        if isinstance(error.__cause__, torch.OutOfMemoryError) and config.speed.max_memory is not None:
            raise UserError(f"{error}, or more than --max_memory {config.speed.max_memory}") from error
        raise


def out_of_memory(config: TrainConfig, device: torch.device, when: str) -> UserError:
    """The sentence for a run that does not fit, with what would make it smaller."""
    optim = config.optim
    advice = [f"a smaller --batch_size (now {optim.batch_size}) with more --gradient_accumulation_steps"]
    if optim.gradient_checkpointing in ("off", "selective"):
        advice.append("--gradient_checkpointing full")
    advice.append(f"a shorter --max_length (now {config.data.max_length})")
    if config.speed.max_memory is not None:
        advice.append(f"more than --max_memory {config.speed.max_memory}")
    return UserError(f"out of memory on {device_name(device)} {when}; try {', '.join(advice)}")


def longest_batch(config: TrainConfig, collator: Collator) -> Batch:
    """The largest micro-batch the data can make, on the host; of a stream, rows as long as rows may be."""
    size = config.optim.batch_size
    if config.data.streaming and not isinstance(collator.dataset, BinDataset):
        # A block's last token is only predicted.
        length = config.data.max_length + (collator.layout.packing is not None)
        row = (np.zeros(length, np.int32), np.ones(length, np.float16))
        return collator.batch(TokenizedDataset.from_rows([row]), MicroBatch(np.zeros(size, np.int64)))
    longest = np.argsort(-collator.dataset.lengths, kind="stable")[:size]
    batch = collator.batch(collator.dataset, MicroBatch(longest))
    if batch.trained_positions is None:
        return batch
    # Another batch may be as long and train more of it.
    return dataclasses.replace(batch, trained_positions=torch.arange(batch.padded))


def _try(
    mode: str,
    config: TrainConfig,
    loss: LossModule,
    batch: Batch,
    strategy: SingleDevice,
    compile_model: Callable[[], str] | None,
    notes: list[str],
) -> str | None:
    """Why the mode does not fit, or None."""
    device = strategy.device
    parameters = [p for p in loss.parameters() if p.requires_grad]
    free, total = torch.cuda.mem_get_info(device)
    limit = min(free + torch.cuda.memory_reserved(device), total)
    if config.speed.max_memory is not None:
        limit = min(limit, read_size(config.speed.max_memory))
    torch.cuda.reset_peak_memory_stats(device)
    obstacle = None
    try:
        if mode != "off":
            apply_checkpointing(loss.model, mode)
        _compile(compile_model, strategy, notes)
        # With gradients of earlier micro-batches in memory if there will be any, or with none but the last weight's.
        repeats = 1 if (config.optim.gradient_accumulation_steps or 1) == 1 and strategy.world.size == 1 else 2
        probe(loss, batch.to(device), strategy, repeats, keep_gradients=not config.optim.optim_in_backward)
    except torch.OutOfMemoryError:
        obstacle = f"out of {limit / GIB:.1f} GiB"
    finally:
        for parameter in parameters:
            parameter.grad = None
    if obstacle is None:
        needed = torch.cuda.max_memory_allocated(device) + resident_state_bytes(config, loss.model)
        if needed > limit * (1 - _MARGIN):
            obstacle = f"needs {needed / GIB:.1f} of {limit / GIB:.1f} GiB and a margin of {_MARGIN:.0%}"
    # Frames of the failed pass hold its tensors until they are collected.
    gc.collect()
    torch.cuda.empty_cache()
    return obstacle


def _compile(compile_model: Callable[[], str] | None, strategy: SingleDevice, notes: list[str]) -> None:
    if compile_model is not None:
        with strategy.autocast():
            note = compile_model()
        # Of several modes tried, the last one's: they differ in how long it took.
        notes[:] = [*(n for n in notes if not n.startswith("layers:")), note]


def probe(loss: LossModule, batch: Batch, strategy: SingleDevice, repeats: int, *, keep_gradients: bool = True) -> None:
    """Forward and backward on a batch as the loop does it, `repeats` times; random state is put back.

    Leaves gradients behind, or with `keep_gradients=False` drops each once it is known.
    """
    device = strategy.device
    trained = [] if keep_gradients else [p for p in loss.parameters() if p.requires_grad]
    hooks = [p.register_post_accumulate_grad_hook(_drop_gradient) for p in trained]
    try:
        with in_mode(loss, training=True), torch.random.fork_rng([device] if device.type == "cuda" else []):
            for _ in range(repeats):
                with strategy.autocast():
                    total = loss(**loss_inputs(batch))
                total.backward()
    finally:
        for hook in hooks:
            hook.remove()


def _drop_gradient(parameter: torch.Tensor) -> None:
    parameter.grad = None
