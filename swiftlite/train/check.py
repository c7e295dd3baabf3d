"""`swiftlite check`: all that a run says before it starts, and its checks, without loading weights."""

import dataclasses
from typing import ClassVar

import torch

from swiftlite.models.device import DTYPES
from swiftlite.models.dummy import build_dummy
from swiftlite.parallel.launch import World
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide, decide_attention
from swiftlite.train.header import header_lines
from swiftlite.train.inputs import read_inputs
from swiftlite.tuners.registry import make_tuner


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The report, line by line, and data.json's content."""

    lines: list[str]
    data: dict
    exit_code: ClassVar[int] = 0


def run_check(config: SftConfig) -> CheckResult:
    """Reads and tokenises the data, checks rows, template and settings, counts parameters on a weightless model.

    Raises:
        UserError: whatever would stop the run itself before its first step.
    """
    config.refuse_not_yet()
    world = World()
    device, notes = decide(config, world)
    inputs = read_inputs(config, world, None, notes)
    decide_attention(config, device, inputs.model_config, notes)
    model = build_dummy(inputs.model_config, DTYPES[config.model.dtype], torch.device("meta"), "eager", 0)
    if inputs.source.adapter is None:
        # Starts that decompose the weights need weights; the count does not depend on them.
        config.set("init_lora_weights", "false")
        tuner = make_tuner(config.tuner.sft_type, config)
        model = tuner.apply(model)
        notes += tuner.notes
    else:
        notes.append(f"goes on with the adapter {inputs.source.adapter}, which is not counted here")
    lines = header_lines(config, notes, model, inputs, world.size)
    lines.append("ready: the same settings with `swiftlite sft` start the run")
    print("\n".join(lines))
    return CheckResult(lines, inputs.data.report)
