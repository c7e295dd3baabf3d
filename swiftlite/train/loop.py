"""The training loop, top to bottom: batches in, optimizer steps out; logs, evaluations, checkpoints, an exact end."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swiftlite.data.loading import Data
from swiftlite.measure.memory import peak_memory
from swiftlite.measure.throughput import Counts, Meter
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.speed.loss import LossModule, loss_inputs
from swiftlite.speed.step_in_backward import StepInBackward
from swiftlite.train.batches import Collator, Plan, StepBatches, stream
from swiftlite.train.checkpoint import (
    delete_old,
    save_random_state,
    save_training_state,
    write_folder,
)
from swiftlite.train.config import TrainConfig
from swiftlite.train.evaluation import eval_loss, eval_record
from swiftlite.train.optimizer import averaged_weights, state_bytes
from swiftlite.train.readback import Arrival, Readback
from swiftlite.train.rehearsal import check_disk, checkpoint_bytes, rehearse_save
from swiftlite.train.saving import WeightsWriter
from swiftlite.train.signals import EXIT_CODES, StopRequest
from swiftlite.train.state import TrainState
from swiftlite.train.trackers import Reporter
from swiftlite.tuners.tuner import Tuner


@dataclasses.dataclass
class Job:
    """Everything a run is made of, ready to go.

    `model` is what is saved, `loss` the model with its loss behind it, `forward` the same as it is called in training
    (DDP wraps it); `save_weights(folder, final=...)` writes the model, its tokenizer and its card. With `in_backward`
    the optimizers step while gradients are computed, each its own weight.
    """

    config: TrainConfig
    run: Path
    model: nn.Module
    loss: LossModule
    forward: nn.Module
    strategy: SingleDevice
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[torch.optim.lr_scheduler.LRScheduler]
    train: Collator
    val: Collator | None
    data: Data
    plan: Callable[[int], Plan]
    steps_per_epoch: float
    total_steps: int
    save_weights: WeightsWriter
    tuner: Tuner
    meter: Meter
    reporters: list[Reporter]
    state: TrainState
    in_backward: StepInBackward | None = None

    def say(self, lines: list[str]) -> None:
        """Sentences for the user."""
        for reporter in self.reporters:
            reporter.message("\n".join(lines))


@dataclasses.dataclass(frozen=True)
class _LateLog:
    """A log line that waits for its losses, and the meter's counts at its step."""

    record: dict[str, Any]
    arrival: Arrival
    lap: Counts


