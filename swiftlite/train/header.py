"""What a run says before it spends anything: settings, model, data, one example, steps."""

import sys
from typing import Any

from swiftlite.chat.checks import check_encoding, show_example
from swiftlite.chat.encoded import Encoded
from swiftlite.chat.template import Template
from swiftlite.data.loading import Data
from swiftlite.measure.parameters import parameter_line
from swiftlite.train.config import SftConfig
from swiftlite.train.loop import Job

_CHECKED_ROWS = 20
_SHOWN_TOKENS = 300


def check_rows(data: Data, template: Template, tokenizer: Any) -> None:
    """Asserts on the first rows that something is trained, the stop token among it, and BOS is not doubled.

    Raises:
        UserError: the template or the data would train the wrong tokens.
    """
    for row in range(min(_CHECKED_ROWS, len(data.train))):
        check_encoding(template, _encoded(data, row), tokenizer)


def say_progress(dataset: str, rows: int) -> None:
    """Shows on a terminal how far tokenising is."""
    if sys.stderr.isatty():
        print(f"\r{dataset}: {rows:,} rows tokenised", end="", file=sys.stderr, flush=True)


def header_lines(
    config: SftConfig, notes: list[str], job: Job, data: Data, template: Template, tokenizer: Any
) -> list[str]:
    """The whole header, a line an entry."""
    return [
        *_settings(config),
        *notes,
        parameter_line(job.model),
        *_data(data, template, tokenizer),
        *_steps(config, job, data),
    ]


def _settings(config: SftConfig) -> list[str]:
    lines = [f"preset {config.general.preset}; settings given:"]
    for name, (value, source) in config.non_default().items():
        lines.append(f"  {name}: {value}" + ("" if source in ("flag", "python") else f"   ({source})"))
    return lines


def _data(data: Data, template: Template, tokenizer: Any) -> list[str]:
    color = sys.stdout.isatty()
    lines = []
    for source in data.report["sources"] + data.report["val_sources"]:
        lines.append(
            f"{source['dataset']}: {source['rows']} rows read, {source['kept']} kept, {source['truncated']} "
            f"truncated; tokens {source['line']} (cache {source['cache']})"
        )
        lines += [f"  dropped {d['count']}: {kind}" for kind, d in source["dropped"].items()]
    for split in ("train", "val"):
        part = data.report[split]
        if part:
            lines.append(
                f"{split}: {part['samples']} rows, {part['tokens']} tokens, {part['trained_tokens']:.0f} trained"
            )
    if data.report["in_train_and_val"]:
        lines.append(f"note: {data.report['in_train_and_val']} validation rows also stand in the training data")
    length = len(data.train[0][0])
    shown = "the first row"
    if length > _SHOWN_TOKENS:
        shown = f"the first {_SHOWN_TOKENS} of the first row's {length} tokens"
    lines.append(f"template {template.name}; {shown}:")
    return [*lines, show_example(_encoded(data, 0, _SHOWN_TOKENS), tokenizer, color=color)]


def _steps(config: SftConfig, job: Job, data: Data) -> list[str]:
    o = config.optim
    rows = o.batch_size * (o.gradient_accumulation_steps or 1) * job.strategy.world.size
    trained = data.train.trained.sum() / job.steps_per_epoch
    lines = [
        f"{job.total_steps} steps ({job.steps_per_epoch} an epoch) of {rows} rows: batch {o.batch_size} x "
        f"accumulation {o.gradient_accumulation_steps} x {job.strategy.world.size} device(s), about {trained:.0f} "
        f"trained tokens a step; learning rate {o.learning_rate:g}, {o.lr_scheduler_type}",
    ]
    going_on = f", going on after step {job.state.step}" if job.state.step else ""
    return [*lines, f"run folder {job.run}{going_on}"]


def _encoded(data: Data, row: int, limit: int | None = None) -> Encoded:
    ids, weights = data.train[row]
    return Encoded(ids[:limit].tolist(), weights[:limit].tolist())
