"""Puts a run together: epochs into steps, optimizers, schedules, progress; and writes up what came of it."""

import gc
from pathlib import Path

import torch
from torch import nn

from swiftlite.config.errors import UserError
from swiftlite.data.loading import Samples
from swiftlite.measure.flops import model_flops
from swiftlite.measure.memory import reset_peak
from swiftlite.measure.peak import peak_flops
from swiftlite.measure.throughput import Meter
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.speed.loss import LossModule
from swiftlite.speed.step_in_backward import StepInBackward
from swiftlite.train.batches import Collator
from swiftlite.train.checkpoint import load_training_state, supersede_later
from swiftlite.train.config import TrainConfig
from swiftlite.train.fit import out_of_memory
from swiftlite.train.header import source_lines
from swiftlite.train.inputs import Inputs
from swiftlite.train.loop import Job, Loop
from swiftlite.train.optimizer import (
    build_optimizers,
    build_optimizers_by_weight,
    build_schedulers,
    go_on_training,
)
from swiftlite.train.plots import draw_plots
from swiftlite.train.profiling import ProfileReporter, steps_before_profile
from swiftlite.train.reporting import open_reporters, read_log
from swiftlite.train.result import TrainResult
from swiftlite.train.run_folder import RunFolder
from swiftlite.train.saving import WeightsWriter
from swiftlite.train.state import TrainState
from swiftlite.train.steps import count_steps, epoch_planner
from swiftlite.train.trackers import Reporter
from swiftlite.tuners.tuner import Tuner

_WARMUP_STEPS = 3


def build_job(
    config: TrainConfig,
    run: RunFolder,
    model: nn.Module,
    loss: LossModule,
    tuner: Tuner,
    inputs: Inputs,
    strategy: SingleDevice,
    save_weights: WeightsWriter,
    checkpoint: Path | None,
) -> Job:
    """Everything the loop needs; with a checkpoint, in the state it was saved in.

    Raises:
        UserError: the checkpoint belongs to another run, or the run is over already.
    """
    data = inputs.data
    forward = strategy.wrap(loss)
    steps_per_epoch, total_steps = count_steps(config, data, strategy.world.size)
    optimizers, in_backward = _optimizers(config, model, tuner, strategy.device)
    schedulers = build_schedulers(config.optim, optimizers, total_steps)
    for optimizer in optimizers:
        if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"]):
            # Weights that a tuner wakes later: nothing is updated, but their schedule sees that a step was taken.
            optimizer.step()
    tuner_state = None
    if checkpoint:
        state, tuner_state = load_training_state(checkpoint, optimizers, schedulers, strategy)
        _continue_from(checkpoint, run, state, total_steps, strategy)
    else:
        state = TrainState(world_size=strategy.world.size)
    go_on_training(optimizers)
    tuner.begin(model, optimizers, total_steps, lambda: state.step)
    if tuner_state:
        tuner.load_state_dict(model, tuner_state)
    eval_rows = config.run.eval_batch_size or config.optim.batch_size
    reset_peak(strategy.device)
    meter = Meter(model_flops(model), _peak_flops(strategy), strategy.world.size, warmup_steps=_WARMUP_STEPS)
    reporters = _open_reporters(config, run, state, total_steps, strategy, meter)
    return Job(
        config=config,
        run=run.path,
        model=model,
        loss=loss,
        forward=forward,
        strategy=strategy,
        optimizers=optimizers,
        schedulers=schedulers,
        train=make_collator(config, inputs, data.train, strategy.device, config.optim.batch_size),
        val=make_collator(config, inputs, data.val, strategy.device, eval_rows) if data.val else None,
        data=data,
        plan=epoch_planner(config, data, strategy.world.size, state),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        save_weights=save_weights,
        tuner=tuner,
        meter=meter,
        reporters=reporters,
        state=state,
        in_backward=in_backward,
    )


def _optimizers(
    config: TrainConfig, model: nn.Module, tuner: Tuner, device: torch.device
) -> tuple[list[torch.optim.Optimizer], StepInBackward | None]:
    """The optimizers, and what steps them where that is done in the backward pass."""
    o = config.optim
    assert o.learning_rate is not None
    groups = tuner.parameter_groups(model, o.learning_rate, o.weight_decay)
    if not o.optim_in_backward:
        return build_optimizers(config, model, groups, device), None
    by_weight = build_optimizers_by_weight(config, model, groups, device)
    return list(by_weight.values()), StepInBackward(by_weight)


