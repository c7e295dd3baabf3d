"""The way of one training run: settings, inputs (model, rows), tuner, loss, strategy, loop, run folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from swiftlite.data.collate import Batch
from swiftlite.parallel.launch import World, read_world
from swiftlite.parallel.strategy import make_strategy
from swiftlite.speed.compile import compile_layers
from swiftlite.speed.linears import speed_up_linears
from swiftlite.speed.loss import LossModule, choose_loss, loss_inputs
from swiftlite.train.config import TrainConfig
from swiftlite.train.decide import decide, decide_attention, decide_compile, make_repeatable
from swiftlite.train.fit import fit_checkpointing, longest_batch, within_memory
from swiftlite.train.header import header_lines
from swiftlite.train.inputs import Inputs
from swiftlite.train.job import build_job, make_collator, run_job
from swiftlite.train.model import load_trainable
from swiftlite.train.result import TrainResult
from swiftlite.train.resume import check_same_data, resume_run
from swiftlite.train.run_folder import start_run
from swiftlite.train.saving import WeightsWriter
from swiftlite.tuners.neftune import add_noise

C = TypeVar("C", bound=TrainConfig)
ReadInputs = Callable[[C, World, Path | None, list[str]], Inputs]


def run_training(config: C, read_inputs: ReadInputs[C]) -> TrainResult:
    """Trains what `config` says on what `read_inputs` reads; returns the run's folder, its metrics and the exit code.

    Raises:
        UserError: anything a user can mend; checkpoints saved before stay as they are.
    """
    config.refuse_not_yet()
    world = read_world()
    config, run, checkpoint = resume_run(config) if config.run.resume else (config, None, None)
    device, notes = decide(config, world)
    make_repeatable(config)
    inputs = read_inputs(config, world, checkpoint, notes)
    if run is not None:
        check_same_data(run.path, inputs.data.report)
    decide_attention(config, device, inputs.model_config, notes)

    strategy = make_strategy(device, config.model.dtype, world)
    with within_memory(config, device):
        model, tuner = load_trainable(config, inputs, checkpoint, device, notes)
        with strategy.autocast():
            if config.speed.group_linears:
                quant = config.quant
                notes += speed_up_linears(
                    model, quant_method=quant.quant_method, copies=quant.fp8_copies, first=quant.fp8_from_layer
                )
            loss = choose_loss(model, config.speed.loss_impl, notes)
        tuner.watch(loss)
        add_noise(loss, config.tuner.neftune_noise_alpha)
        rows = make_collator(config, inputs, inputs.data.train, device, config.optim.batch_size)
        longest = longest_batch(config, rows)
        compiles = None
        decide_compile(config, model, notes)
        if config.speed.torch_compile:
            trial = partial(_loss_of, loss, longest, device)
            # Blocks and bins make batches of one shape.
            compiles = partial(compile_layers, model, dynamic=not config.data.packing, trial=trial)
        fit_checkpointing(config, loss, longest, strategy, compiles, notes)
    run = run or start_run(config, inputs.source.name, inputs.data.report, strategy)
    writer = WeightsWriter(config, model, tuner, inputs)
    job = build_job(config, run, model, loss, tuner, inputs, strategy, writer, checkpoint)
    job.say(header_lines(config, notes, model, inputs, world.size))
    job.say([f"run folder {run.path}" + (f", going on after step {job.state.step}" if checkpoint else "")])
    return run_job(job)


def _loss_of(loss: LossModule, batch: Batch, device: torch.device) -> torch.Tensor:
    return loss(**loss_inputs(batch.to(device)))
