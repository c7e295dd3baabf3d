"""What a run says before it spends anything: settings, model, data, one example, steps."""

import math
import sys
from typing import Any

from torch import nn

from swiftlite.chat.checks import show_example
from swiftlite.data.bins import WINDOW_ROWS, BinDataset
from swiftlite.data.loading import Data
from swiftlite.measure.parameters import parameter_line
from swiftlite.train.config import TrainConfig
from swiftlite.train.inputs import Inputs, encoded_row
from swiftlite.train.steps import count_steps

_SHOWN_TOKENS = 300


def header_lines(config: TrainConfig, notes: list[str], model: nn.Module, inputs: Inputs, world_size: int) -> list[str]:
    """The whole header, a line an entry."""
    return [
        *_settings(config),
        *notes,
        parameter_line(model),
        *_data(config, inputs, world_size),
        _steps(config, inputs, world_size),
    ]


def _settings(config: TrainConfig) -> list[str]:
    lines = [f"preset {config.general.preset}; settings given:"]
    for name, (value, source) in config.non_default().items():
        lines.append(f"  {name}: {value}" + ("" if source in ("flag", "python") else f"   ({source})"))
    return lines


def source_lines(sources: list[dict[str, Any]]) -> list[str]:
    """What became of the rows of each source of data.json."""
    lines = []
    for source in sources:
        lines.append(
            f"{source['dataset']}: {source['rows']} rows read, {source['kept']} kept, {source['truncated']} "
            f"truncated; tokens {source['line']} (cache {source['cache']})"
        )
        lines += [f"  dropped {d['count']}: {kind}" for kind, d in source["dropped"].items()]
        if source["untrained_turns"]:
            lines.append(f"  {source['untrained_turns']} answers are not trained: the template rewrites earlier turns")
        if source["special_in_text"]:
            lines.append(f"  {source['special_in_text']} control tokens typed into texts are read as plain text")
    return lines


def _data(config: TrainConfig, inputs: Inputs, world_size: int) -> list[str]:
    data = inputs.data
    color = sys.stdout.isatty()
    lines = source_lines(data.report["sources"] + data.report["val_sources"] + data.report["mix_sources"])
    if data.report["mix"]:
        mix = data.report["mix"]
        lines.append(f"mixed in: {mix['taken']} rows, {mix['ratio']:g} for each of the data set's own")
        if mix["taken"] < mix["wanted"]:
            lines.append(f"note: {mix['wanted']} rows were to be mixed in; there are no more than these")
    for split in ("train", "val"):
        part = data.report[split]
        if part:
            unit = "rows" if data.packing is None else "blocks"
            joined = f" of {part['documents']} documents" if "documents" in part else ""
            lines.append(
                f"{split}: {part['samples']} {unit}{joined}, {part['tokens']} tokens, "
                f"{part['trained_tokens']:.0f} trained"
            )
    if data.report["in_train_and_val"]:
        lines.append(f"note: {data.report['in_train_and_val']} validation rows also stand in the training data")
    if data.report["duplicates_in_train"]:
        lines.append(f"note: {data.report['duplicates_in_train']} training rows repeat another one word for word")
    if data.stream is not None:
        lines.append("streaming: later rows are read while training; their counts come at the end, in data.json")
        if data.val is None and config.data.split_dataset_ratio:
            lines.append("note: no rows are held out of a stream; --val_dataset names some to evaluate on")
    if data.packing is not None:
        apart = "do not see each other" if data.packing.isolated else "see those before them in the block"
        lines.append(f"packing: documents are joined and cut into blocks of {data.packing.length} tokens; they {apart}")
    if isinstance(data.train, BinDataset):
        lines.append(_bins(config, data.train, world_size))
    lines += [f"template: {note}" for note in inputs.template.notes]
    length = len(data.train[0][0])
    shown = f"the first {_unit(data)[:-1]}"
    if length > _SHOWN_TOKENS:
        shown = f"the first {_SHOWN_TOKENS} of {shown}'s {length} tokens"
    lines.append(f"template {inputs.template.name}; {shown}:")
    return [*lines, show_example(encoded_row(data, 0, _SHOWN_TOKENS), inputs.tokenizer, color=color)]


def _bins(config: TrainConfig, bins: BinDataset, world_size: int) -> str:
    o, about = config.optim, bins.describe()
    full = f"{about['fill']:.1%} full, {about['rows_in_a_bin']:.1f} rows a bin"
    step = o.batch_size * (o.gradient_accumulation_steps or 1) * world_size
    if config.data.streaming:
        return (
            f"packing: each {WINDOW_ROWS} rows that are read go into bins of {bins.capacity} tokens; those of the "
            f"first {about['rows']}: {full}; a step is {step} bins instead of {step} rows"
        )
    return (
        f"packing: {about['rows']} rows in {about['bins']} bins of {bins.capacity} tokens, {full}; steps an epoch: "
        f"{math.ceil(about['rows'] / step)} before, {math.ceil(about['bins'] / step)} now, of {step} bins instead of "
        f"{step} rows"
    )


def _unit(data: Data) -> str:
    if isinstance(data.train, BinDataset):
        return "bins"
    return "rows" if data.packing is None else "blocks"


def _steps(config: TrainConfig, inputs: Inputs, world_size: int) -> str:
    o = config.optim
    steps_per_epoch, total_steps = count_steps(config, inputs.data, world_size)
    rows = o.batch_size * (o.gradient_accumulation_steps or 1) * world_size
    # The mean over the epoch, whose last step is short; of a stream only the first rows are known.
    mean_rows = rows if math.isinf(steps_per_epoch) else len(inputs.data.train) / steps_per_epoch
    trained = inputs.data.train.trained.mean() * mean_rows
    an_epoch = "streamed" if math.isinf(steps_per_epoch) else f"{steps_per_epoch} an epoch"
    return (
        f"{total_steps} steps ({an_epoch}) of {rows} {_unit(inputs.data)}: batch {o.batch_size} x "
        f"accumulation {o.gradient_accumulation_steps} x {world_size} device(s), about {trained:.0f} "
        f"trained tokens a step; learning rate {o.learning_rate:g}, {o.lr_scheduler_type}"
    )