def _continue_from(
    checkpoint: Path, run: RunFolder, state: TrainState, total_steps: int, strategy: SingleDevice
) -> None:
    """Moves what came after the checkpoint aside."""
    if state.step >= total_steps and (run.path / "final").is_dir():
        raise UserError(f"--resume {run.path}: it ended with step {state.step}; nothing is left to do")
    strategy.barrier()
    if strategy.world.is_main:
        supersede_later(run.path, checkpoint)


def _open_reporters(
    config: TrainConfig, run: RunFolder, state: TrainState, total_steps: int, strategy: SingleDevice, meter: Meter
) -> list[Reporter]:
    """Where the main process's numbers go, with `--profile` its profiler; none for the others."""
    profiled = config.run.profile
    before = steps_before_profile(profiled, state, total_steps) if profiled else None
    if not strategy.world.is_main:
        return []
    reporters = open_reporters(run.path, config.run.report_to, state.step, total_steps)
    if profiled and before:
        reporters.append(ProfileReporter(run.path, strategy.device, profiled, before, meter, reporters))
    elif profiled:
        reporters[1].message(f"note: --profile {profiled}: too few steps are left; nothing is profiled")
    return reporters


def make_collator(config: TrainConfig, inputs: Inputs, samples: Samples, device: torch.device, rows: int) -> Collator:
    """What makes batches of `rows` samples."""
    pad_id = inputs.tokenizer.pad_token_id
    return Collator(samples, config.data, pad_id if isinstance(pad_id, int) else 0, device, rows, inputs.data.packing)


def _peak_flops(strategy: SingleDevice) -> float | None:
    """The half-precision peak of one device; MFU means nothing against it in fp32."""
    if strategy.device.type != "cuda" or strategy.dtype == "fp32":
        return None
    return peak_flops(torch.cuda.get_device_name(strategy.device))


def run_job(job: Job) -> TrainResult:
    """Trains to the end or to a signal, then writes metrics.json and the plots."""
    loop = Loop(job)
    # All that was made so far stays to the end: Python need not look through it again and again.
    gc.collect()
    gc.freeze()
    try:
        exit_code = _run_within_memory(loop)
        metrics = loop.summary()
        if job.strategy.world.is_main:
            run = RunFolder(job.run)
            run.write_json("metrics.json", metrics)
            if job.data.stream is not None:
                run.write_json("data.json", job.data.report_at_end())
            draw_plots(read_log(job.run / "log.jsonl"), job.run / "plots")
            job.say(_closing_lines(job, metrics, exit_code))
    finally:
        gc.unfreeze()
        for reporter in job.reporters:
            reporter.close()
        if job.in_backward is not None:
            job.in_backward.close()
        job.strategy.close()
    return TrainResult(job.run, metrics, exit_code)


def _run_within_memory(loop: Loop) -> int:
    try:
        return loop.run()
    except torch.OutOfMemoryError as error:
        job = loop.job
        raise out_of_memory(job.config, job.strategy.device, f"after step {loop.state.step}") from error


def _closing_lines(job: Job, metrics: dict, exit_code: int) -> list[str]:
    rates = [
        f"{metrics[k]:,.2f} {k.replace('_per_s', '/s')}" for k in ("samples_per_s", "tokens_per_s") if k in metrics
    ]
    if "mfu" in metrics:
        rates.append(f"MFU {metrics['mfu']:.1%}")
    memory = [
        f"{k.removeprefix('peak_').removesuffix('_gib')} {v:.2f} GiB" for k, v in metrics.items() if k.endswith("_gib")
    ]
    lines = ["; ".join([*rates, "peak memory: " + ", ".join(memory)])]
    if job.data.stream is not None:
        lines += source_lines(job.data.report_at_end()["sources"])
    if metrics["best_step"] is not None:
        lines.append(f"best eval loss {metrics['best_eval_loss']:.4f} at step {metrics['best_step']}")
    if exit_code == 0:
        lines += [
            f"weights: {job.run / 'final'}; numbers and plots: {job.run}",
            f"next: swiftlite infer --ckpt_dir {job.run}",
        ]
    return lines