class Loop:
    """Runs a job to its end, or to a signal."""

    def __init__(self, job: Job):
        self.job = job
        self.state = job.state
        self.makes_states = True
        self.parameters = _trainable(job.model)
        self._readback = Readback(job.state, job.strategy, job.run, job.config.optim.max_bad_steps)
        self._late_log: _LateLog | None = None
        # A CPU has computed by the time it has been asked to.
        self.logs_late = job.strategy.device.type != "cpu"
        self._last_eval: float | None = None
        self._saved_step = -1

    def run(self) -> int:
        """Trains; returns the exit code: 0 at the end, 143 or 130 after SIGTERM or Ctrl-C.

        Raises:
            UserError: too many steps in a row without finite gradients, or a checkpoint could not be written.
        """
        state, job = self.state, self.job
        if state.step == 0:
            self._rehearse()
        with StopRequest() as stop:
            while state.step < job.total_steps:
                plan = job.plan(state.epoch)
                for batches in stream(job.train, plan, state.cursor, job.strategy.world.rank):
                    self._train_step(batches)
                    end_of_epoch = state.cursor == plan.steps
                    if end_of_epoch:
                        state.epoch, state.cursor = state.epoch + 1, 0
                    if self._after_step(end_of_epoch):
                        return self._finish()
                    if state.step >= job.total_steps:
                        break
                    if self._must_stop(stop):
                        return self._stop(stop)
        return self._finish()

    def _rehearse(self) -> None:
        """Finds out now, not after hours, that a checkpoint would not fit or an evaluation would fail."""
        job, run = self.job, self.job.config.run
        with job.meter.pause():
            if job.strategy.world.is_main:
                adapter = job.tuner.saves_adapter
                states = 0 if run.save_only_model else state_bytes(job.config, job.model)
                size = checkpoint_bytes(job.model, adapter=adapter, optimizer_bytes=states)
                if run.save_strategy != "no":
                    check_disk(job.run, size, run.save_total_limit)
                rehearse_save(job.run, job.save_weights)
            job.strategy.barrier()
            if job.val is not None and run.eval_strategy != "no":
                self._eval_loss(job.val, only_first=True)

    def _train_step(self, batches: StepBatches) -> None:
        job, state = self.job, self.state
        started = time.perf_counter()
        if job.tuner.before_step(job.model, job.optimizers, state.step):
            self.makes_states = True
            self.parameters = _trainable(job.model)
            # DDP only reduces the gradients of what it saw to need one.
            job.forward = job.strategy.wrap(job.loss)
        job.forward.train()
        total = torch.zeros((), device=job.strategy.device)
        last = len(batches.micro_batches) - 1
        for i, batch in enumerate(batches.micro_batches):
            with job.strategy.micro_batch(last=i == last):
                loss = job.forward(**loss_inputs(batch)) / batches.denominator
                penalty = job.tuner.penalty(job.model) if i == last else None
                # Processes are summed.
                job.strategy.backward(loss if penalty is None else loss + penalty / job.strategy.world.size)
            total += loss.detach()
        if job.in_backward is None:
            norm = job.strategy.step(job.optimizers, self.parameters, job.config.optim.max_grad_norm)
        else:
            norm = job.in_backward.norm()
        if self.makes_states:
            # New optimizer states lie in holes that activations left, whose rest would be of no use.
            job.strategy.return_free_memory()
            self.makes_states = False
        for scheduler in job.schedulers:
            scheduler.step()
        self._readback.add(total, norm.detach())
        state.step += 1
        state.cursor += 1
        state.position = batches.position
        state.samples += batches.samples
        state.tokens += batches.tokens
        state.trained += batches.trained
        if job.meter.ends_warmup:
            job.strategy.wait()
        job.meter.add(
            batches.samples,
            batches.tokens,
            batches.trained,
            batches.padded * job.strategy.world.size,
            batches.squared_lengths,
        )
        # With this step queued, the device is busy while the host waits for the numbers of the one before.
        self._write_late_log()
        if not self.logs_late:
            self._read_pending()
        state.seconds += time.perf_counter() - started
        for reporter in job.reporters:
            reporter.step(state, job.total_steps)

    def _read_pending(self) -> None:
        """Waits for losses and norms of all steps so far, and counts the bad ones."""
        self._write_late_log()
        self._readback.count(self._readback.send())

    def _after_step(self, end_of_epoch: bool) -> bool:
        """Logs, evaluates and saves when it is time; True when early stopping says so."""
        state, run = self.state, self.job.config.run
        last = state.step >= self.job.total_steps
        if state.step % run.logging_steps == 0 or state.step == 1 or last:
            self._log()
        evaluate = last or _is_due(run.eval_strategy, state.step, run.eval_steps or run.save_steps, end_of_epoch)
        save = _is_due(run.save_strategy, state.step, run.save_steps, end_of_epoch)
        improved = evaluate and self._evaluate()
        if run.save_strategy != "no" and (improved or (save and not last)):
            self.save()
        patience = run.early_stopping_patience
        return patience is not None and state.stale_evals >= patience

    def _log(self) -> None:
        """Notes the log line of this step: on a GPU it is written a step later, so that nobody waits for its losses."""
        job, state = self.job, self.state
        record: dict[str, Any] = {
            "step": state.step,
            "epoch": round(state.epoch + state.cursor / job.steps_per_epoch, 6),
            "loss": math.nan,
            "grad_norm": math.nan,
            "learning_rate": job.schedulers[0].get_last_lr()[0],
            "samples": state.samples,
            "tokens": state.tokens,
            "trained_tokens": state.trained,
            "bad_steps": 0,
            "seconds": state.seconds,
        }
        record |= peak_memory(job.strategy.device).as_dict()
        self._late_log = _LateLog(record, self._readback.send(), job.meter.lap())
        if not self.logs_late:
            self._write_late_log()

    def _write_late_log(self) -> None:
        """Writes the line that `_log` noted, if it did; to be called before anything that waits or takes time."""
        if self._late_log is None:
            return
        late, self._late_log = self._late_log, None
        job, state = self.job, self.state
        self._readback.count(late.arrival)
        late.record["loss"] = sum(state.window) / len(state.window) if state.window else math.nan
        late.record["grad_norm"] = self._readback.last_norm
        late.record["bad_steps"] = state.bad_steps
        state.window = []
        record = late.record | job.meter.since_last_log(late.lap)
        for reporter in job.reporters:
            reporter.log(record)

    def _evaluate(self) -> bool:
        """Loss per trained token over the whole validation set; True when it is the best so far."""
        job, state = self.job, self.state
        if job.val is None or job.config.run.eval_strategy == "no":
            return False
        self._write_late_log()
        with job.meter.pause():
            started = time.perf_counter()
            loss = self._eval_loss(job.val)
            record = {
                "step": state.step,
                "epoch": round(state.epoch + state.cursor / job.steps_per_epoch, 6),
                **eval_record(loss, job.val, job.data.val_bytes),
                "eval_seconds": time.perf_counter() - started,
            }
        self._last_eval = loss
        improved = state.best_loss is None or loss < state.best_loss
        if improved:
            state.best_loss, state.best_step, state.stale_evals = loss, state.step, 0
        else:
            state.stale_evals += 1
        for reporter in job.reporters:
            reporter.log(record)
        return improved

    def _eval_loss(self, val: Collator, *, only_first: bool = False) -> float:
        job = self.job
        batch_size = job.config.run.eval_batch_size or job.config.optim.batch_size
        with averaged_weights(job.optimizers):
            return eval_loss(job.loss, val, job.strategy, batch_size, only_first=only_first)

    def save(self) -> Path:
        """Writes checkpoint-STEP, then deletes what the limit no longer keeps."""
        job, state = self.job, self.state
        target = job.run / f"checkpoint-{state.step}"
        if self._saved_step == state.step:
            return target
        self._read_pending()

        def write(folder: Path) -> None:
            job.save_weights(folder)
            if not job.config.run.save_only_model:
                tuner = job.tuner.state_dict(job.model)
                save_training_state(folder, state, job.optimizers, job.schedulers, job.strategy, tuner)

        with job.meter.pause(), averaged_weights(job.optimizers):
            write_folder(target, job.strategy, write, lambda folder: save_random_state(folder, job.strategy))
            if job.strategy.world.is_main:
                delete_old(job.run, job.config.run.save_total_limit, state.best_step)
        self._saved_step = state.step
        job.say([f"saved {target}"])
        return target

    def _must_stop(self, stop: StopRequest) -> bool:
        """Whether to stop for a signal; processes agree on it at log steps, where they wait for each other anyway."""
        strategy = self.job.strategy
        if strategy.world.size > 1 and self.state.step % self.job.config.run.logging_steps != 0:
            return False
        return strategy.any(stop.received is not None)

    def _stop(self, stop: StopRequest) -> int:
        number = stop.received or next(iter(EXIT_CODES))
        self._read_pending()
        if self.job.config.run.save_strategy != "no":
            self.save()
            where = f"go on with --resume {self.job.run}"
        else:
            where = "nothing was saved (--save_strategy no)"
        self.job.say([f"stopped by {number.name} after step {self.state.step}; {where}"])
        return EXIT_CODES[number]

    def _finish(self) -> int:
        self._read_pending()
        with self.job.meter.pause(), averaged_weights(self.job.optimizers):
            write_folder(
                self.job.run / "final", self.job.strategy, lambda folder: self.job.save_weights(folder, final=True)
            )
        return 0

    def summary(self) -> dict[str, Any]:
        """What metrics.json says of the run."""
        state = self.state
        return {
            "steps": state.step,
            "epochs": round(state.epoch + state.cursor / self.job.steps_per_epoch, 6),
            "samples": state.samples,
            "tokens": state.tokens,
            "trained_tokens": state.trained,
            "bad_steps": state.bad_steps,
            "eval_loss": self._last_eval,
            "best_eval_loss": state.best_loss,
            "best_step": state.best_step,
            **self.job.meter.total(),
            **peak_memory(self.job.strategy.device).as_dict(),
        }


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _is_due(strategy: str, step: int, every: int, end_of_epoch: bool) -> bool:
    return (strategy == "steps" and step % every == 0) or (strategy == "epoch" and end_of_epoch)
